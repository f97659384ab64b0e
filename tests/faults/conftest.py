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
        spawn.program(name)
    yield
    for fd in sealed.values():
        os.close(fd)


class Fault:
    """Makes one record of the next plan with a `clone` fail; keeps that plan's message."""

    def __init__(self, encode: Any) -> None:
        self.encode = encode
        self.index = -1
        self.errno = 0
        self.message: wire.Message | None = None
        self.steps: list[wire.Step] = []

    def __call__(self, steps: Any, slots: Any) -> wire.Message:
        message: wire.Message = self.encode(steps, slots)
        if any(step.op == "clone" for step in message.steps):
            self.message, self.steps = message, steps
            if self.index >= 0:
                data, place = bytearray(message.data), wire.HEADER.size + wire.RECORD.size * self.index + FAULT
                data[place : place + 2] = self.errno.to_bytes(2, "little")
                message = wire.Message(bytes(data), message.steps)
        return message


@pytest.fixture
def fault(faulty_programs: None, monkeypatch: pytest.MonkeyPatch) -> Fault:
    found = Fault(wire.encode)
    monkeypatch.setattr(wire, "encode", found)
    return found
