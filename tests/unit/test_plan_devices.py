"""Rules on devices: what is malformed, what cgroup v1 cannot say, and docker's own list."""

from __future__ import annotations

from typing import Any

import invent
import pytest

from dolium.core.wire import HOST, OUTSIDE, Step
from dolium.errors import SpecError, Unsupported
from dolium.plan import build
from dolium.plan import device_filter as d

NOTHING = {"allow": False, "access": "rwm"}
USUAL = ["b *:* m", "c *:* m", "c 1:3 rwm", "c 1:5 rwm", "c 1:7 rwm", "c 1:8 rwm", "c 1:9 rwm", "c 5:0 rwm", "c 5:2 rwm", "c 136:* rwm"]
DOCKERS: list[dict[str, Any]] = [
    NOTHING,
    *({"allow": True, "type": "c", "major": major, "minor": minor, "access": "rwm"}
      for major, minor in ((1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1))),
    {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
]  # fmt: skip
"""What moby writes by default, as of 29."""


def written(*rules: dict[str, Any]) -> list[str]:
    """What is excepted from "no device"."""
    lines = d.lists(d.read([*rules]))
    assert lines[0] == ("devices.deny", "a") and {file for file, _ in lines[1:]} == {"devices.allow"}
    return [text for _, text in lines[1:]]


def test_no_rules_are_the_usual_ones() -> None:
    assert written() == written(NOTHING) == written({"allow": True}, NOTHING) == USUAL


def test_what_comes_after_narrows_the_usual_ones() -> None:
    zero = {"type": "c", "major": 1, "minor": 5}
    assert written({**zero, "allow": False, "access": "w"}) == [each.replace("1:5 rwm", "1:5 rm") for each in USUAL]
    assert written({**zero, "allow": False, "access": "w"}, NOTHING) == USUAL


def test_all_of_them() -> None:
    assert d.lists(d.read([{"allow": True}])) == d.lists(d.read([{"allow": True, "type": "a", "access": "mwr"}])) == [("devices.allow", "a")]
    kept = [{"allow": True}, {"allow": False, "type": "b", "major": 8, "access": "rw"}]
    assert d.lists(d.read(kept)) == [("devices.allow", "a"), ("devices.deny", "b 8:* rw")]
    assert "b *:* rwm" in written({"allow": True, "type": "b"}) and "b *:* m" in written({"allow": False, "type": "b", "access": "m"})


@pytest.mark.parametrize("rules", [
    [{"allow": True, "type": "b", "major": 8, "access": "rw"}, {"allow": False, "type": "b", "major": 8, "minor": 3}],
    [{"allow": True, "type": "b"}, {"allow": False, "type": "b", "major": 8}],
    [{"allow": True, "type": "b", "major": 8}, {"allow": False, "type": "b", "minor": 3, "access": "r"}]])  # fmt: skip
def test_what_cgroup_v1_cannot_say(rules: list[dict[str, Any]]) -> None:
    with pytest.raises(Unsupported) as caught:
        d.lists(d.read(rules))
    assert "cgroup v1" in str(caught.value) and caught.value.hint
    assert d.compile(d.read(rules))


@pytest.mark.parametrize(("rule", "path"), [
    ("c 1:3 rwm", ""), ({"allow": 1}, ".allow"), ({"allow": True, "type": "p"}, ".type"), ({"allow": True, "major": "1"}, ".major"),
    ({"allow": True, "major": True}, ".major"), ({"allow": True, "minor": -2}, ".minor"), ({"allow": True, "minor": 1 << 32}, ".minor"),
    ({"allow": True, "access": "rx"}, ".access"), ({"allow": True, "access": 7}, ".access"), ({"allow": True, "type": ["c"]}, ".type")])  # fmt: skip
def test_malformed(rule: Any, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        d.read([NOTHING, rule])
    assert caught.value.path == "linux.resources.devices[1]" + path


def planned(cgroups: str, rules: list[dict[str, Any]]) -> list[Step]:
    facts = invent.facts(cgroups, id_base=invent.RANGE)
    spec = invent.spec(facts, invent.options(pids=-1))
    spec["linux"]["resources"]["devices"] = rules
    return build.plan(spec, facts)


def test_dockers_own_list() -> None:
    v1 = [step for step in planned("v1", DOCKERS) if step.op == "set_limit"]
    assert all(step.actor == HOST for step in v1) and v1[0].data == b"a"
    assert sorted(step.data.decode() for step in v1[1:]) == sorted([*USUAL, "c 5:1 rwm"])
    assert {step.path.rpartition("/")[0] for step in v1} == {f"/sys/fs/cgroup/devices/dolium/{invent.NAME}"}
    assert not [step for step in planned("v1", DOCKERS) if step.op == "device_filter"]
    (step,) = [step for step in planned("v2", DOCKERS) if step.op == "device_filter"]
    assert (step.actor, step.fd, len(step.data) % 8) == (OUTSIDE, 0, 0)
    ops = [each.op for each in planned("v2", DOCKERS)]
    assert ops.index("device_filter") < ops.index("clone"), "nothing is ever in there without it"


def test_rules_where_there_is_no_filter() -> None:
    with pytest.raises(Unsupported) as caught:
        planned("none", [])
    assert "linux.resources.devices" in str(caught.value) and caught.value.hint


@pytest.mark.parametrize(("cgroups", "id_base", "access", "filtered"), [
    ("v2", invent.RANGE, "rwm", False), ("v2", invent.RANGE, "rw", False), ("v2", invent.RANGE, "r", True), ("v2", invent.RANGE, "w", True),
    ("v2", 0, "rwm", True), ("v1", 0, "rwm", True), ("hybrid", 0, "rwm", True), ("none", 0, "rwm", False)])  # fmt: skip
def test_when_there_is_one(cgroups: str, id_base: int, access: str, filtered: bool) -> None:
    """With users of its own a container makes no nodes, so only what is less than the whole takes a filter."""
    facts = invent.facts(cgroups, id_base=id_base)
    spec = invent.spec(facts, invent.options(devices=[("/dev/zero", "/dev/zero", access)], pids=-1))
    assert ("devices" in spec["linux"]["resources"]) == filtered
    assert ("CAP_MKNOD" in spec["process"]["capabilities"]["bounding"]) == (id_base > 0 or filtered)


def test_a_node_in_the_place_of_a_usual_one() -> None:
    steps = invent.plan(devices=[("/dev/null", "/dev/zero", "rw")])
    nodes = [step.data.split(b"\0")[:-1:2] for step in steps if step.op == "mknod"]
    assert nodes == [[b"null", b"full", b"random", b"urandom", b"tty"], [b"zero"]]
    plain = invent.facts("none", rootless=True, uid=1000, gid=1000)
    binds = [step.path for step in invent.plan(plain, devices=[("/dev/null", "/dev/zero", "rw")]) if step.op == "open_tree"]
    assert binds.count("/dev/zero") == 0 and binds.count("/dev/null") == 2
