"""A plain user with a cgroup v2 that was delegated to him, as systemd gives one to each session: limits hold there without root.
Each test is named after its rule.  Root makes the group and gives it away; a plain user has to have one, else none is run."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from bundles import PLAIN, RUNTIME, Bundle, config, scratch, script, wait_for
from containers import NOBODY

MIB = 1 << 20
TOP = "/sys/fs/cgroup"
USER = os.geteuid() or NOBODY


def read(path: str) -> str:
    with open(path) as file:
        return file.read().strip()


def give(group: str) -> None:
    """cgroups(7), "Cgroup delegation\""""
    os.mkdir(group)
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(f"{group}/{name}", NOBODY, -1)


def enter(group: str, pid: int | str) -> None:
    with open(f"{group}/cgroup.procs", "w") as file:
        file.write(str(pid))


def own_group() -> str:
    path = next((line[3:] for line in read("/proc/self/cgroup").splitlines() if line.startswith("0::")), "/")
    return path.removesuffix("/tests")


@pytest.fixture(scope="module")
def delegated() -> Iterator[str]:
    """His group, as the kernel names it, without processes of its own: those are in `tests` below it."""
    if not os.path.exists(f"{TOP}/cgroup.controllers"):
        pytest.skip("cgroup v2 alone can be delegated")
    given = not os.geteuid()
    path = f"/given-{os.getpid()}" if given else own_group()
    if not given and not os.access(f"{TOP}{path}/cgroup.procs", os.W_OK):
        pytest.skip("not a plain user with a delegated cgroup of v2")
    if missing := {"cpu", "memory", "pids"} - {*read(f"{TOP}/cgroup.subtree_control" if given else f"{TOP}{path}/cgroup.controllers").split()}:
        pytest.skip(f"without {', '.join(sorted(missing))}")
    here = f"{TOP}{path}/tests"
    if not given:
        os.makedirs(here, exist_ok=True)
        for pid in read(f"{TOP}{path}/cgroup.procs").split():
            enter(here, pid)
        yield path
        return
    give(f"{TOP}{path}")
    give(here)
    with subprocess.Popen(["sleep", "infinity"]) as shell:  # who calls is not alone there
        enter(here, shell.pid)
        yield path
        shell.kill()
    os.rmdir(here)
    os.rmdir(f"{TOP}{path}")


@pytest.fixture
def outside(own_alpine: str) -> Iterator[Bundle]:
    """A bundle of his, with the runtime called from a group that is not."""
    path = scratch()
    found = Bundle(path, own_alpine, f"{path}/state")
    if not os.geteuid():
        found.called_by(NOBODY, f"exec {PLAIN}")
    yield found
    found.close()
    shutil.rmtree(path)


@pytest.fixture
def own(outside: Bundle, delegated: str) -> Bundle:
    """The same, called from within his own."""
    if not os.geteuid():
        outside.runtime = RUNTIME
        outside.called_by(NOBODY, f"echo $$ >{TOP}{delegated}/tests/cgroup.procs && exec {PLAIN}")
    return outside


