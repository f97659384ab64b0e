"""The cgroup driver `systemd`: names of units (the examples are runc's and systemd.slice(5)'s), limits as properties of one, and
where in the plan it has its place."""

from __future__ import annotations

from typing import Any

import invent
import pytest
from bundles import config

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE
from dolium.errors import SpecError
from dolium.plan import build, gvariant, joining, systemd, unit_properties
from dolium.plan.unit_properties import INFINITY, limits


@pytest.mark.parametrize(("text", "name", "path"), [
    ("system.slice:docker:1234", "docker-1234.scope", "/system.slice/docker-1234.scope"),
    ("machine.slice:libpod:abc", "libpod-abc.scope", "/machine.slice/libpod-abc.scope"),
    ("kubepods-burstable-pod1.slice:cri-containerd:x", "cri-containerd-x.scope",
     "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-x.scope"),
    (":runc:x", "runc-x.scope", "/system.slice/runc-x.scope"), ("a.slice::x", "x.scope", "/a.slice/x.scope"),
    ("-.slice:p:x", "p-x.scope", "/p-x.scope"),
    ("", "dolium-me.scope", "/system.slice/dolium-me.scope"),
])  # fmt: skip
def test_units(text: str, name: str, path: str) -> None:
    found = systemd.unit(text, identity="me")
    assert (found.name, found.path) == (name, path)


def test_a_plain_users() -> None:
    assert systemd.unit(":p:x", user=True).path == "/user.slice/p-x.scope"


@pytest.mark.parametrize("text", ["/a/b", "a.slice:b", "a.slice:b:c:d", "a:b:c", "a.slice:b:", "../a.slice:b:c", "a/b.slice:p:x", "a.slice:p:x/y",
                                  "a--b.slice:p:x", "-a.slice:p:x", "a-.slice:p:x", ".slice:p:x", "a.slice:p:" + "x" * 300, "a.slice:p:a-b.slice", "a.slice:p:é"])
def test_what_is_no_unit(text: str) -> None:
    with pytest.raises(SpecError, match=r"linux\.cgroupsPath"):
        systemd.unit(text)


@pytest.mark.parametrize(("given", "wanted"), [
    ({"memory": {"limit": 1 << 20}}, {"MemoryMax": 1 << 20}), ({"memory": {"limit": -1}}, {"MemoryMax": INFINITY}),
    ({"memory": {"limit": 5, "swap": 9}}, {"MemoryMax": 5, "MemorySwapMax": 4}), ({"memory": {"limit": 5, "swap": -1}}, {"MemoryMax": 5, "MemorySwapMax": INFINITY}),
    ({"memory": {"limit": 5, "swap": 5}}, {"MemoryMax": 5, "MemorySwapMax": 0}), ({"memory": {"reservation": 7}}, {"MemoryLow": 7}),
    ({"memory": {"limit": 0}}, {}), ({}, {}),
    ({"pids": {"limit": 5}}, {"TasksMax": 5}), ({"pids": {"limit": -1}}, {"TasksMax": INFINITY}), ({"pids": {"limit": 0}}, {"TasksMax": 1}),
    ({"cpu": {"shares": 1024}}, {"CPUWeight": 100}), ({"cpu": {"shares": 1024, "idle": 1}}, {"CPUWeight": 0}),
    ({"cpu": {"quota": 50000}}, {"CPUQuotaPerSecUSec": 500_000}), ({"cpu": {"quota": -1, "period": 1000}}, {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 1000}),
    ({"cpu": {"quota": 25_001, "period": 100_000}}, {"CPUQuotaPerSecUSec": 260_000, "CPUQuotaPeriodUSec": 100_000}),
    ({"cpu": {"quota": 150_000, "period": 100_000}}, {"CPUQuotaPerSecUSec": 1_500_000, "CPUQuotaPeriodUSec": 100_000}),
    ({"cpu": {"cpus": "0-2, 9", "mems": "0"}}, {"AllowedCPUs": b"\x07\x02", "AllowedMemoryNodes": b"\x01"}),
    ({"blockIO": {"weight": 10}}, {"IOWeight": 10}), ({"blockIO": {"weight": 1000}}, {"IOWeight": 10_000}),
    ({"unified": {"memory.max": "max", "memory.high": "1M", "memory.min": "5", "memory.low": "6", "memory.swap.max": "0"}},
     {"MemoryMax": INFINITY, "MemoryHigh": 1 << 20, "MemoryMin": 5, "MemoryLow": 6, "MemorySwapMax": 0}),
    ({"unified": {"pids.max": "max", "cpu.weight": "7", "cpuset.cpus": "1"}}, {"TasksMax": INFINITY, "CPUWeight": 7, "AllowedCPUs": b"\x02"}),
    ({"unified": {"cpu.max": "50000 100000"}}, {"CPUQuotaPerSecUSec": 500_000, "CPUQuotaPeriodUSec": 100_000}),
    ({"unified": {"cpu.max": "max"}}, {"CPUQuotaPerSecUSec": INFINITY, "CPUQuotaPeriodUSec": 100_000}),
    ({"unified": {"cpu.idle": "1", "cpu.weight": "7"}}, {"CPUWeight": 0}), ({"unified": {"hugetlb.2MB.max": "5", "io.max": "8:0 rbps=5"}}, {}),
], ids=str)  # fmt: skip
def test_limits_as_properties(given: dict[str, Any], wanted: dict[str, Any]) -> None:
    found = limits(given, True, systemd.NEWEST)
    assert {name: value for name, _, value in found} == wanted
    assert len({name for name, _, _ in found}) == len(found)


