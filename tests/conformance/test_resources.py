"""linux.resources, read back from the files of the groups on whatever this host has: cgroup v1, v2, or both; each test is named after
its rule."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from bundles import Bundle, config, script, wait_for

MIB = 1 << 20


class Groups:
    """The groups of a container that runs."""

    def __init__(self, bundle: Bundle) -> None:
        with open(f"{bundle.root}/{bundle.id}/state.json") as file:
            fields = json.load(file)
        self.paths: dict[str, str] = fields["groups"]
        self.versions: dict[str, int] = fields["versions"]

    def version(self, controller: str) -> int:
        return self.versions.get(controller, 0)

    def __call__(self, controller: str, name: str) -> str:
        with open(f"{self.paths[controller]}/{name}") as file:
            return file.read().strip()

    def has(self, controller: str, name: str) -> bool:
        return controller in self.paths and os.path.exists(f"{self.paths[controller]}/{name}")


def made(bundle: Bundle, **resources: Any) -> Groups:
    bundle.running(config(process__args=["sleep", "1000"], linux__resources=resources))
    return Groups(bundle)


def update(bundle: Bundle, **resources: Any) -> None:
    ended = bundle.verb("update", "--resources", "-", bundle.id, input=json.dumps(resources))
    assert (ended.code, ended.out, ended.err) == (0, "", ""), ended


V1: list[tuple[str, str, str]] = [
    ("memory", "memory.limit_in_bytes", str(64 * MIB)), ("memory", "memory.soft_limit_in_bytes", str(32 * MIB)), ("pids", "pids.max", "77"),
    ("cpu", "cpu.shares", "512"), ("cpu", "cpu.cfs_quota_us", "20000"), ("cpu", "cpu.cfs_period_us", "50000"), ("cpu", "cpu.cfs_burst_us", "5000"),
    ("cpuset", "cpuset.cpus", "0"), ("cpuset", "cpuset.mems", "0"),
]  # fmt: skip
V2: list[tuple[str, str, str]] = [
    ("memory", "memory.max", str(64 * MIB)), ("memory", "memory.low", str(32 * MIB)), ("pids", "pids.max", "77"),
    ("cpu", "cpu.weight", "59"), ("cpu", "cpu.max", "20000 50000"), ("cpu", "cpu.max.burst", "5000"),
    ("cpuset", "cpuset.cpus", "0"), ("cpuset", "cpuset.mems", "0"),
]  # fmt: skip
EVERY: dict[str, Any] = {"memory": {"limit": 64 * MIB, "reservation": 32 * MIB}, "pids": {"limit": 77},
                         "cpu": {"shares": 512, "quota": 20000, "period": 50000, "burst": 5000, "cpus": "0", "mems": "0"}}  # fmt: skip


def test_each_limit_stands_in_its_file(bundle: Bundle) -> None:
    """shares 512 are weight 59 by the formula that makes 100 of 1024."""
    groups = made(bundle, **EVERY)
    looked = 0
    for version, table in ((1, V1), (2, V2)):
        for controller, name, value in table:
            if groups.version(controller) == version:
                assert groups(controller, name) == value, name
                looked += 1
    assert looked >= 8


@pytest.mark.parametrize(("shares", "weight"), [(2, "1"), (1024, "100"), (262144, "10000")])
def test_shares_become_weights(bundle: Bundle, shares: int, weight: str) -> None:
    groups = made(bundle, cpu={"shares": shares})
    name, value = ("cpu.weight", weight) if groups.version("cpu") == 2 else ("cpu.shares", str(shares))
    assert groups("cpu", name) == value


@pytest.mark.parametrize(("shares", "weight"), [(1, "1"), (262145, "10000")])
def test_shares_that_there_are_not(bundle: Bundle, shares: int, weight: str) -> None:
    """Version 1 would take the nearest in silence, so they are refused; version 2 has weights of its own, and the formula's last."""
    groups = made(bundle, cpu={"shares": 512})
    if groups.version("cpu") == 2:
        update(bundle, cpu={"shares": shares})
        assert groups("cpu", "cpu.weight") == weight
        return
    ended = bundle.verb("update", "--resources", "-", bundle.id, input=json.dumps({"cpu": {"shares": shares}}))
    assert (ended.code, ended.out, groups("cpu", "cpu.shares")) == (1, "", "512")
    assert ended.err == f"error: linux.resources.cpu.shares: is from 2 to 262144, not {shares}\n"


