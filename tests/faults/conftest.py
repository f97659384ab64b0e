"""Builds of the two helpers for tests only: with a fault in any step, and with the compiler's sanitizers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from testbuild import FAULT, build

from dolium.core import spawn, wire
from dolium.plan import build as planner
from dolium.runtime import plans

OPTIONS = """\
const char *__asan_default_options(void);
const char *__asan_default_options(void) { return "detect_leaks=0:exitcode=99"; }
"""


@pytest.fixture(scope="session")
def faulty(workshop: str) -> Path:
    """Helpers that fail a step where its record says so (-DDOLIUM_FAULTS)."""
    compiler = shutil.which("musl-gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    directory = Path(workshop) / "faulty"
    directory.mkdir(mode=0o755)
    return build(directory, compiler, "-static", "-Os", "-DDOLIUM_FAULTS")


@pytest.fixture(scope="session")
def sanitized(workshop: str) -> Path:
    """Helpers that end with a report when they touch memory that is not theirs or do what C leaves undefined."""
    compiler = shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("no C compiler with sanitizers")
    directory = Path(workshop) / "sanitized"
    directory.mkdir(mode=0o755)
    probe = directory / "probe.c"
    probe.write_text("int main(void) { return 0; }\n")
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-DDOLIUM_FAULTS")
    linked = subprocess.run([compiler, *flags, "-o", str(directory / "probe"), str(probe)], capture_output=True)
    if linked.returncode or subprocess.run([str(directory / "probe")], capture_output=True).returncode:
        pytest.skip(f"{compiler} has no libasan and libubsan here")
    options = directory / "options.c"  # helpers are started with an empty environment
    options.write_text(OPTIONS)
    return build(directory, compiler, *flags, str(options))


@pytest.fixture
def faulty_programs(faulty: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The library starts those helpers instead of its own."""
    sealed: dict[str, int] = {}
    monkeypatch.setattr(spawn, "PROGRAMS", str(faulty))
    monkeypatch.setattr(spawn, "_sealed", sealed)
    for name in ("dolium-init", "dolium-keep"):
        os.close(spawn.program(name))
    yield
    for fd in sealed.values():
        os.close(fd)


class Fault:
    """Makes one record of each container's plan fail; keeps the last plan's steps and those of its records."""

    def __init__(self) -> None:
        self.index = -1
        self.errno = 0
        self.steps: list[wire.Step] = []
        self.records: list[wire.Step] = []

    def message(self, planned: plans.Planned, spec: dict[str, Any], slots: dict[int, int]) -> bytes:
        data = bytearray(MESSAGE(planned, spec, slots))
        self.steps = planner.plan(spec, planned.held[0])
        self.records = wire.acting(self.steps)
        if self.index >= 0:
            place = wire.HEADER.size + wire.RECORD.size * self.index + FAULT
            data[place : place + 2] = self.errno.to_bytes(2, "little")
        return bytes(data)


MESSAGE = plans.Planned.message


@pytest.fixture
def fault(faulty_programs: None, monkeypatch: pytest.MonkeyPatch) -> Fault:
    found = Fault()
    monkeypatch.setattr(plans.Planned, "message", lambda *given: found.message(*given))
    return found
