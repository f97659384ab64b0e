"""Two plans compared: what differs, what it means, and a plan that was kept."""

from __future__ import annotations

import json
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import invent
import pytest

from dolium.core import wire
from dolium.engine import config
from dolium.errors import UsageError
from dolium.plan import build, capabilities, differences, explain, joining, judgements, lessons, saved
from dolium.plan.judgements import FOLLOWS, NEUTRAL, TIGHTER, UNCLEAR, WEAKER

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = sorted(each.stem for each in GOLDEN.glob("*.json"))
V2, HYBRID = invent.facts(id_base=invent.RANGE), invent.facts("hybrid", id_base=invent.RANGE)
PLAIN = invent.facts("none", rootless=True, uid=1000, gid=1000)
SHARED = invent.facts()


def planned(host: invent.Facts = V2, **fields: Any) -> list[wire.Step]:
    return build.plan(invent.spec(host, invent.options(**fields)), host)


def compared(before: list[wire.Step], after: list[wire.Step]) -> list[differences.Difference]:
    return differences.between(before, after, (invent.NAME, invent.NAME))


def said(before: list[wire.Step], after: list[wire.Step]) -> set[tuple[str, str]]:
    return {(each.verdict, each.why) for each in compared(before, after) if each.verdict != FOLLOWS}


M = 1 << 20
FILTER = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read", "write", "openat2"], "action": "SCMP_ACT_ALLOW"}]}
PAIRS: list[tuple[dict[str, Any], dict[str, Any], set[tuple[str, str]]]] = [
    ({}, {"memory": 64 * M}, {(TIGHTER, "memory is bounded"), (TIGHTER, "swap is bounded")}),
    ({"memory": 64 * M}, {"memory": 128 * M}, {(WEAKER, "more memory")}),
    ({"memory": 64 * M}, {"memory": 64 * M, "memory_swap": 128 * M}, {(WEAKER, "more swap")}),
    ({"memory": 64 * M, "memory_swap": -1}, {"memory": 64 * M}, {(TIGHTER, "less swap")}),
    ({"cpus": 0.5}, {"cpus": 2.0}, {(WEAKER, "more CPU time")}),
    ({"cpus": 0.5}, {}, {(WEAKER, "CPU time is not bounded any more")}),
    ({}, {"cpu_weight": 10}, {(NEUTRAL, "its share when CPUs are scarce")}),
    ({"cpuset_cpus": "0-3"}, {"cpuset_cpus": "1"}, {(TIGHTER, "less CPUs")}),
    ({}, {"pids": 10}, {(TIGHTER, "less processes")}),
    ({}, {"pids": -1}, {(WEAKER, "the number of processes is not bounded any more")}),
    ({}, {"ulimits": [("RLIMIT_NOFILE", 10, 10)]}, {(NEUTRAL, "instead of what whoever starts dolium has")}),
    ({"ulimits": [("RLIMIT_NOFILE", 10, 10)]}, {"ulimits": [("RLIMIT_NOFILE", 10, 20)]}, {(WEAKER, "more nofile")}),
    ({"ulimits": [("RLIMIT_CORE", 0, 2**64 - 1)]}, {"ulimits": [("RLIMIT_CORE", 0, 0)]}, {(TIGHTER, "less core")}),
    ({}, {"network": "host"}, {(WEAKER, "it shares the host's network")}),
    ({}, {"network": "container:a"}, {(WEAKER, "it shares somebody's network"), (WEAKER, "it shares the host's network")}),
    ({}, {"network": "bridge"}, {(WEAKER, "it reaches this host, its neighbours and what is beyond"),
                                 (NEUTRAL, "a setting of its own namespaces only")}),
    ({}, {"time_namespace": True}, {(TIGHTER, "its own clocks since boot")}),
    ({}, {"volumes": [("/srv", "/data", True)]}, {(WEAKER, "the host's /srv can be read")}),
    ({}, {"volumes": [("/srv", "/data", False)]}, {(WEAKER, "the host's /srv can be read and written")}),
    ({"volumes": [("/srv", "/data", True)]}, {"volumes": [("/srv", "/data", False)]}, {(WEAKER, "it can be written now")}),
    ({"volumes": [("/srv", "/data", False)]}, {}, {(TIGHTER, "the host's /srv is not shown")}),
    ({}, {"tmpfs": [("/x", ())]}, {(NEUTRAL, "files in memory, its own")}),
    ({}, {"read_only": True}, {(TIGHTER, "nothing can be written in its root")}),
    ({}, {"mask": ["/proc/version"]}, {(TIGHTER, "hidden: /proc/version")}),
    ({}, {"unmask": ["/proc/kcore", "/proc/sys"]},
     {(WEAKER, "no longer hidden: /proc/kcore"), (WEAKER, "no longer read-only: /proc/sys")}),
    ({}, {"no_new_privileges": False}, {(WEAKER, "setuid programs give rights again")}),
    ({}, {"cap_drop": ["CAP_NET_RAW"]}, {(TIGHTER, "takes NET_RAW")}),
    ({}, {"seccomp": "unconfined"}, {(WEAKER, "every system call of the kernel can be made")}),
    ({"seccomp": FILTER}, {"seccomp": "unconfined"}, {(WEAKER, "every system call of the kernel can be made")}),
    ({"user": {"uid": 5, "gid": 5}}, {}, {(WEAKER, "root inside")}),
    ({}, {"hostname": "box"}, {(NEUTRAL, "its name"), (NEUTRAL, "another program, or other words or variables")}),
    ({}, {"argv": ["id"]}, {(NEUTRAL, "another program, or other words or variables")}),
    ({}, {"init": True}, {(NEUTRAL, "who is process 1")}),
    ({}, {"cwd": "/srv"}, {(NEUTRAL, "where the program starts"), (NEUTRAL, "another program, or other words or variables")}),
    ({}, {"oom_score_adj": 500}, {(NEUTRAL, "who dies first for want of memory")}),
    ({}, {"sysctl": {"net.core.somaxconn": "5"}}, {(NEUTRAL, "a setting of its own namespaces only")}),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "wanted"), PAIRS, ids=[f"{before}-{after}" for before, after, _ in PAIRS])
