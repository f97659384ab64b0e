"""What the doctor makes of what it finds."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from containers import TOP
from invent import facts

from dolium.plan import mends
from dolium.plan.capabilities import NUMBERS
from dolium.plan.checks import JOBS, LIMITS, Check, works
from dolium.plan.findings import CALLS, Findings, Place
from dolium.plan.verdicts import checks

EINVAL, EPERM, ENOSYS = 22, 1, 38
PLAIN = facts(uid=1000, gid=1000, rootless=True)
V2 = {"memory": "v2", "cpu": "v2", "cpuset": "v2", "pids": "v2"}


def findings(**fields: Any) -> Findings:
    """A host on which all is well, but for these fields."""
    found = Findings(fields.pop("facts", facts()))
    found.calls = dict.fromkeys(CALLS, EINVAL)
    found.trials = {"containers": ("", "")}
    found.network, found.oci, found.program, found.bound, found.cgroup2 = ("", ""), ("/usr/bin/dolium-oci", ""), "/usr/bin/dolium", V2, "/sys/fs/cgroup"
    found.top = "/srv/dolium"
    found.facts.filters = {}
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def examined(found: Findings) -> dict[str, Check]:
    made = checks(found)
    ids = [each.id for each in made]
    assert len(ids) == len(set(ids)), "an id means one check"
    assert all(each.job in {"", *JOBS} for each in made)
    assert all(each.found and "\n" not in each.found + each.mend + each.breaks for each in made)
    assert all(each.breaks for each in made if not each.ok)
    for each in made:
        assert not each.mend or subprocess.run(["sh", "-n", "-c", each.mend], capture_output=True).returncode == 0, each.mend
    return {each.id: each for each in made}


@pytest.mark.parametrize("rootless", [False, True])
def test_a_host_on_which_all_is_well(rootless: bool) -> None:
    found = examined(findings(facts=PLAIN if rootless else facts()))
    wrong = {name for name, each in found.items() if not each.ok}
    assert wrong == ({"bridge", "cgroup-devices"} if rootless else set())
    jobs = [job for job in JOBS if not works(job, list(found.values()))]
    assert jobs == (["devices", "bridge"] if rootless else [])


FAILED = {"trials": {"containers": ("it was refused", "ask again")}}


@pytest.mark.parametrize(("fields", "wrong", "mend"), [
    ({"facts": facts(kernel=(5, 4))}, "kernel", ""),
    ({"facts": facts(machine="aarch64")}, "machine", ""),
    ({"calls": {**dict.fromkeys(CALLS, EINVAL), "openat2": ENOSYS}}, "calls", ""),
    ({"calls": {**dict.fromkeys(CALLS, EINVAL), "unshare": EPERM}, "filtered": True, "outer": "Docker"}, "calls", mends.OUTER["Docker"]),
    ({"lacking": ("the file system overlay",)}, "features", "modprobe overlay"),
    ({"lacking": ("user namespaces", "the file system overlay")}, "features", ""),
    ({"helpers": ("dolium-init",)}, "helpers", "make -C /srv/dolium"),
    ({"files": (40, 4096)}, "open-files", "ulimit -n 1024"), ({"files": (40, 100)}, "open-files", "ulimit -n 100"),
    ({"files": (40, 40)}, "open-files", ""),
    ({"sysctls": {"user.max_net_namespaces": "0", "user.max_uts_namespaces": "1", "user.max_pid_namespaces": "99"}}, "namespaces",
     "sysctl -w user.max_net_namespaces=1024 user.max_uts_namespaces=1024"),
    ({"facts": PLAIN, "sysctls": {"user.max_user_namespaces": "0"}}, "userns", "sudo sysctl -w user.max_user_namespaces=15000"),
    ({"facts": PLAIN, "sysctls": {"kernel.unprivileged_userns_clone": "0"}}, "userns", "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
    ({"facts": PLAIN, "sysctls": {"kernel.apparmor_restrict_unprivileged_userns": "1"}, **FAILED}, "apparmor-userns",
     mends.apparmor("/usr/bin/dolium")),
    ({"hidden": ("/proc/keys", "/proc/a b"), **FAILED}, "hidden-proc", "umount -l /proc/keys '/proc/a b'"),
    ({"outer": "Docker", **FAILED}, "outer", mends.OUTER["Docker"]), ({"outer": "something new", **FAILED}, "outer", ""),
    ({"state": Place("/run/dolium", owner=0, mode=0o755)}, "state-directory", "chmod 700 /run/dolium"),
    ({"data": Place("/var/lib/dolium", owner=5)}, "state-directory", "chown 0 /var/lib/dolium && chmod 700 /var/lib/dolium"),
    ({"facts": PLAIN, "state": Place("/tmp/dolium-1000", owner=5)}, "state-directory", "export XDG_RUNTIME_DIR=$(mktemp -d)"),
    ({"facts": PLAIN, "state": Place("/run/user/1000", writable=False)}, "state-directory", "export XDG_RUNTIME_DIR=$(mktemp -d)"),
    (FAILED, "trial-containers", ""),
])  # fmt: skip
def test_what_keeps_everything_from_working(fields: dict[str, Any], wrong: str, mend: str) -> None:
    made = examined(findings(**fields))
    assert (made[wrong].ok, made[wrong].mend) == (False, mend) and made[wrong].breaks
    assert not any(works(job, list(made.values())) for job in JOBS)


def test_what_looks_wrong_and_works() -> None:
    """A container that ran has the last word."""
    made = examined(findings(facts=PLAIN, hidden=("/proc/keys",), sysctls={"kernel.apparmor_restrict_unprivileged_userns": "1"},
                             trials={"containers": ("", ""), "kept": ("", "")}, data=Place("/x", kind="overlay")))  # fmt: skip
    assert all(made[each].ok for each in ("hidden-proc", "apparmor-userns", "store"))


@pytest.mark.parametrize(("cgroups", "missing"), [("none", {*LIMITS}), ("counting", {*LIMITS}),
                                                  ("v1", set()), ("hybrid", set()), ("v2", set())])  # fmt: skip
def test_limits(cgroups: str, missing: set[str]) -> None:
    made = examined(findings(facts=facts(cgroups)))
    assert {job for job in JOBS if not works(job, list(made.values()))} == missing
    for job in missing - {"devices"}:
        assert (made[f"cgroup-{job}"].found, made[f"cgroup-{job}"].mend) == ("it is not there", "boot with it")


def test_root_of_a_user_namespace_is_not_sent_for_more_privilege() -> None:
    """With which it would still be root of a user namespace: no bridge and no device filter."""
    here = facts("none", rootless=True)
    here.is_root = True
    made = examined(findings(facts=here, outer="Docker"))
    assert [made[each].mend for each in ("bridge", "cgroup-devices")] == ["", ""]
    assert "CAP_SYS_ADMIN" not in made["outer"].found and made["cgroup-memory"].mend == mends.OUTER["Docker"]


USER = {"uid": 1000, "gid": 1000, "rootless": True}


@pytest.mark.parametrize(("fields", "found", "mend"), [
    ({"bound": {"memory": "off"}}, "switched off", ""),
    ({"bound": {"memory": "v1"}}, "not mounted", mends.mount_controller("memory")),
    ({"bound": {"memory": "v1"}, "cgroup1": {"memory": ("/sys/fs/cgroup/memory", False)}}, "read-only",
     "mount -o remount,bind,rw /sys/fs/cgroup/memory"),
    ({"cgroup2": ""}, "cgroup v2 is not mounted", mends.mount_unified()),
    ({"facts": facts("none", **USER), "cgroup2": ""}, "cgroup v2 is not mounted", "sudo " + mends.mount_unified()),
    ({"facts": facts("none", **USER), "bound": {"memory": "v1"}}, "only root may use",
     "sudo dolium run --memory 64m --cpus 0.5 --cpuset-cpus 0 --pids-limit 100 @host sh"),
    ({"facts": facts("none", **USER)}, "it is not there", mends.own_group("/sys/fs/cgroup", 1000, 1000)),
    ({"facts": facts("none", **USER), "systemd": True, "session": True}, "it is not there", mends.session()),
    ({"facts": facts("counting", **USER), "systemd": True, "session": True}, "your own cgroup", mends.delegation()),
    ({"facts": facts("none", rootless=True), "outer": "Podman"}, "without CAP_SYS_ADMIN", mends.OUTER["Podman"]),
    ({"facts": facts("none", **USER, capabilities=0), "bound": {"memory": "v1"}, "outer": "Docker"}, "only root may use", mends.OUTER["Docker"]),
    ({"bound": {}}, "it is not there", "boot with it"),
])  # fmt: skip
def test_why_there_is_no_limit(fields: dict[str, Any], found: str, mend: str) -> None:
    fields.setdefault("facts", facts("none"))
    made = examined(findings(**fields))["cgroup-memory"]
    assert not made.ok and found in made.found and made.mend == mend, made.fields()


@pytest.mark.parametrize(("fields", "ok"), [({}, True), ({"kernel": (5, 13)}, False), ({"exempt": True, "uid": 0}, False)])
def test_processes_without_a_cgroup(fields: dict[str, Any], ok: bool) -> None:
    """What a plain user's containers are limited by is no cgroup, decisions/0007."""
    made = examined(findings(facts=facts("none", **USER | fields)))
    assert made["cgroup-pids"].ok == ok == works("pids", list(made.values())) and not made["cgroup-memory"].ok


