"""All lessons, each with the page of one step that it is for: lessons.txt, to be read from the first line to the last."""

from __future__ import annotations

import json
import os
from pathlib import Path

import invent
import pytest

from dolium.engine import config
from dolium.plan import build, explain, joining, lessons, one_step

HERE = Path(__file__).parent


def test_the_lessons() -> None:
    pages: dict[str, str] = {}
    for path in sorted(HERE.glob("*.json")):
        case = json.loads(path.read_text())
        host, options = invent.facts(**case["facts"]), invent.options(**case["options"])
        if case.get("joining"):
            spec = config.another(invent.NAME, options, invent.rootfs(case["image"]), host)
            steps = joining.plan(spec, host)
        else:
            spec = invent.spec(host, options, case["image"])
            steps = build.plan(spec, host)
        for number, step in explain.numbered(steps):
            if not step.is_part:
                pages.setdefault(lessons.of(step).key, f"# {path.stem}\n{one_step.text(steps, number, spec)}")
    order = [key for key in lessons.every() if key in pages]
    found = "\n".join(f"## {key}\n{pages[key]}" for key in order)
    path = HERE / "lessons.txt"
    if os.environ.get("DOLIUM_GOLDEN") == "write":
        path.write_text(found)
    elif path.read_text() != found:
        pytest.fail("the lessons have changed; `make golden` writes them anew", pytrace=False)
