"""The doctor on this host, and on hosts that lack something: each line that it says mends a thing is carried out, and mends it."""

from __future__ import annotations

import glob
import json
import os
import shlex
import subprocess
from typing import Any

import pytest
from containers import DOLIUM, NOBODY, Dolium, wait_for
from networks import Site

IDS = {"kernel", "machine", "calls", "features", "helpers", "memfd", "open-files", "namespaces", "hidden-proc", "outer",
       "state-directory", "store", "room", "own-users", "cgroup-memory", "cgroup-cpu", "cgroup-cpuset", "cgroup-pids", "cgroup-devices",
       "capabilities",
       "sys-resource", "bridge", "way-out", "oci", "python", "leftovers", "trial-containers"}  # fmt: skip
"""Other programs may rely on them."""


def told(user: Dolium, *words: str) -> dict[str, Any]:
    ended = user("doctor", "--json", *words)
    assert ended.stderr == "", ended
    return {each["id"]: each for each in json.loads(ended.stdout)}


def test_this_host(dolium: Dolium) -> None:
    ended = dolium("doctor")
    assert (ended.code, ended.stderr) == (0, ""), ended
    assert "  yes   run containers as " + ("root" if os.geteuid() == 0 else "you") in ended.stdout
    found = told(dolium)
    assert set(found) >= IDS
    assert all(set(each) == {"id", "job", "ok", "found", "breaks", "mend"} for each in found.values())
    assert found["trial-containers"]["ok"]
    everything = dolium("doctor", "-v").stdout
    assert all(f" {name}" in everything for name in found if not name.startswith("trial-"))
    for name in (next(name for name in found if found[name]["ok"] == well) for well in {each["ok"] for each in found.values()}):
        assert dolium("doctor", name).code == (0 if found[name]["ok"] else 1), name
    assert all(found[name]["ok"] for name in found if name.startswith("trial-")), found
    assert found["oci"]["ok"] or found["oci"]["found"].startswith("not yet")


def test_a_plain_user(plain: Dolium) -> None:
    trials = f"/var/tmp/dolium-{plain.uid}/doctor-*"  # overlayfs leaves a directory there which its owner cannot read
    before = glob.glob(trials)
    ended = plain("doctor")
    assert {*glob.glob(trials)} <= {*before}
    assert ended.code == 0 and "  yes   run containers as you" in ended.stdout and "  NO    ... on a network" in ended.stdout
    assert {"userns", "apparmor-userns"} <= set(told(plain))


def test_the_library_says_the_same(dolium: Dolium) -> None:
    import dolium as library

    assert [each["id"] for each in library.doctor()] == [*told(dolium)]


def test_questions_that_make_no_sense(dolium: Dolium) -> None:
    for words, said in ((["memdf"], "did you mean `memfd`?"), (["something-else"], "one of kernel, "), (["a", "b"], "one word too many")):
        ended = dolium("doctor", *words)
        assert ended.code == 125 and said in ended.stderr, ended


def script(before: str, line: str, who: tuple[str, ...] = ()) -> str:
    """Break something, ask the doctor, carry out that line, ask again."""
    look = " ".join([*who, DOLIUM, "doctor", "--json"])
    return f"{before}; {look}; echo ,; {line} >/dev/null; {look}"


def said(output: str) -> tuple[list[Any], list[Any]]:
    """What the doctor said before and after."""
    first, _, second = output.partition("\n,\n")
    return json.loads(first), json.loads(second)


def of(found: list[Any], name: str) -> Any:
    return next(each for each in found if each["id"] == name)


@pytest.mark.needs_root
def test_memfd_noexec() -> None:
    """vm.memfd_noexec is a setting of the PID namespace, pid_namespaces(7)."""
    if not os.path.exists("/proc/sys/vm/memfd_noexec"):
        pytest.skip("Linux before 6.3 has no vm.memfd_noexec")
    line = "sysctl -w vm.memfd_noexec=1"
    within = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", script("sysctl -qw vm.memfd_noexec=2", line)]
    before, after = said(subprocess.run(within, capture_output=True, text=True).stdout)
    assert of(before, "memfd")["mend"] == line and not of(before, "memfd")["ok"] and of(before, "trial-containers")["ok"]
    assert of(after, "memfd")["ok"] and of(after, "trial-containers")["ok"]


@pytest.mark.needs_root
@pytest.mark.parametrize(("check", "setting", "enough"), [("userns", "user.max_user_namespaces", 15000), ("namespaces", "user.max_net_namespaces", 1024)])
def test_no_namespaces(plain: Dolium, check: str, setting: str, enough: int) -> None:
    """user.max_*_namespaces are settings of the user namespace."""
    line = f"sysctl -w {setting}={enough}"
    who = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "env", "-u", "XDG_RUNTIME_DIR")
    inside = f"read mapped; exec sh -c {shlex.quote(script(f'sysctl -qw {setting}=0', line, who))}"
    own = os.readlink("/proc/self/ns/user")
    with subprocess.Popen(["unshare", "--user", "sh", "-c", inside], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        wait_for(lambda: os.readlink(f"/proc/{process.pid}/ns/user") != own)
        for each in ("uid_map", "gid_map"):
            with open(f"/proc/{process.pid}/{each}", "w") as file:
                file.write("0 0 65536")
        before, after = said(process.communicate("go\n")[0])
    assert of(before, check)["mend"] == "sudo " + line and not of(before, check)["ok"] and not of(before, "trial-containers")["ok"]
    assert of(after, check)["ok"] and of(after, "trial-containers")["ok"]


def test_a_firewall_in_the_way(site: Site) -> None:
    site.sh("nft add table inet strict; nft 'add chain inet strict gate { type filter hook forward priority 0; policy drop; }'")
    found = told(site)["bridge"]
    assert not found["ok"] and "`inet strict gate`" in found["found"], found
    site.sh("ip link add dolium0 type bridge")
    site.sh(found["mend"])
    site.sh("ip link del dolium0")
    assert told(site)["bridge"]["ok"]
    assert not site.links(), "the doctor makes no bridge"