def test_those_of_cgroup_v1() -> None:
    given = {"memory": {"limit": 5, "swap": 9, "reservation": 3}, "cpu": {"shares": 512, "quota": 1000}, "blockIO": {"weight": 20}, "pids": {"limit": 5}}
    assert {name: value for name, _, value in limits(given, False, 252)} == {
        "MemoryLimit": 5, "CPUShares": 512, "CPUQuotaPerSecUSec": 10_000, "BlockIOWeight": 20, "TasksMax": 5}  # fmt: skip


def test_what_an_older_systemd_does_not_know_is_left_out() -> None:
    given = {"cpu": {"quota": 1000, "period": 100_000, "cpus": "0", "idle": 1}}
    assert [name for name, _, _ in limits(given, True, 241)] == ["CPUQuotaPerSecUSec"]
    assert [name for name, _, _ in limits(given, True, 244)] == ["CPUQuotaPeriodUSec", "CPUQuotaPerSecUSec", "AllowedCPUs"]


@pytest.mark.parametrize("given", [{"unified": {"memory.max": "much"}}, {"unified": {"pids.max": "-5"}}, {"unified": {"cpu.max": "a b"}}, {"cpu": {"cpus": "x"}},
                                   {"cpu": {"cpus": "3-1"}}, {"cpu": {"mems": "1-"}}, {"cpu": {"cpus": "999999"}}, {"unified": {"memory.max": "²"}},
                                   {"unified": {"memory.max": ""}}], ids=str)  # fmt: skip
