"""Compiles the helpers for tests."""

from __future__ import annotations

import subprocess
from pathlib import Path

from containers import TOP

from dolium.core import wire

SOURCES = Path(TOP) / "init"
FAULT = wire.RECORD.size - 10
"""Where the field `fault` of a record is, init/wire.h; test_wire_layout.py compares it with the compiler's answer."""


def build(directory: Path, compiler: str, *flags: str) -> Path:
    """dolium-init and dolium-keep in `directory`."""
    common = [compiler, "-std=c11", "-Wall", "-Wextra", *flags]
    init = [str(SOURCES / "init.c"), *sorted(str(each) for each in SOURCES.glob("steps_*.c"))]
    for name, sources in (("dolium-init", init), ("dolium-keep", [str(SOURCES / "keep.c")])):
        made = subprocess.run([*common, "-o", str(directory / name), *sources], capture_output=True, text=True)
        assert made.returncode == 0, made.stderr
    return directory
