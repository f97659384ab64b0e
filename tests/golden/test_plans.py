"""NAME.json, a request on an invented host, gives exactly NAME.plan.

The plan is shown twice: as `dolium explain --verbose` prints it, and as numbers, so that a changed flag of a mount is one
changed line.  With `joining` it is the plan of one more process in such a container; with `config` that of an engine's config.json.  `DOLIUM_GOLDEN=write pytest tests/golden` writes the files anew; read the difference before committing it.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

import invent
import pytest

from dolium.core.wire import NONE, Step
from dolium.engine import config
from dolium.plan import build, explain, joining

HERE = Path(__file__).parent
CASES = sorted(each.stem for each in HERE.glob("*.json"))
WRITE = os.environ.get("DOLIUM_GOLDEN") == "write"


def show(data: bytes, op: str) -> str:
    """Data on one line; a filter's is only counted, its own tests know it."""
    if op in ("seccomp", "read_file", "device_filter"):
        return f"{len(data)} bytes"
    if op in ("sync", "become", "call", "caps"):
        return data.hex(" ")
    return ascii(data.decode("utf-8", "surrogateescape"))


def numbers(number: int, step: Step) -> str:
    """All that an actor reads of a step, on one line."""
    words = [f"{number:3}", explain.LETTER[step.actor], step.op]
    for name in ("path", "path2"):
        if text := getattr(step, name):
            words.append(f"{name}={text!a}")
    for name in ("fd", "fd2", "out"):
        if (value := getattr(step, name)) != NONE:
            words.append(f"{name}={value}")
    for name in ("n1", "n2", "n3"):
        if value := getattr(step, name):
            words.append(f"{name}={value:#x}" if value > 9 else f"{name}={value}")
    if step.accept:
        words.append(f"accept={','.join(map(str, step.accept))}")
    if step.data:
        words.append(f"data={show(step.data, step.op)}")
    if step.other:
        words += [f"on={step.on}", "else", numbers(number, step.other)]
    return " ".join(words) + f"  <- {step.why}"


def render(case: dict[str, object]) -> str:
    host = invent.facts(**case["facts"])  # type: ignore[arg-type]
    image = str(case["image"])
    if "config" in case:
        spec = invent.bundle(case["config"])  # type: ignore[arg-type]
        steps = build.plan(spec, host)
    elif case.get("joining"):
        spec = config.another(invent.NAME, invent.options(**case["options"]), invent.rootfs(image), host)  # type: ignore[arg-type]
        steps = joining.plan(spec, host)
    else:
        spec = invent.spec(host, invent.options(**case["options"]), image)  # type: ignore[arg-type]
        steps = build.plan(spec, host)
    people = explain.text(steps, spec, image, str(case.get("note", "")), parts=True)
    return people + "\nNUMBERS\n" + "".join(numbers(number, step) + "\n" for number, step in explain.numbered(steps))


@pytest.mark.parametrize("name", CASES)
def test_plan(name: str) -> None:
    case = json.loads((HERE / f"{name}.json").read_text())
    found, path = render(case), HERE / f"{name}.plan"
    if WRITE:
        path.write_text(found)
        return
    wanted = path.read_text()
    if found != wanted:
        lines = difflib.unified_diff(wanted.splitlines(), found.splitlines(), path.name, "now", lineterm="", n=1)
        pytest.fail(f"the plan for {case['about']} has changed; DOLIUM_GOLDEN=write writes it anew\n" + "\n".join(lines),
                    pytrace=False)  # fmt: skip


def test_every_plan_has_its_case() -> None:
    assert CASES
    assert sorted(each.stem for each in HERE.glob("*.plan")) == CASES