def test_a_network_that_cannot_be_had() -> None:
    made = examined(findings(network=("there is no nft(8)", mends.install(("apk", "apt-get"), "nftables")), way_out=False))
    assert (made["bridge"].found, made["bridge"].mend) == ("there is no nft(8)", "apt-get install -y nftables")
    assert not works("bridge", list(made.values())) and works("containers", list(made.values()))
    assert not made["way-out"].ok and not made["way-out"].job
    assert "Docker" in examined(findings(firewalls=("Docker",)))["bridge"].found
    assert mends.install((), "nftables") == ""


def test_what_is_only_worth_knowing_keeps_nothing_from_working() -> None:
    weak = sum(1 << each for name, each in NUMBERS.items() if name not in ("CAP_SYS_RESOURCE", "CAP_NET_RAW"))
    made = examined(findings(facts=facts(kernel=(5, 15), capabilities=weak), outer="Docker", filtered=True, leftovers=2, closed=("/root",),
                             sysctls={"vm.memfd_noexec": "2"},
                             data=Place("/var/lib/dolium", free=5 << 20)))  # fmt: skip
    wrong = {name for name, each in made.items() if not each.ok}
    assert wrong == {"own-users", "sys-resource", "capabilities", "outer", "leftovers", "python", "room", "memfd"}
    assert made["memfd"].mend == "sysctl -w vm.memfd_noexec=1"
    assert "NET_RAW" in made["capabilities"].found and made["python"].mend == "chmod o+x /root"
    assert all(works(job, list(made.values())) for job in JOBS)


