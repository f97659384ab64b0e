"""The screens of `dolium explain`, each in a file NAME.screen: what a person sees, for one invented host and request."""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Callable
from pathlib import Path

import invent
import pytest

from dolium.cli import explain as command
from dolium.cli import request
from dolium.cli.explain_flags import ExplainFlags
from dolium.cli.flags import parse
from dolium.core.wire import Step
from dolium.engine import conversion, manifests
from dolium.engine.users import User
from dolium.plan import build, by_hand, differences, explain, one_step, timed, until

HERE = Path(__file__).parent
HOST = invent.facts("hybrid", id_base=invent.RANGE)
ASKED = {"memory": 64 << 20, "cpus": 0.5, "volumes": [("/srv", "/data", True)], "network": "bridge", "argv": ["sh"]}
SPEC = invent.spec(HOST, invent.options(**ASKED))
STEPS = build.plan(SPEC, HOST)
SHOWN = command.Shown("/srv/alpine", SPEC, STEPS, ["this host has no route out"])


IMAGE = manifests.parse_config(json.dumps({
    "architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}, "config": {
        "User": "33", "Env": ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"], "Entrypoint": ["/bin/serve"], "Cmd": ["--port", "80"],
        "WorkingDir": "/srv/app", "Volumes": {"/data": {}}, "StopSignal": "SIGQUIT"}}).encode(), "an image")  # fmt: skip


def of_image(*words: str) -> str:
    """The page of that image, with these words of `dolium explain` before and after its name."""
    flags = ExplainFlags()
    parse([*words], "explain", flags)
    options = request.options(flags)
    user = conversion.apply(IMAGE, options, argv=flags.argv, entrypoint=flags.entrypoint, user=flags.user, stop_signal=flags.stop_signal).user
    options.user = User(int(user or 0), int(user or 0), (), "/")
    host = invent.facts(id_base=invent.RANGE)
    spec = invent.spec(host, options, "image:5")
    return command.page(command.Shown("app:1", spec, build.plan(spec, host), []), verbose=False)


def number(op: str) -> int:
    return next(number for number, step in explain.numbered(STEPS) if step.op == op and not step.is_part)


def against(**fields: object) -> str:
    host = invent.facts(id_base=invent.RANGE)
    before, after = (build.plan(invent.spec(host, invent.options(**each)), host) for each in ({}, fields))
    spec = invent.spec(host, invent.options(**fields))
    found = differences.between(before, after, (invent.NAME, invent.NAME))
    return differences.text(found, sum(not each.is_part for each in after), spec["dolium"], "the defaults")


def times(steps: list[Step]) -> list[int]:
    """Invented: each step takes as long as its place says, the pivot longest."""
    return [1000 * index if step.op != "pivot_root" else 1_234_567 for index, step in enumerate(steps, 1)]


SCREENS: dict[str, Callable[[], str]] = {
    "explain": lambda: command.page(SHOWN, verbose=False),
    "explain-image": lambda: of_image("app:1"),
    "explain-image-yours": lambda: of_image("-e", "A=1", "-u", "0", "-w", "/tmp", "--stop-signal", "INT", "app:1", "--port", "81"),
    "explain-verbose": lambda: command.page(SHOWN, verbose=True),
    "step-pivot": lambda: one_step.text(STEPS, number("pivot_root"), SPEC),
    "step-clone": lambda: one_step.text(STEPS, number("clone"), SPEC),
    "step-overlay": lambda: one_step.text(STEPS, number("new_mount"), SPEC),
    "run": lambda: timed.text("Plan for `sh` in /srv/alpine: all steps, done.", STEPS, SPEC, times(STEPS)),
    "until": lambda: timed.text("12 steps, done, and undone.", until.first(STEPS, 12), SPEC, times(until.first(STEPS, 12)), parts=True),
    "diff-weaker": lambda: against(cap_add=["CAP_SYS_ADMIN"]),
    "diff-both": lambda: against(read_only=True, no_new_privileges=False, memory=64 << 20, network="host", hostname="box"),
    "diff-none": lambda: against(),
    "by-hand": lambda: by_hand.text(STEPS, SPEC),
}


@pytest.mark.parametrize("name", SCREENS)
def test_screen(name: str) -> None:
    found, path = SCREENS[name](), HERE / f"{name}.screen"
    if name != "by-hand":
        assert max(map(explain.columns, found.splitlines())) <= 80
    if os.environ.get("DOLIUM_GOLDEN") == "write":
        path.write_text(found)
        return
    wanted = path.read_text()
    if found != wanted:
        lines = difflib.unified_diff(wanted.splitlines(), found.splitlines(), path.name, "now", lineterm="", n=1)
        pytest.fail("a screen has changed; `make golden` writes it anew\n" + "\n".join(lines), pytrace=False)


def test_every_screen_has_its_file() -> None:
    assert {each.stem for each in HERE.glob("*.screen")} == {*SCREENS}