@pytest.mark.parametrize("host", [V2, HYBRID], ids=["v2", "hybrid"])
def test_what_a_difference_means(host: invent.Facts, before: dict[str, Any], after: dict[str, Any],
                                 wanted: set[tuple[str, str]]) -> None:  # fmt: skip
    found = said(planned(host, **before), planned(host, **after))
    if host is HYBRID:  # cgroup v1 counts swap with the memory
        both, alone = "memory and swap together", before.get("memory") == after.get("memory")
        found = {(kind, why) for kind, why in found if why != f"more {both}" or alone}
        wanted = {(kind, why.replace("more swap", f"more {both}").replace("less swap", f"less {both}")) for kind, why in wanted}
    if "cwd" in after:
        wanted = {each for each in wanted if each in found}
    if "user" in before:
        assert wanted <= found and not {kind for kind, _ in found} & {TIGHTER, UNCLEAR}
    else:
        assert found == wanted


def test_capabilities_have_their_prices() -> None:
    assert (WEAKER, "adds SYS_ADMIN: mount, setns, most of root") in said(planned(), planned(cap_add=["CAP_SYS_ADMIN"]))
    filters = [why for kind, why in said(planned(), planned(cap_add=["CAP_SYS_ADMIN"])) if why.startswith("allows ")]
    assert len(filters) == 1 and " and " in filters[0]
    both = said(planned(), planned(cap_add=["CAP_SYS_TIME"], cap_drop=["CAP_CHOWN"]))
    assert (WEAKER, "adds SYS_TIME: setting the clock, which is the host's; takes CHOWN") in both
    assert {*judgements.PRICES} == {*capabilities.NUMBERS}


def test_users_of_the_host() -> None:
    found = said(planned(), planned(SHARED))
    assert {(WEAKER, "root inside is root outside"), (WEAKER, "it shares the host's users")} <= found
    assert (TIGHTER, "its own users") in said(planned(SHARED), planned())


def test_devices() -> None:
    device = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666, "uid": 0, "gid": 0,
              "source": "/dev/fuse"}  # fmt: skip
    for host in (V2, PLAIN):
        spec = invent.spec(host, invent.options())
        plain = build.plan(spec, host)
        spec["linux"]["devices"] = [device]
        found = said(plain, build.plan(spec, host))
        assert (WEAKER, "the host's device /dev/fuse can be used") in found, found


def test_other_answers_of_a_filter_are_unclear() -> None:
    other = {**FILTER, "defaultErrnoRet": 2}
    found = said(planned(seccomp=FILTER), planned(seccomp=other))
    assert [kind for kind, _ in found] == [UNCLEAR]
    assert said(planned(seccomp=FILTER), planned(seccomp={**FILTER})) == set()


VARIANTS: list[dict[str, Any]] = [{}, *(after for _, after, _ in PAIRS), {"cap_add": ["ALL"]}, {"cap_drop": ["ALL"]}]


def test_there_and_back() -> None:
    """What is weaker one way is tighter the other way; nothing differs from itself; nothing is unclear."""
    plans = [planned(**each) for each in VARIANTS]
    opposite = {WEAKER: TIGHTER, TIGHTER: WEAKER}
    for one, other in [*product(plans[:1], plans), *pairwise(plans)]:
        there, back = compared(one, other), compared(other, one)
        assert len(there) == len(back)
        if one is other:
            assert there == []
        for first, second in zip(sorted(there, key=order), sorted(back, key=order), strict=True):
            if first.key not in ("bounds", "caps", "seccomp", "mask", "read_only"):
                assert second.verdict == opposite.get(first.verdict, first.verdict), (first.key, first.why, second.why)
            assert first.verdict != UNCLEAR, (first.key, first.why)
        text = differences.text(there, 50, {"asked": set()}, "the other")
        assert max(map(explain.columns, text.splitlines())) <= 80


