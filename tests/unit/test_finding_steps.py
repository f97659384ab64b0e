"""Steps by what they are called."""

from __future__ import annotations

import invent
import pytest

from dolium.plan import build, explain, finding_steps

HOST = invent.facts(id_base=invent.RANGE)
SPEC = invent.spec(HOST, invent.options(memory=64 << 20))
STEPS = build.plan(SPEC, HOST)


@pytest.mark.parametrize(("word", "ops"), [
    ("pivot_root", {"pivot_root"}),
    ("memory.max", {"set_limit"}),
    ("MS_NOSUID", set()),
    ("cap", {"bounds", "caps"}),
    ("CLONE_INTO_CGROUP", {"clone"}),
    ("linux.resources.memory.limit", {"set_limit"}),
])  # fmt: skip
def test_a_word(word: str, ops: set[str]) -> None:
    found = finding_steps.named(STEPS, word)
    assert {step.op for number, step in explain.numbered(STEPS) if number in found and not step.is_part} >= ops
    assert bool(found) == bool(ops) and found == sorted(set(found)) and found == finding_steps.named(STEPS, word.upper())


def test_the_list_fits_a_terminal() -> None:
    text = finding_steps.listed(STEPS, finding_steps.named(STEPS, "mount"), "`mount`", SPEC)
    assert all(len(line) <= 80 for line in text.splitlines()) and len(text.splitlines()) > 5
