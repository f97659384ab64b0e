"""A plan that is used again is the plan that would have been made anew (runtime/plans.py)."""

from __future__ import annotations

from typing import Any

import pytest
from decoded import decode, string

from dolium.core import wire
from dolium.engine import config, rootfs
from dolium.errors import SpecError
from dolium.plan import build, limits
from dolium.plan.facts import Facts, Hierarchy
from dolium.runtime import plans

V2 = {each: Hierarchy(2, "/sys/fs/cgroup/dolium") for each in ("memory", "cpu", "pids", "cpuset", "unified")}
V1 = {each: Hierarchy(1, f"/sys/fs/cgroup/{each}/dolium") for each in ("memory", "cpu", "pids", "cpuset")}
PASSED = {0: 7, 3: 11, 249: 5}


def options(argv: list[str], env: dict[str, str], **fields: Any) -> config.Options:
    found = config.Options()
    found.argv, found.env = argv, env
    for name, value in fields.items():
        setattr(found, name, value)
    return found


def specification(name: str, facts: Facts, chosen: config.Options) -> dict[str, Any]:
    return config.specification(name, chosen, rootfs.Rootfs("./x", "overlay", "/srv/x"), facts)


def meaning(data: bytes) -> list[dict[str, Any]]:
    """The records, with what their offsets point at; the place of a string is of no consequence."""
    _, rows = decode(data)
    for row in rows:
        row["data"] = data[row["data"] : row["data"] + row["length"]] if row["data"] else b""
        row["path"], row["path2"] = string(data, row["path"]), string(data, row["path2"])
    return rows


KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "limits": {"memory": 64 << 20, "cpus": 0.5, "pids": 10, "cpuset_cpus": "0"},
    "mounts": {"volumes": [("/srv", "/data", True)], "tmpfs": [("/scratch", ("size=1m",))], "hostname": "box"},
    "rights": {"cap_add": ["CAP_NET_ADMIN"], "no_new_privileges": False, "sysctl": {"net.core.somaxconn": "9"}, "init": True},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("controllers", [V2, V1, {}], ids=["v2", "v1", "none"])
def test_the_second_is_as_if_made_anew(kind: str, controllers: dict[str, Hierarchy]) -> None:
    fields = KINDS[kind]
    if not controllers:
        fields = {name: value for name, value in fields.items() if name not in ("memory", "cpus", "pids", "cpuset_cpus")} | {"pids": 0}
    facts = Facts(controllers=dict(controllers), id_base=1 << 20)
    first = specification("a1b2c3d4e5f6", facts, options(["sh", "-c", "secret of the first"], {"A": "1"}, **fields))
    second = specification("0f0e0d0c0b0a", facts, options(["id"], {"B": "two", "C": ""}, **fields))
    planned = plans.find(first, facts)
    assert plans.find(second, facts) is planned
    for spec in (first, second):
        data = planned.message(spec, PASSED)
        fresh = wire.encode(build.plan(spec, facts), PASSED).data
        assert meaning(data) == meaning(fresh)
        header, expected = decode(data)[0], decode(fresh)[0]
        assert header.pop("size") == len(data) and expected.pop("size") == len(fresh)
        assert header == expected
        assert planned.controllers(spec) == limits.groups(spec, facts)
        host = [step for step in build.plan(spec, facts) if step.actor == wire.HOST]
        assert [planned.renamed(step.path, spec) for step in planned.host] == [step.path for step in host]
        assert [(step.op, step.data, step.accept, step.out) for step in planned.host] == [
            (step.op, step.data, step.accept, step.out) for step in host]  # fmt: skip
    assert b"secret" not in planned.message(second, PASSED) and b"a1b2c3d4e5f6" not in planned.message(second, PASSED)


@pytest.mark.parametrize("change", [
    {"memory": 65 << 20}, {"cwd": "/tmp"}, {"read_only": True}, {"volumes": [("/srv", "/other", True)]}, {"hostname": "other"},
    {"seccomp": "unconfined"}, {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW"}}, {"cap_drop": ["CAP_CHOWN"]}, {"network": "host"}],
    ids=str)  # fmt: skip
def test_whatever_differs_has_a_plan_of_its_own(change: dict[str, Any]) -> None:
    facts = Facts(controllers=dict(V2), id_base=1 << 20)
    one = specification("a1b2c3d4e5f6", facts, options(["id"], {}, memory=64 << 20))
    other = specification("0f0e0d0c0b0a", facts, options(["id"], {}, **({"memory": 64 << 20} | change)))
    assert plans.find(one, facts) is not plans.find(other, facts)


def test_other_ids_and_other_facts() -> None:
    facts = Facts(controllers=dict(V2))
    chosen = options(["id"], {}, memory=64 << 20)
    found = [plans.find(specification("a1b2c3d4e5f6", each, chosen), each)
             for each in (facts.with_ids(1 << 20), facts.with_ids(2 << 20), facts, Facts(controllers=dict(V2)))]  # fmt: skip
    assert len({*map(id, found)}) == 4
    assert plans.find(specification("0f0e0d0c0b0a", facts, chosen), facts) is found[2]


def test_a_bad_command_is_refused_also_the_second_time() -> None:
    facts = Facts(controllers=dict(V2), id_base=1 << 20)
    plans.find(specification("a1b2c3d4e5f6", facts, options(["id"], {})), facts)
    bad = specification("0f0e0d0c0b0a", facts, options(["id\0"], {}))
    with pytest.raises(SpecError, match=r"process\.args"):
        plans.find(bad, facts).message(bad, {})


def test_no_more_are_kept_than_said() -> None:
    facts = Facts(controllers=dict(V2), id_base=1 << 20)
    for number in range(2 * plans.MOST):
        plans.find(specification("a1b2c3d4e5f6", facts, options(["id"], {}, pids=number + 10)), facts)
        assert len(plans._kept) <= plans.MOST