def test_swap_is_memory_and_swap_together(bundle: Bundle) -> None:
    """memory.swap.max is swap - limit on v2; -1 is none."""
    bundle.running(config(process__args=["sleep", "1000"], linux__resources={"memory": {"limit": 64 * MIB}}))
    groups = Groups(bundle)
    name = "memory.swap.max" if groups.version("memory") == 2 else "memory.memsw.limit_in_bytes"
    if not groups.has("memory", name):
        pytest.skip(f"this kernel has no {name}")
    v2 = groups.version("memory") == 2
    for swap, value in ((96 * MIB, str(32 * MIB) if v2 else str(96 * MIB)), (64 * MIB, "0" if v2 else str(64 * MIB))):
        update(bundle, memory={"limit": 64 * MIB, "swap": swap})
        assert groups("memory", name) == value
    update(bundle, memory={"swap": -1})
    assert groups("memory", name) == "max" or int(groups("memory", name)) > 1 << 60


def test_no_process_more(bundle: Bundle) -> None:
    """pids.limit 0 is a limit (runtime-spec 1.3): the program runs, and cannot fork."""
    bundle.write(script("echo ran; (true); echo forked", linux__resources={"pids": {"limit": 0}}))
    ended = bundle.verb("run", "-b", bundle.directory, bundle.id)
    assert (ended.out, ended.err) == ("ran\n", "sh: can't fork: Resource temporarily unavailable\n"), ended


def test_pids_without_a_limit(bundle: Bundle) -> None:
    assert made(bundle, pids={"limit": -1})("pids", "pids.max") == "max"


def test_zero_leaves_things_as_they_are(bundle: Bundle) -> None:
    groups = made(bundle, **EVERY)
    update(bundle, memory={"limit": 0, "swap": 0, "reservation": 0}, cpu={"shares": 0, "quota": 0, "period": 0}, blockIO={"weight": 0})
    for version, table in ((1, V1), (2, V2)):
        for controller, name, value in table:
            assert groups.version(controller) != version or groups(controller, name) == value, name


def test_a_limit_below_what_is_in_use_is_refused_if_asked_for(bundle: Bundle) -> None:
    """memory.checkBeforeUpdate"""
    spec = script("head -c 30000000 /dev/zero >/dev/shm/x; echo filled; sleep 1000", linux__resources={"memory": {"limit": 200 * MIB}})
    bundle.running(spec)
    wait_for(lambda: "filled" in bundle.read("out"))
    ended = bundle.verb("update", "-r", "-", bundle.id, input=json.dumps({"memory": {"limit": 8 * MIB, "checkBeforeUpdate": True}}))
    assert ended.code == 1 and "are less than the" in ended.err and bundle.status() == "running"
    update(bundle, memory={"limit": 100 * MIB, "checkBeforeUpdate": True})
    groups = Groups(bundle)
    assert groups("memory", "memory.max" if groups.version("memory") == 2 else "memory.limit_in_bytes") == str(100 * MIB)


def test_memory_is_enforced(bundle: Bundle) -> None:
    bundle.write(config(process__args=["tail", "/dev/zero"], linux__resources={"memory": {"limit": 16 * MIB, "swap": 16 * MIB}}
                        if os.path.exists("/sys/fs/cgroup/cgroup.controllers") else {"memory": {"limit": 16 * MIB}}))
    assert bundle.verb("run", "-b", bundle.directory, bundle.id).code == 137


def test_unified_files_are_written_as_they_are(bundle: Bundle) -> None:
    """Unknown ones too; several lines one after the other; what the kernel has not is an error that names the file."""
    groups = made(bundle, unified={"cgroup.max.depth": "7", "cgroup.max.descendants": "9"})
    assert (groups("unified", "cgroup.max.depth"), groups("unified", "cgroup.max.descendants")) == ("7", "9")
    bundle.close()
    assert "cgroup.nonsense" in bundle.refused(config(linux__resources={"unified": {"cgroup.nonsense": "1"}}))
    assert "nonsense.max" in bundle.refused(config(linux__resources={"unified": {"nonsense.max": "1"}}))


def test_unified_memory_files(bundle: Bundle) -> None:
    bundle.create(config())
    if Groups(bundle).version("memory") != 2:
        pytest.skip("memory is a controller of cgroup v1 here")
    bundle.close()
    groups = made(bundle, unified={"memory.high": str(48 * MIB), "cpu.weight": "77", "pids.max": "33"})
    assert [groups(*each) for each in (("memory", "memory.high"), ("cpu", "cpu.weight"), ("pids", "pids.max"))] == [str(48 * MIB), "77", "33"]


