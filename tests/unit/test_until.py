"""The beginnings of a plan: what is left out, and what takes the next step's place."""

from __future__ import annotations

import invent
import pytest

from dolium.core import wire
from dolium.engine import config
from dolium.plan import build, explain, slots, timed, until

HOSTS = [invent.facts(id_base=invent.RANGE), invent.facts("hybrid", id_base=invent.RANGE), invent.facts("v1"),
         invent.facts("none", rootless=True, uid=1000, gid=1000)]  # fmt: skip


def made(host: invent.Facts, **fields: object) -> tuple[list[wire.Step], dict[str, object]]:
    options: config.Options = invent.options(**fields)
    spec = invent.spec(host, options)
    return build.plan(spec, host), spec


def wanted(host: invent.Facts) -> dict[str, object]:
    return {} if host.rootless else {"memory": 64 << 20, "cpus": 0.5, "network": "bridge"}


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("init", [False, True])
def test_what_a_step_names_was_filled_before(host: invent.Facts, init: bool) -> None:
    """Wherever one stops, dolium-keep gets only what is there, and what is done is a beginning of the plan."""
    steps, spec = made(host, init=init, **wanted(host))
    given = {slots.LEASE, slots.KEEP, slots.RECORD}
    for number in range(1, until.last(steps) + 1):
        begun = until.first(steps, number)
        assert begun == steps[: len(begun)] and explain.numbered(begun)[-1][0] == number
        alone = until.alone(steps, number)  # a child that had ended would be gone before outside has looked at it
        assert alone[: len(begun)] == begun and [(each.op, each.actor, each.is_part) for each in alone[len(begun) :]] == (
            [("sync", wire.BOTH, True)] if any(each.op == "clone" for each in begun) else [])  # fmt: skip
        whole = until.shell(steps, number, spec, "dumb")
        assert whole[: len(begun)] == begun and [each.op for each in whole[-2:]] == ["exec", "keep"]
        filled = {each.out for each in begun} | given
        named = {int(word.partition("{")[2].strip("}")) for word in whole[-1].data.decode().split("\0") if "={" in word}
        assert named <= filled
        made_groups = {each.path for each in begun if each.op == "make_group"}
        assert {word[6:] for word in whole[-1].data.decode().split("\0") if word.startswith("group=")} == made_groups
        for op in ("clone", "reset", "die_with", "umask"):
            assert sum(each.op == op for each in whole) == 1, op
        born = next(index for index, each in enumerate(whole) if each.op == "clone")
        assert not [each for each in whole[:born] if each.actor in (wire.INSIDE, wire.BOTH)]
        assert wire.encode(whole, {})  # it can be sent


def test_the_last_place_to_stop_is_before_the_program() -> None:
    steps, _ = made(HOSTS[0])
    following = [each for number, each in explain.numbered(steps) if number == until.last(steps) + 1]
    assert [each.op for each in following] == ["exec"]


def test_the_shell_has_the_environment_of_where_it_is() -> None:
    steps, spec = made(HOSTS[0], env={"PATH": "/opt", "A": "1"})
    pivot = next(number for number, each in explain.numbered(steps) if each.op == "pivot_root")
    before, after = (until.shell(steps, number, spec, "vt100")[-2].data.decode().split("\0") for number in (pivot - 1, pivot))
    assert {"A=1", "TERM=vt100", f"PS1=after step {pivot} # ", "PATH=/opt"} <= {*after}
    assert "PATH=/opt" not in before and f"PS1=after step {pivot - 1} # " in before


def test_times_are_added_up() -> None:
    steps, spec = made(HOSTS[1], memory=64 << 20)
    times = [1_000_000 if each.op == "pivot_root" else 100_000_000 if each.op in ("sync", "keep") else 1000 for each in steps]
    text = timed.text("Done.", steps, spec, times)  # type: ignore[arg-type]
    assert max(map(explain.columns, text.splitlines())) <= 80
    lines = text.splitlines()
    assert next(line for line in lines if " pivot_root " in line).endswith("   1000")
    assert next(line for line in lines if " meet: the ids" in line).endswith("(100000)")
    assert next(line for line in lines if " exec sh " in line).endswith("  -")
    groups = sum(each.op == "make_group" for each in steps)
    assert next(line for line in lines if " mkdir cpu" in line or " mkdir memory" in line).endswith(f" {groups}.0")
    work = sum(spent for each, spent in zip(steps, times, strict=True) if each.op not in ("sync", "keep", "exec"))
    assert f"total    {work / 1e6:.2f} ms: host " in text
    assert lines[-3].startswith("dearest") and "pivot_root: 1.00 ms, " in lines[-3]


@pytest.mark.parametrize("spent", [33_000_000, 99_990_000, 99_995_000, 999_000_000])
def test_times_of_a_busy_host_fit_their_line(spent: int) -> None:
    """Of one step of each actor, and of all."""
    steps, spec = made(HOSTS[0], **wanted(HOSTS[0]))
    firsts = [next(index for index, each in enumerate(steps) if each.actor == actor) for actor in (wire.HOST, wire.OUTSIDE, wire.INSIDE)]
    for some in (firsts, range(len(steps))):
        text = timed.text("Done.", steps, spec, [spent if index in some else 0 for index in range(len(steps))])  # type: ignore[arg-type]
        assert max(map(explain.columns, text.splitlines())) <= 80, text