def test_what_is_no_limit(given: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        limits(given, True, 252)


ALLOWED = ["block-* m", "/dev/char/1:3 rwm", "/dev/char/1:5 rwm", "/dev/char/1:7 rwm", "/dev/char/1:8 rwm", "/dev/char/1:9 rwm", "/dev/char/5:0 rwm",
           "/dev/char/5:2 rwm", "char-136 rwm", "char-* m"]  # fmt: skip
NONE = {"allow": False, "access": "rwm"}


@pytest.mark.parametrize(("rules", "v2", "policy", "wanted"), [
    ([NONE], True, "strict", ALLOWED), ([NONE], False, "strict", ALLOWED),
    ([{"allow": True, "type": "c", "major": 5, "minor": 5, "access": "r"}, NONE], True, "strict", ALLOWED),
    ([NONE, {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "rw"}], True, "strict", ["/dev/block/8:0 rw", *ALLOWED]),
    ([NONE, {"allow": True, "type": "b", "major": 8, "access": "rw"}], True, "strict", ["block-8 rw", *ALLOWED]),
    ([NONE, {"allow": True, "access": "rwm"}], True, "auto", []), ([{"allow": True, "access": "rwm"}], False, "auto", []),
    # what it cannot say: on v2 our own filter does without, on v1 nothing more is allowed than was asked for
    ([{"allow": True, "access": "rwm"}, {"allow": False, "type": "b", "major": 8, "access": "w"}], True, "auto", []),
    ([{"allow": False, "type": "c", "major": 1, "minor": 3, "access": "w"}, NONE], True, "strict", ALLOWED),
    ([NONE, {"allow": True, "type": "c", "minor": 3, "access": "w"}], False, "strict", ALLOWED),
], ids=str)  # fmt: skip
def test_devices(rules: list[dict[str, Any]], v2: bool, policy: str, wanted: list[str]) -> None:
    spec = invent.bundle(config(linux__cgroupsPath="a.slice:b:c", linux__resources={"devices": rules}))
    found = {name: value for name, _, value in unit_properties.scope(spec, v2, True)}
    assert found["DevicePolicy"] == policy
    assert sorted(" ".join(each) for each in found["DeviceAllow"]) == sorted(wanted)
    assert not [name for name, _, _ in unit_properties.scope(spec, v2, False) if name.startswith("Device")]


@pytest.mark.parametrize(("text", "wanted"), [
    ("true", ("b", True)), ("'a b'", ("s", "a b")), ('"a\\"b"', ("s", 'a"b')), ("5", ("i", 5)), ("-5", ("i", -5)), ("uint64 5", ("t", 5)), ("int32 7", ("i", 7)),
    ("byte 0x10", ("y", 16)), ("1.5", ("d", 1.5)), ("['a', 'b']", ("as", ["a", "b"])), ("[]", ("as", [])), ("@as []", ("as", [])), ("[1, 2]", ("ai", [1, 2])),
    (" [ 'x' ] ", ("as", ["x"])), ("'a\\n'", ("s", "a\n")), ("['a,]']", ("as", ["a,]"])),
], ids=str)  # fmt: skip
def test_values_of_annotations(text: str, wanted: tuple[str, Any]) -> None:
    assert gvariant.read(text, "x") == wanted


@pytest.mark.parametrize("text", ["", "'a", "a", "uint64 -1", "uint32 4294967296", "[1, 'a']", "[[1]]", "['a'", "['a' 'b']", "'a' b", "true false", "int5 4", "@as 5", "1.x",
                                  "uint64", "[,]"])  # fmt: skip
def test_what_is_no_value(text: str) -> None:
    with pytest.raises(SpecError, match=r"x: "):
        gvariant.read(text, "x")


def test_annotations() -> None:
    given = {"org.systemd.property.TimeoutStopSec": "uint64 5", "org.systemd.property.After": "['a.service']", "org.systemd.property.RestartUSec": "uint64 3", "other": "x"}
    assert unit_properties.asked(given) == [("After", "as", ["a.service"]), ("RestartUSec", "t", 3), ("TimeoutStopUSec", "t", 5_000_000)]


@pytest.mark.parametrize(("name", "value"), [("Slice", "'a.slice'"), ("PIDs", "[1]"), ("Delegate", "false"), ("a", "1"), ("A=B", "1"), ("TimeoutStopSec", "'a'"),
                                             ("TimeoutStopSec", "-1")])  # fmt: skip
def test_annotations_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(SpecError, match=r"annotations"):
        unit_properties.asked({f"org.systemd.property.{name}": value})


def test_where_it_is_in_the_plan() -> None:
    """Systemd wants a process, so there is one; it waits, and goes on when it is limited.  All is done by the host, whose rights
    dolium-init has not any more where the users are another container's."""
    spec = invent.bundle(config(linux__cgroupsPath="a-b.slice:c:d", linux__resources={"memory": {"limit": 1 << 20}, "devices": [NONE]}))
    host = invent.facts(hierarchies={each: (2, "/sys/fs/cgroup") for each in ("memory", "unified")})
    steps = build.plan(spec, host)
    names = [step.op for step in steps]
    chapter = [step for step in steps if step.chapter == "LIMITS"]
    assert [step.op for step in chapter] == ["ask", "start_unit", "make_group", "set_limit", "filter_devices"]
    assert {step.actor for step in chapter[1:]} == {HOST} and chapter[0].actor == OUTSIDE
    clone, begun = steps[names.index("clone")], steps.index(chapter[0])
    assert clone.fd < 0 and steps.index(clone) < begun
    waits = next(step for step in steps if step.op == "sync")
    assert begun < steps.index(waits) and not [step.op for step in steps[: steps.index(waits)] if step.actor == INSIDE and step.op != "reset"]
    assert "device_filter" not in names and chapter[3].path == "/sys/fs/cgroup/a.slice/a-b.slice/c-d.scope/memory.max"


def test_a_plain_users_exec_is_moved_by_systemd() -> None:
    spec = invent.bundle(config(linux__cgroupsPath="a.slice:c:d"))
    spec["dolium"]["watch"] = {"detached": True}
    host = invent.facts(hierarchies={"unified": (2, "/sys/fs/cgroup")})
    assert "attach" not in [step.op for step in joining.plan(spec, host)]
    spec["dolium"]["unit"]["user"] = True
    steps = joining.plan(spec, host)
    names = [step.op for step in steps]
    at = names.index("attach")
    assert names[at - 3 : at + 2] == ["clone", "reset", "ask", "attach", "sync"]
    assert steps[at + 1].actor == BOTH and next(step for step in steps if step.op == "clone").fd < 0
