"""A plain user with a cgroup v2 that was delegated to him, as systemd gives one to each session: limits hold there without root.
Each test is named after its rule; by root, and where no group is delegated, none of them is run."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from bundles import Bundle, config, scratch, script

MIB = 1 << 20


def own_group() -> str:
    with open("/proc/self/cgroup") as file:
        path = next((line.strip()[3:] for line in file if line.startswith("0::")), "/")
    return path.removesuffix("/tests")


@pytest.fixture(scope="module")
def delegated() -> str:
    """His group, as the kernel names it, without processes of its own: those are in `tests` below it."""
    path = own_group()
    top = f"/sys/fs/cgroup{path}"
    if os.geteuid() == 0 or not os.path.exists("/sys/fs/cgroup/cgroup.controllers") or not os.access(f"{top}/cgroup.procs", os.W_OK):
        pytest.skip("not a plain user with a delegated cgroup of v2")
    os.makedirs(f"{top}/tests", exist_ok=True)
    with open(f"{top}/cgroup.procs") as file:
        for pid in file.read().split():
            with open(f"{top}/tests/cgroup.procs", "w") as into:
                into.write(pid)
    return path


@pytest.fixture
def own(delegated: str, own_alpine: str) -> Iterator[Bundle]:
    path = scratch()
    found = Bundle(path, own_alpine, f"{path}/state")
    yield found
    found.close()
    shutil.rmtree(path)


def limited(own: Bundle, delegated: str, spec: dict[str, Any], **resources: Any) -> dict[str, Any]:
    one = [{"containerID": 0, "hostID": os.geteuid(), "size": 1}]
    spec["linux"] |= {"namespaces": [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount", "cgroup", "user")], "uidMappings": one,
                      "gidMappings": [{**one[0], "hostID": os.getegid()}], "cgroupsPath": f"{delegated}/{own.id}", "resources": resources}
    return spec


def test_limits_stand_in_his_groups(own: Bundle, delegated: str) -> None:
    own.running(limited(own, delegated, config(process__args=["sleep", "1000"]), memory={"limit": 64 * MIB}, pids={"limit": 33}, cpu={"quota": 20000, "period": 50000}))
    group = f"/sys/fs/cgroup{delegated}/{own.id}"
    found = {}
    for name in ("memory.max", "pids.max", "cpu.max"):
        with open(f"{group}/{name}") as file:
            found[name] = file.read().strip()
    assert found == {"memory.max": str(64 * MIB), "pids.max": "33", "cpu.max": "20000 50000"}
    assert own.verb("update", "--pids-limit", "34", own.id).code == 0
    assert json.loads(own.verb("events", "--stats", own.id).out)["data"]["pids"]["limit"] == 34
    for verb, status in (("pause", "paused"), ("resume", "running")):
        assert own.verb(verb, own.id).code == 0 and own.status() == status
    assert own.verb("delete", "--force", own.id).code == 0 and not os.path.exists(group)


def test_too_much_memory_is_killed(own: Bundle, delegated: str) -> None:
    own.write(limited(own, delegated, config(process__args=["tail", "/dev/zero"]), memory={"limit": 16 * MIB, "swap": 16 * MIB}))
    assert own.verb("run", "-b", own.directory, own.id).code == 137


def test_too_many_processes_are_refused(own: Bundle, delegated: str) -> None:
    own.write(limited(own, delegated, script("for n in 1 2 3 4 5 6; do sleep 1 & done; wait"), pids={"limit": 3}))
    ended = own.verb("run", "-b", own.directory, own.id)
    assert "can't fork" in ended.err, ended


def test_a_group_that_is_not_his_is_an_error(own: Bundle, delegated: str) -> None:
    spec = limited(own, delegated, config(), memory={"limit": 64 * MIB})
    spec["linux"]["cgroupsPath"] = "/not-his"
    assert "the `memory` cgroup controller is not there" in own.refused(spec)
