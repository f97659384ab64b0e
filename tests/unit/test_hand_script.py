"""Plans as shell scripts: bash reads them, every step is in them, no word of a request is read as anything but a word."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import invent
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolium.core import wire
from dolium.plan import build, by_hand, explain
from dolium.plan.quoting import quote

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [each.stem for each in sorted(GOLDEN.glob("*.json")) if not json.loads(each.read_text()).get("joining")]
BASH = shutil.which("bash")
needs_bash = pytest.mark.skipif(not BASH, reason="no bash here")


def script(name: str) -> tuple[str, list[wire.Step]]:
    case = json.loads((GOLDEN / f"{name}.json").read_text())
    host = invent.facts(**case["facts"])
    spec = invent.spec(host, invent.options(**case["options"]), case["image"])
    steps = build.plan(spec, host)
    return by_hand.text(steps, spec), steps


@needs_bash
@pytest.mark.parametrize("name", CASES)
def test_bash_can_read_it(name: str) -> None:
    text, steps = script(name)
    done = subprocess.run([str(BASH), "-n"], input=text.encode("utf-8", "surrogateescape"), capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    for number, step in explain.numbered(steps):
        if not step.is_part:
            assert f"# {number:3} " in text, step.what
    assert text.startswith("#!/bin/bash\n") and "None" not in text


@pytest.mark.parametrize("name", CASES)
def test_every_step_has_a_command_or_says_why_not(name: str) -> None:
    text, steps = script(name)
    blocks = text.split("\n    # ") + text.split("\n# ")
    for step in steps:
        head = explain.fit(f"{step.what}: {step.note}")[:40]
        assert any(head in each and len(each.splitlines()) > 1 for each in blocks), step.what


@needs_bash
@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_words_stay_words(words: list[str]) -> None:
    line = "printf '%s\\0' " + " ".join(map(quote, words))
    done = subprocess.run([str(BASH), "-c", line], capture_output=True, check=True, env={"LANG": "C.UTF-8"})
    assert done.stdout == b"".join(each.encode() + b"\0" for each in words)