def test_io_of_v2(bundle: Bundle) -> None:
    """blockIO.weight goes to io.bfq.weight, or io.weight by the other scale; throttles go to io.max."""
    bundle.create(config())
    if Groups(bundle).version("io") != 2:
        pytest.skip("io is no controller of cgroup v2 here")
    bundle.close()
    devices = [line.split()[2] for line in open("/proc/self/mountinfo") if not line.split()[2].startswith("0:")]  # noqa: SIM115
    resources: dict[str, Any] = {"blockIO": {"weight": 500}}
    if devices:
        major, minor = devices[0].split(":")
        resources["blockIO"]["throttleReadBpsDevice"] = [{"major": int(major), "minor": int(minor), "rate": 12345}]
    groups = made(bundle, **resources)
    if groups.has("io", "io.bfq.weight"):
        assert groups("io", "io.bfq.weight") == "default 500"
    else:
        assert groups("io", "io.weight") == f"default {1 + 490 * 9999 // 990}"
    if devices:
        assert groups("io", "io.max").startswith(f"{devices[0]} rbps=12345")


def test_the_flags_of_update(bundle: Bundle) -> None:
    groups = made(bundle, memory={"limit": 64 * MIB}, pids={"limit": 10})
    v2 = groups.version("cpu") == 2
    ended = bundle.verb("update", "--cpu-share", "2048", "--cpu-quota=30000", "--cpu-period", "60000", "--cpuset-cpus=0", "--memory", "128M",
                        "--memory-reservation", "16777216", bundle.id, "--pids-limit", "20")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    wanted = ({"cpu.weight": "174", "cpu.max": "30000 60000", "cpuset.cpus": "0", "memory.max": str(128 * MIB), "memory.low": str(16 * MIB), "pids.max": "20"} if v2 else
              {"cpu.shares": "2048", "cpu.cfs_quota_us": "30000", "cpu.cfs_period_us": "60000", "cpuset.cpus": "0",
               "memory.limit_in_bytes": str(128 * MIB), "memory.soft_limit_in_bytes": str(16 * MIB), "pids.max": "20"})  # fmt: skip
    assert {name: groups(name.partition(".")[0], name) for name in wanted} == wanted


def test_an_update_of_one_leaves_the_other(bundle: Bundle) -> None:
    """A quota stays when the period is changed, though cpu.max of v2 has both; swap is counted from the limit that stands; without
    a limit of memory there is none of swap."""
    groups = made(bundle, cpu={"quota": 20000, "period": 50000}, memory={"limit": 64 * MIB})
    update(bundle, cpu={"period": 60000})
    v2 = groups.version("cpu") == 2
    names = ("cpu.max",) if v2 else ("cpu.cfs_quota_us", "cpu.cfs_period_us")
    assert " ".join(groups("cpu", each) for each in names) == "20000 60000"
    name = "memory.swap.max" if groups.version("memory") == 2 else "memory.memsw.limit_in_bytes"
    if not groups.has("memory", name):
        return
    update(bundle, memory={"swap": 96 * MIB})
    assert groups("memory", name) == str(32 * MIB if groups.version("memory") == 2 else 96 * MIB)
    update(bundle, memory={"limit": -1})
    assert groups("memory", name) == "max" or int(groups("memory", name)) > 1 << 60
    ended = bundle.verb("update", "--memory-swap", str(MIB), bundle.id)
    assert ended.code == 1 and "memory.swap" in ended.err, ended


def test_no_process_more_from_now_on(bundle: Bundle) -> None:
    groups = made(bundle, pids={"limit": 10})
    update(bundle, pids={"limit": 0})
    assert groups("pids", "pids.max") == "0"


def test_an_idle_one_keeps_its_weight(bundle: Bundle) -> None:
    """The kernel takes no weight of a group that is idle."""
    groups = made(bundle, cpu={"idle": 1, "shares": 512})
    assert groups("cpu", "cpu.idle") == "1"
    update(bundle, cpu={"idle": 0, "shares": 2048})
    name, value = ("cpu.weight", "174") if groups.version("cpu") == 2 else ("cpu.shares", "2048")
    assert (groups("cpu", "cpu.idle"), groups("cpu", name)) == ("0", value)


