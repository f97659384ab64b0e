"""`make conformance`: how it judges the programs of a suite, and that what they mount ends with them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from containers import TOP

PROGRAMS = {
    "mounts": "mount -t tmpfs none \"$PWD\" && touch \"$PWD/seen\" && echo ok 1",
    "sees": "test ! -e \"$PWD/seen\" && test -x \"$RUNTIME\" && echo ok 1",
    "says": "echo ok 1; echo not ok 2 - its rule",
    "ends": "echo its words >&2; exit 3",
    "skips": "echo ok 1 '# SKIP' not here",
}


@pytest.mark.needs_root
def test_a_suite(folder: str) -> None:
    for name, text in PROGRAMS.items():
        path = f"{folder}/validation/{name}/{name}.t"
        os.makedirs(os.path.dirname(path))
        with open(path, "w") as file:
            file.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, 0o755)
    with open("/proc/self/mountinfo") as file:
        before = file.read()
    ended = subprocess.run([sys.executable, f"{TOP}/make/conformance.py"], env={**os.environ, "RUNTIME_TOOLS": folder, "RUNTIMES": "dolium-oci"},
                           capture_output=True, text=True, check=True)  # fmt: skip
    rows = dict(line.split() for line in ended.stdout.splitlines()[: len(PROGRAMS)])
    assert rows == {"mounts": "pass", "sees": "pass", "says": "FAIL", "ends": "FAIL", "skips": "skip"}, ended
    assert "says: dolium-oci: not ok 2 - its rule" in ended.stdout and "ends: dolium-oci: its words" in ended.stdout
    with open("/proc/self/mountinfo") as file:
        assert file.read() == before and not os.path.exists(f"{folder}/seen")