def test_a_store_that_cannot_hold_what_is_kept() -> None:
    made = examined(findings(data=Place("/var/lib/dolium", kind="overlay"), trials={"containers": ("", ""), "kept": ("EINVAL", "")}))
    assert made["store"].mend == "mkdir -p /var/lib/dolium && mount -t tmpfs -o mode=700 dolium /var/lib/dolium"
    assert not works("kept", list(made.values())) and works("containers", list(made.values()))
    plain = examined(findings(facts=PLAIN, data=Place("/home/a", kind="nfs"), room="/var/tmp/dolium-data-1000"))
    assert plain["store"].mend == "mkdir -p -m 700 /var/tmp/dolium-data-1000 && export XDG_DATA_HOME=/var/tmp/dolium-data-1000"


def test_a_path_that_a_profile_cannot_hold() -> None:
    assert mends.apparmor('/srv/a"b') == "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
    assert "100%% /bin" in mends.apparmor("/srv/100% /bin")


def test_hints_name_checks_that_exist() -> None:
    known = {*examined(findings()), *examined(findings(facts=PLAIN))}
    named = set()
    for path in (Path(TOP) / "src" / "dolium").rglob("*.py"):
        named |= set(re.findall(r"`dolium doctor ([a-z{}][a-z{}-]*)`", path.read_text()))
    assert len(named) > 5
    assert {each for each in named if "{" not in each} <= known
    assert {each for each in named if "{" in each} == {"cgroup-{controller}"}