def limited(own: Bundle, path: str | None, spec: dict[str, Any], **resources: Any) -> dict[str, Any]:
    """The config in namespaces with one user, with its group at that path."""
    one = [{"containerID": 0, "hostID": USER, "size": 1}]
    gid = os.getegid() or NOBODY
    spec["linux"] |= {"namespaces": [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")], "uidMappings": one,
                      "gidMappings": [{**one[0], "hostID": gid}], "resources": resources}
    if path:
        spec["linux"]["cgroupsPath"] = f"{path}/{own.id}"
    return spec


def test_limits_stand_in_his_groups(own: Bundle, delegated: str) -> None:
    """From create to delete, by each verb."""
    group = f"{TOP}{delegated}/{own.id}"
    first = own.running(limited(own, delegated, config(process__args=["sleep", "1000"]), memory={"limit": 64 * MIB}, pids={"limit": 33},
                                cpu={"quota": 20000, "period": 50000}))  # fmt: skip
    assert [read(f"{group}/{name}") for name in ("memory.max", "pids.max", "cpu.max")] == [str(64 * MIB), "33", "20000 50000"]
    assert read(f"{group}/cgroup.procs") == str(first)
    assert own.verb("exec", own.id, "cat", "/proc/self/cgroup").out == "0::/\n"
    assert json.loads(own.verb("ps", "--format", "json", own.id).out) == [first]
    assert own.verb("update", "--pids-limit", "34", "--memory", str(80 * MIB), "--cpu-period", "60000", own.id).code == 0
    assert [read(f"{group}/{name}") for name in ("memory.max", "pids.max", "cpu.max")] == [str(80 * MIB), "34", "20000 60000"]
    told = json.loads(own.verb("events", "--stats", own.id).out)["data"]
    assert (told["pids"]["limit"], told["memory"]["usage"]["limit"]) == (34, 80 * MIB) and told["cpu"]["usage"]["total"] > 0
    for verb, status, frozen in (("pause", "paused", "1"), ("resume", "running", "0")):
        assert own.verb(verb, own.id).code == 0
        assert (own.status(), read(f"{group}/cgroup.freeze")) == (status, frozen)
    assert own.verb("kill", own.id, "KILL").code == 0
    own.wait()
    assert own.verb("delete", own.id).code == 0 and not os.path.exists(group)


def test_a_group_that_is_not_named_is_in_his(own: Bundle, delegated: str) -> None:
    own.running(limited(own, None, config(process__args=["sleep", "1000"]), pids={"limit": 33}))
    group = f"{TOP}{delegated}/dolium/{own.id}"
    assert read(f"{group}/pids.max") == "33" and read(f"{group}/cgroup.procs") == str(own.state()["pid"])
    assert own.verb("delete", "--force", own.id).code == 0
    os.rmdir(os.path.dirname(group))


@pytest.mark.needs_root  # to have groups of its own
def test_who_is_alone_in_his_group_makes_room(own: Bundle, delegated: str) -> None:
    """As under `systemd-run --user --scope -p Delegate=yes`: a group that passes its controllers on may hold no process."""
    scope = f"{TOP}{delegated}/scope"
    give(scope)
    own.runtime = RUNTIME
    own.called_by(NOBODY, f"echo $$ >{scope}/cgroup.procs && exec {PLAIN}")
    try:
        created = own.create(limited(own, None, config(process__args=["sleep", "1000"]), pids={"limit": 33}))
        assert (created.code, read(f"{scope}/dolium/{own.id}/pids.max")) == (0, "33"), created
    finally:
        own.runtime = RUNTIME
        own.close()
        for name in ("dolium.caller", "dolium", ""):
            os.rmdir(f"{scope}/{name}")


def test_what_is_counted_and_what_is_killed(own: Bundle, delegated: str) -> None:
    """Too much memory ends it, too much of the processors is waited for."""
    group = f"{TOP}{delegated}/{own.id}"
    busy = script("while [ ! -e /go ]; do :; done; exec tail /dev/zero")
    own.running(limited(own, delegated, busy, memory={"limit": 16 * MIB, "swap": 16 * MIB}, cpu={"quota": 5000, "period": 50000}))
    wait_for(lambda: json.loads(own.verb("events", "--stats", own.id).out)["data"]["cpu"]["throttling"]["throttledPeriods"], 30)
    with open(f"{own.rootfs}/go", "w"):
        pass
    own.wait()
    assert "oom_kill 1" in read(f"{group}/memory.events").splitlines()
    assert own.verb("delete", own.id).code == 0 and not os.path.exists(group)


def test_too_much_memory_is_killed(own: Bundle, delegated: str) -> None:
    own.write(limited(own, delegated, config(process__args=["tail", "/dev/zero"]), memory={"limit": 16 * MIB, "swap": 16 * MIB}))
    assert own.verb("run", "-b", own.directory, own.id).code == 137
    assert not os.path.exists(f"{TOP}{delegated}/{own.id}")


def test_too_many_processes_are_refused(own: Bundle, delegated: str) -> None:
    own.write(limited(own, delegated, script("for n in 1 2 3 4 5 6; do sleep 1 & done; wait"), pids={"limit": 3}))
    ended = own.verb("run", "-b", own.directory, own.id)
    assert "can't fork" in ended.err, ended


def test_a_group_that_is_not_his_is_an_error(own: Bundle) -> None:
    assert "the `memory` cgroup controller is not there" in own.refused(limited(own, "/not-his", config(), memory={"limit": 64 * MIB}))


@pytest.mark.needs_root  # whoever has a group is called from within it
def test_without_a_group(outside: Bundle, delegated: str) -> None:
    """A container without limits runs where its caller is; a limit is an error, at once and later; so is what takes a group.  Into a
    group of his he cannot come from outside (cgroups(7), "delegation containment")."""
    assert "that is delegated to you" in outside.refused(limited(outside, None, config(), pids={"limit": 5}))
    outside.running(limited(outside, None, config(process__args=["sleep", "1000"])))
    for verb, words in ((("update", "--pids-limit", "5"), "that is delegated to you"), (("pause",), "has no group that could be frozen")):
        ended = outside.verb(*verb, outside.id)
        assert ended.code == 1 and words in ended.err, ended
    assert outside.verb("delete", "--force", outside.id).code == 0
    said = outside.refused(limited(outside, delegated, config(), pids={"limit": 5}))
    assert "EACCES" in said and "call from within that group" in said
    assert not os.path.exists(f"{TOP}{delegated}/{outside.id}")
