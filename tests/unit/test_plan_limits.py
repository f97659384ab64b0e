"""Which file of which cgroup version gets which number; and what a host that has not got it answers."""

from __future__ import annotations

import math
from typing import Any

import invent
import pytest

from dolium.core.wire import HOST, INSIDE, NONE, Step
from dolium.errors import SpecError, Unsupported
from dolium.plan import build, limits
from dolium.plan.facts import Facts

MIB = 1 << 20


def host(cgroups: str, **fields: Any) -> Facts:
    return invent.facts(cgroups, id_base=0 if fields.get("rootless") else invent.RANGE, **fields)


def files(cgroups: str, **options: Any) -> dict[str, str]:
    """file -> what is written, without the directory."""
    options.setdefault("pids", -1)
    steps = invent.plan(host(cgroups), **options)
    written = [step for step in steps if step.op == "set_limit"]
    assert all(step.actor == HOST for step in written)
    found = {step.path.rpartition("/")[2]: step.data.decode() for step in written}
    assert len(found) == len(written), "no file is written twice"
    for step in written:
        where = step.path.split("/")
        assert where[-2] == invent.NAME
        if cgroups != "v2":
            assert where[-4] == where[-1].partition(".")[0], f"{step.path}: the controller's own hierarchy"
    return found


LIMITS: list[tuple[dict[str, Any], dict[str, str], dict[str, str]]] = [
    ({"memory": 64 * MIB}, {"memory.max": "67108864", "memory.swap.max": "0", "memory.oom.group": "1"},
     {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "67108864"}),
    ({"memory": 64 * MIB, "memory_swap": 96 * MIB}, {"memory.max": "67108864", "memory.swap.max": "33554432", "memory.oom.group": "1"},
     {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "100663296"}),
    ({"memory": 64 * MIB, "memory_swap": -1}, {"memory.max": "67108864", "memory.swap.max": "max", "memory.oom.group": "1"},
     {"memory.limit_in_bytes": "67108864", "memory.memsw.limit_in_bytes": "-1"}),
    ({"cpus": 0.5}, {"cpu.max": "50000 100000"}, {"cpu.cfs_quota_us": "50000"}),
    ({"cpus": 2.25}, {"cpu.max": "225000 100000"}, {"cpu.cfs_quota_us": "225000"}),
    ({"cpu_weight": 1}, {"cpu.weight": "1"}, {"cpu.shares": "10"}),
    ({"cpu_weight": 10000}, {"cpu.weight": "10000"}, {"cpu.shares": "102400"}),
    ({"cpu_shares": 1024}, {"cpu.weight": "100"}, {"cpu.shares": "1024"}),
    ({"cpu_shares": 2}, {"cpu.weight": "1"}, {"cpu.shares": "2"}),
    ({"cpuset_cpus": "0-2,4"}, {"cpuset.cpus": "0-2,4"}, {"cpuset.cpus": "0-2,4", "cpuset.mems": "0"}),
    ({"pids": 100}, {"pids.max": "100"}, {"pids.max": "100"}),
    ({"pids": None}, {"pids.max": "2048"}, {"pids.max": "2048"}),
    ({"pids": -1}, {}, {}), ({"pids": 0}, {}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("options", "v2", "v1"), LIMITS, ids=lambda value: "-".join(value) if isinstance(value, dict) else "")
def test_files(options: dict[str, Any], v2: dict[str, str], v1: dict[str, str]) -> None:
    assert files("v2", **options) == v2
    assert files("hybrid", **options) == v1
    assert files("v1", **options) == v1


def test_order_within_v1() -> None:
    """memory before memory and swap together, or the kernel refuses it; nodes before CPUs."""
    steps = invent.plan(host("v1"), memory=MIB, cpuset_cpus="0")
    names = [step.path.rpartition("/")[2] for step in steps if step.op == "set_limit"]
    assert names.index("memory.limit_in_bytes") < names.index("memory.memsw.limit_in_bytes")
    assert names.index("cpuset.mems") < names.index("cpuset.cpus")


def test_swap_that_was_not_asked_for_may_be_uncounted() -> None:
    def swap(**options: Any) -> Step:
        return next(step for step in invent.plan(host("v2"), memory=MIB, **options) if step.path.endswith("memory.swap.max"))

    assert swap().accept == (2,)
    assert swap(memory_swap=2 * MIB).accept == ()


def test_a_period_of_its_own() -> None:
    for cgroups, wanted in (("v2", {"cpu.max": "1000 5000"}), ("v1", {"cpu.cfs_period_us": "5000", "cpu.cfs_quota_us": "1000"})):
        facts = host(cgroups)
        spec = invent.spec(facts, invent.options(pids=-1))
        spec["linux"]["resources"]["cpu"] = {"quota": 1000, "period": 5000}
        steps = [step for step in build.plan(spec, facts) if step.op == "set_limit"]
        assert {step.path.rpartition("/")[2]: step.data.decode() for step in steps} == wanted
        assert [*wanted] == [step.path.rpartition("/")[2] for step in steps], "the period first"


def test_oom_is_watched_on_v1_alone() -> None:
    for cgroups, count in (("v2", 0), ("hybrid", 1), ("v1", 1)):
        steps = invent.plan(host(cgroups), memory=MIB)
        watched = [step for step in steps if step.op == "watch_oom"]
        assert len(watched) == count
        assert [b"oom={2}" in step.data for step in steps if step.op == "keep"] == [bool(count)]
    assert not [step for step in invent.plan(host("v1")) if step.op == "watch_oom"]


def test_groups_are_made_where_they_are_needed() -> None:
    def made(cgroups: str, **options: Any) -> list[str]:
        return [step.path for step in invent.plan(host(cgroups), pids=-1, **options) if step.op == "make_group"]

    assert made("v2") == [f"/sys/fs/cgroup/dolium/{invent.NAME}"]
    assert made("v1") == made("none") == []
    assert made("hybrid") == [f"/sys/fs/cgroup/unified/dolium/{invent.NAME}"]
    assert made("v1", memory=MIB, cpus=1) == [f"/sys/fs/cgroup/{each}/dolium/{invent.NAME}" for each in ("cpu", "memory")]


@pytest.mark.parametrize(("options", "flag", "controller"), [
    ({"memory": MIB}, "--memory", "memory"), ({"cpus": 1.0}, "--cpus", "cpu"), ({"cpu_weight": 5}, "--cpu-weight", "cpu"),
    ({"cpu_shares": 5}, "--cpu-shares", "cpu"),
    ({"cpuset_cpus": "0"}, "--cpuset-cpus", "cpuset"), ({"pids": 5}, "--pids-limit", "pids")])  # fmt: skip
@pytest.mark.parametrize("cgroups", ["none", "counting"])
def test_what_cannot_be_enforced_is_an_error(options: dict[str, Any], flag: str, controller: str, cgroups: str) -> None:
    facts = host(cgroups, no_controllers=("it is a test", "mend it so"))
    with pytest.raises(Unsupported) as caught:
        invent.plan(facts, **{"pids": -1, **options})
    assert caught.value.feature == flag and f"`{controller}`" in caught.value.missing and "it is a test" in caught.value.missing
    assert caught.value.hint == f"mend it so; `dolium doctor cgroup-{controller}` says more"


def rlimits(facts: Facts, **options: Any) -> list[tuple[int, int, int]]:
    steps = [step for step in invent.plan(facts, **options) if step.op == "rlimit"]
    assert all(step.actor == INSIDE for step in steps)
    return [(step.n1, step.n2, step.n3) for step in steps]


def test_rlimits() -> None:
    import resource

    assert rlimits(host("v2")) == []
    assert rlimits(host("v2"), ulimits=[("RLIMIT_NOFILE", 5, 6), ("RLIMIT_CORE", 0, (1 << 64) - 1)]) == [
        (resource.RLIMIT_NOFILE, 5, 6), (resource.RLIMIT_CORE, 0, -1)]  # fmt: skip
    for name, number in limits.RESOURCES.items():
        assert getattr(resource, name, number) == number, name


def test_an_unknown_rlimit() -> None:
    with pytest.raises(SpecError) as caught:
        invent.plan(host("v2"), ulimits=[("RLIMIT_CORE", 0, 0), ("RLIMIT_LUCK", 0, 0)])
    assert caught.value.path == "process.rlimits[1].type" and "RLIMIT_LUCK" in caught.value.problem


def test_a_plain_users_processes() -> None:
    """Without cgroups RLIMIT_NPROC stands in, where it is counted per user namespace; with them it does not."""
    plain: dict[str, Any] = {"rootless": True, "uid": 1000, "gid": 1000}
    assert rlimits(host("none", **plain), pids=50) == [(6, 50, 50)]
    assert rlimits(host("none", **plain)) == [(6, 2048, 2048)]
    assert rlimits(host("none", **plain), pids=-1) == []
    assert rlimits(host("v2", **plain), pids=50) == []
    with pytest.raises(Unsupported):
        rlimits(host("none", kernel=(5, 13), **plain), pids=50)
    assert rlimits(host("none", kernel=(5, 13), **plain)) == []


def test_a_limit_that_only_root_has_on_this_host() -> None:
    """No cgroup that systemd delegates has it then, and the hint does not send anybody there."""
    plain = host("none", rootless=True, uid=1000, gid=1000, hierarchies={"memory": (1, "/sys/fs/cgroup/memory")})
    with pytest.raises(Unsupported, match="on cgroup v1, which only root may use") as caught:
        invent.plan(plain, memory=64 * MIB)
    assert caught.value.hint == "run it as root; `dolium doctor cgroup-memory` says more"


def test_the_processes_of_root_without_cgroups() -> None:
    """copy_process() in the kernel's fork.c lets root of the first user namespace pass: nothing may claim to limit it."""
    with pytest.raises(Unsupported, match="nothing limits the processes of root"):
        rlimits(host("none", rootless=True, exempt=True), pids=50)
    assert rlimits(host("none", rootless=True, exempt=True)) == []


@pytest.mark.parametrize("shares", [2, 3, 10, 512, 1000, 1023, 1024, 1025, 2048, 100000, 262143, 262144])
def test_shares_to_weight(shares: int) -> None:
    """ceil(10 ** ((l * l + 125 * l) / 612 - 7 / 34)), l = log2(shares)"""
    exact = 10 ** ((math.log2(shares) ** 2 + 125 * math.log2(shares)) / 612 - 7 / 34)
    assert limits.shares_to_weight(shares) in {math.ceil(exact - 1e-9), math.ceil(exact)}
    assert isinstance(limits.shares_to_weight(shares), int)


def test_shares_to_weight_at_its_fixed_points() -> None:
    assert [limits.shares_to_weight(each) for each in (0, 1, 2, 1024, 262144, 1 << 30)] == [1, 1, 1, 100, 10000, 10000]
    weights = [limits.shares_to_weight(each) for each in range(2, 262145, 97)]
    assert weights == sorted(weights) and weights[0] == 1 and max(weights) <= 10000


def test_born_inside_its_group() -> None:
    for cgroups, slot in (("v2", 0), ("hybrid", 0), ("counting", 0), ("v1", NONE), ("none", NONE)):
        steps = invent.plan(host(cgroups), pids=-1)
        assert [step.fd for step in steps if step.op == "clone"] == [slot], cgroups