def test_a_limit_above_what_bounds_both_is_named(bundle: Bundle) -> None:
    groups = made(bundle, memory={"limit": 64 * MIB})
    if not groups.has("memory", "memory.memsw.limit_in_bytes"):
        pytest.skip("only cgroup v1 bounds memory and swap together")
    update(bundle, memory={"limit": 64 * MIB, "swap": 80 * MIB})
    ended = bundle.verb("update", "--memory", "96M", bundle.id)
    assert ended.code == 1 and "memory and swap together may be less" in ended.err


def test_burst_and_quota_change_together(bundle: Bundle) -> None:
    """Up and down: the burst is never above the quota, the old nor the new one."""
    groups = made(bundle, cpu={"quota": 20000, "period": 50000, "burst": 10000})
    name = "cpu.max.burst" if groups.version("cpu") == 2 else "cpu.cfs_burst_us"
    for quota, burst in ((8000, 2000), (30000, 25000)):
        update(bundle, cpu={"quota": quota, "burst": burst})
        assert groups("cpu", name) == str(burst)


def test_device_rules_are_not_changed(bundle: Bundle) -> None:
    """Engines repeat those it has; others would not hold, so they are an error."""
    rules = [{"allow": False, "access": "rwm"}]
    groups = made(bundle, devices=rules, pids={"limit": 20})
    update(bundle, devices=rules, pids={"limit": 30})
    ended = bundle.verb("update", "-r", "-", bundle.id, input=json.dumps({"devices": [{"allow": True, "access": "rwm"}], "pids": {"limit": 40}}))
    assert ended.code == 1 and "linux.resources.devices" in ended.err and groups("pids", "pids.max") == "30"


def test_a_file_that_is_not_there_is_named_by_its_flag(bundle: Bundle) -> None:
    bundle.running()
    assert bundle.verb("update", "-r", "/nonexistent", bundle.id).err == "error: --resources: `/nonexistent`: No such file or directory\n"
    assert bundle.verb("exec", "-p", "/nonexistent", bundle.id).err == "error: --process: `/nonexistent`: No such file or directory\n"


DENIED = "Operation not permitted"
NODES = [("c", 5), ("c", 6), ("b", 5)]
ALL = {"allow": False, "access": "rwm"}
C5 = {"type": "c", "major": 240, "minor": 5}
EVERYTHING = {f"{kind}{minor}{letter}" for kind, minor in NODES for letter in "rw"}


@pytest.mark.parametrize(("rules", "allowed"), [
    ([ALL], set()),
    ([ALL, {"allow": True, **C5, "access": "r"}], {"c5r"}),
    ([ALL, {"allow": True, "type": "c", "major": 240, "access": "rw"}], {"c5r", "c5w", "c6r", "c6w"}),
    ([ALL, {"allow": True, "type": "c", "major": -1, "minor": -1, "access": "w"}], {"c5w", "c6w"}),
    ([{"allow": True, "access": "rwm"}], EVERYTHING),
    ([{"allow": True, "access": "rwm"}, {"allow": False, **C5, "access": "rwm"}], EVERYTHING - {"c5r", "c5w"}),
    ([ALL, {"allow": True, **C5, "access": "rwm"}, {"allow": False, **C5, "access": "w"}], {"c5r"}),
    ([{"allow": True, **C5, "access": "rwm"}, ALL], set()),
    ([ALL, {"allow": True, "type": "b", "access": "rwm"}], {"b5r", "b5w"}),
], ids=["nothing", "one for reading", "a major", "all for writing", "everything", "all but one", "a part taken back", "the last holds", "block"])  # fmt: skip
def test_device_rules_hold_in_their_order(bundle: Bundle, rules: list[dict[str, Any]], allowed: set[str]) -> None:
    """Of 240:*, which no driver has: who may open them hears that there is none."""
    devices = [{"path": f"/dev/{kind}{minor}", "type": kind, "major": 240, "minor": minor} for kind, minor in NODES]
    text = "for d in c5 c6 b5; do echo $d r $( (: <>/dev/null </dev/$d) 2>&1); echo $d w $( (: >>/dev/$d) 2>&1); done; : </dev/zero && echo usual"
    lines = bundle.output(script(text, linux__devices=devices, linux__resources={"devices": rules})).splitlines()
    assert lines[-1] == "usual"
    assert {line.split()[0] + line.split()[1] for line in lines[:-1] if DENIED not in line} == allowed, lines