def order(each: differences.Difference) -> tuple[str, str]:
    return each.key, (each.after or each.before)[0].path + (each.after or each.before)[0].what


@pytest.mark.parametrize("name", CASES)
def test_every_step_that_is_gone_or_new_has_a_verdict(name: str) -> None:
    for step in golden(name):
        if not step.is_part:
            key = lessons.of(step).key
            assert key in judgements.TABLE or key.split()[0] in judgements.TABLE or step.op in ("join", "born", "clone"), key


def golden(name: str) -> list[wire.Step]:
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    host, options = invent.facts(**case["facts"]), invent.options(**case["options"])
    if case.get("joining"):
        return joining.plan(config.another(invent.NAME, options, invent.rootfs(case["image"]), host), host)
    return build.plan(invent.spec(host, options, case["image"]), host)


@pytest.mark.parametrize(("before", "after", "ends"), [
    ({}, {}, "No step of 50 differs from x in what it means."),
    ({}, {"cap_drop": ["CAP_KILL"]}, "1 of 50 steps differs, and 1 that follow from that; it tightens the container."),
    ({"read_only": True}, {}, "1 of 50 steps differs; it weakens the container."),
    ({}, {"network": "host", "read_only": True}, "weigh them yourself."),
    ({}, {"hostname": "box"}, "mean something else, not more or less."),
])  # fmt: skip
def test_it_ends_in_a_verdict(before: dict[str, Any], after: dict[str, Any], ends: str) -> None:
    text = differences.text(compared(planned(**before), planned(**after)), 50, {"asked": set()}, "x")
    assert text.endswith(ends + "\n") or " ".join(text.split()).endswith(ends), text


# What is kept

@pytest.mark.parametrize("name", CASES)
def test_what_is_kept_is_read_again(name: str) -> None:
    steps = golden(name)
    spec = {"linux": {"cgroupsPath": f"/dolium/{invent.NAME}"}, "dolium": {"asked": set()}}
    document = json.loads(json.dumps(saved.document("x", ["a note"], steps, spec)))
    assert (document["kind"], document["format"], document["id"]) == ("dolium plan", 1, invent.NAME)
    found = saved.read(document, "file")
    assert wire.encode(found.steps, {}).data == wire.encode(steps, {}).data
    assert [(each.what, each.note, each.why, each.chapter, each.is_part) for each in found.steps] == [
        (each.what, each.note, each.why, each.chapter, each.is_part) for each in steps]  # fmt: skip
    assert compared(found.steps, steps) == []


def test_the_name_is_no_difference() -> None:
    ours, theirs = (build.plan(config.specification(name, invent.options(), invent.rootfs("/srv"), V2), V2)
                    for name in ("012345678901", "abcdefabcdef"))  # fmt: skip
    assert differences.between(ours, theirs, ("012345678901", "abcdefabcdef")) == []
    assert differences.between(ours, theirs, ("x" * 12, "y" * 12)) != []


def whole() -> dict[str, Any]:
    spec = invent.spec(V2, invent.options())
    document: dict[str, Any] = saved.document("x", [], build.plan(spec, V2), spec)
    return document


@pytest.mark.parametrize(("change", "says"), [
    (lambda found: [], "`file` is no saved plan"),
    (lambda found: "text", "`file` is no saved plan"),
    (lambda found: {**found, "kind": "else"}, "`file` is no saved plan"),
    (lambda found: {**found, "format": 2}, "`file` is a plan in format 2, and this dolium reads format 1"),
    (lambda found: {**found, "format": None}, "`file` is a plan in format None, and this dolium reads format 1"),
    (lambda found: {**found, "steps": []}, "`file` is damaged"),
    (lambda found: {**found, "steps": 5}, "`file` is damaged"),
    (lambda found: {**found, "id": 5}, "`file` is damaged"),
    (lambda found: {key: value for key, value in found.items() if key != "id"}, "`file` is damaged"),
    (lambda found: {**found, "steps": [{**found["steps"][0], "raw": {}}]}, "`file` is damaged"),
    (lambda found: {**found, "steps": [{**found["steps"][0], "chapter": "NONE"}]}, "`file` is damaged"),
    (lambda found: {**found, "steps": [{**found["steps"][0], "raw": {**found["steps"][0]["raw"], "data": "xy"}}]}, "is damaged"),
    (lambda found: {**found, "steps": [{**found["steps"][0], "raw": {**found["steps"][0]["raw"], "n1": "1"}}]}, "is damaged"),
    (lambda found: {**found, "steps": [{**found["steps"][0], "part": True}]}, "is damaged"),
])  # fmt: skip
def test_files_that_are_no_plan(change: Any, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        saved.read(change(whole()), "file")
    assert says in str(caught.value) and caught.value.hint
