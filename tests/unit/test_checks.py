"""What the doctor makes of what it finds."""

from __future__ import annotations

from typing import Any

import pytest
from invent import facts

from dolium.plan.checks import JOBS, Check, Findings, checks, works


def examined(found: Findings) -> dict[str, Check]:
    made = checks(found)
    ids = [each.id for each in made]
    assert len(ids) == len(set(ids)), "an id means one check"
    assert all(each.job in {"", *JOBS} for each in made)
    assert all(each.found and "\n" not in each.found + each.mend for each in made)
    return {each.id: each for each in made}


@pytest.mark.parametrize("rootless", [False, True])
def test_a_host_on_which_all_is_well(rootless: bool) -> None:
    found = examined(Findings(facts(uid=1000 if rootless else 0, rootless=rootless), trials={"containers": ("", "")}, network=("", "")))
    wrong = {name for name, each in found.items() if not each.ok}
    assert wrong == ({"bridge", "cgroup-devices"} if rootless else set())
    jobs = [job for job in JOBS if not works(job, list(found.values()))]
    assert jobs == (["devices", "bridge"] if rootless else [])


@pytest.mark.parametrize(("fields", "wrong", "mend"), [
    ({"facts": facts(kernel=(5, 4))}, "kernel", ""),
    ({"facts": facts(machine="aarch64")}, "machine", ""),
    ({"facts": facts(uid=1000, rootless=True), "sysctls": {"user.max_user_namespaces": "0"}}, "userns",
     "sudo sysctl -w user.max_user_namespaces=15000"),
    ({"facts": facts(uid=1000, rootless=True), "sysctls": {"kernel.unprivileged_userns_clone": "0"}}, "userns",
     "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    ({"facts": facts(uid=1000, rootless=True), "sysctls": {"kernel.apparmor_restrict_unprivileged_userns": "1"}}, "apparmor-userns",
     "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
    ({"trials": {"containers": ("it was refused", "ask again")}}, "trial-containers", "ask again"),
])  # fmt: skip
def test_what_keeps_everything_from_working(fields: dict[str, Any], wrong: str, mend: str) -> None:
    made = examined(Findings(fields.pop("facts", facts()), **fields))
    assert (made[wrong].ok, made[wrong].mend) == (False, mend) and made[wrong].breaks
    assert not any(works(job, list(made.values())) for job in JOBS)


@pytest.mark.parametrize(("cgroups", "missing"), [("none", {"memory", "cpu", "cpuset", "pids", "devices"}), ("counting", {"memory", "cpu", "cpuset", "pids", "devices"}),
                                                  ("v1", set()), ("hybrid", set()), ("v2", set())])  # fmt: skip
def test_limits(cgroups: str, missing: set[str]) -> None:
    made = examined(Findings(facts(cgroups), network=("", "")))
    assert {job for job in JOBS if not works(job, list(made.values()))} == missing
    for job in missing - {"devices"}:
        assert (made[f"cgroup-{job}"].found, made[f"cgroup-{job}"].mend) == ("it is not there", "boot with it")


def test_a_network_that_cannot_be_had() -> None:
    made = examined(Findings(facts(), network=("there is no nft(8)", "apt install nftables"), way_out=False))
    assert (made["bridge"].found, made["bridge"].mend) == ("there is no nft(8)", "apt install nftables")
    assert not works("bridge", list(made.values())) and works("containers", list(made.values()))
    assert not made["way-out"].ok and not made["way-out"].job


def test_what_is_only_worth_knowing_keeps_nothing_from_working() -> None:
    settings = {"vm.memfd_noexec": "2"}
    made = examined(Findings(facts(kernel=(5, 15), capabilities=0), outer="Docker", leftovers=2, network=("", ""), sysctls=settings))
    assert {name for name, each in made.items() if not each.ok} == {"own-users", "sys-resource", "outer", "leftovers", "memfd"}
    assert made["memfd"].mend == "sysctl -w vm.memfd_noexec=1"
    assert all(works(job, list(made.values())) for job in JOBS)
