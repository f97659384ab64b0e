"""The helpers built with the compiler's sanitizers: real plans, plans in which a step fails, and plans that make no sense."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from errno import EPERM
from pathlib import Path
from typing import Any

import pytest
from containers import NOBODY, SLOW, SYSTEM_PYTHON, Dolium

from dolium.core import spawn, wire
from dolium.engine import config, containers, life, processes, settling, store
from dolium.errors import DoliumError, StepError
from dolium.runtime import launch, plans

MUTATE = Path(__file__).parent / "mutate.py"
COUNT = 800


@pytest.fixture
def report(sanitized: Path, monkeypatch: pytest.MonkeyPatch, folder: str, nothing_left: None) -> Iterator[Path]:
    """Where the helpers' standard error goes; after the test it must hold no report."""
    sealed: dict[str, int] = {}
    monkeypatch.setattr(spawn, "PROGRAMS", str(sanitized))
    monkeypatch.setattr(spawn, "_sealed", sealed)
    path = Path(folder, "stderr")
    path.touch()
    yield path
    for fd in sealed.values():
        os.close(fd)
    text = path.read_text(errors="replace")
    assert "Sanitizer" not in text and "runtime error" not in text, text


def run(report: Path, *argv: str, **fields: object) -> int | DoliumError:
    """One container with the sanitized helpers, without a memory limit: their shadow memory is large."""
    options = config.Options()
    options.argv, options.pids = [*argv], -1
    for name, value in fields.items():
        setattr(options, name, value)
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    errors = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        running, _ = containers.start("@host", options, None, (null, null, errors))
        return running.finish().exit_code
    except DoliumError as error:
        return error
    finally:
        os.close(null)
        os.close(errors)


def test_a_container(report: Path, folder: str) -> None:
    Path(folder, "data").mkdir()
    assert run(report, "true") == 0
    everything = {"volumes": [(f"{folder}/data", "/data", False)], "tmpfs": [("/scratch", ())], "cwd": "/data", "init": True,
                  "ulimits": [("RLIMIT_CORE", 0, 0)], "hostname": "box", "read_only": True, "env": {"A": "b"}}  # fmt: skip
    assert run(report, "sh", "-c", "exit 7", **everything) == 7
    assert run(report, "sh", "-c", "kill -TERM $$", no_new_privileges=False, init=True) == 143


def test_a_terminal(report: Path) -> None:
    """As far as dolium-init goes with it: nobody reads what is printed on it here."""
    assert run(report, "sh", "-c", "tty; exit 5", tty=True, size=(24, 80)) == 5
    assert run(report, "sh", "-c", "tty && test -c /dev/console && exit 6", tty=True, init=True) == 6


def test_a_terminal_and_who_keeps_it(report: Path) -> None:
    """Its end goes to the owner, or into the log; one more program has one too.  A report of dolium-keep, which has no
    stderr, shows as its end, and with it the container's."""
    options = config.Options()
    options.argv, options.pids, options.tty, options.network = ["sh", "-c", "tty; read x; echo $x"], -1, True, "none"
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    errors = os.open(report, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    stdio = (null, null, errors)
    container, held = store.create("@host", options, None)
    try:
        with held:
            running = life.begin(container, stdio, size=(24, 80)).running
        assert os.read(running.terminal, 100) == b"/dev/pts/0\r\n"
        os.write(running.terminal, b"typed\n")
        found = b""
        while found.count(b"typed") < 2:
            found += os.read(running.terminal, 100)
        ending = running.finish()
        assert ending.exit_code == 0
        settling.ended(container, 0.0, ending)
        with store.hold(container):
            life.begin(container, stdio, detached=True).running.leave()
        another = processes.Another(["sh", "-c", "tty; exit 4"], tty=True, size=(1, 2))
        joined = processes.start(container, another, stdio)
        assert os.read(joined.terminal, 100) == b"/dev/pts/1\r\n" and joined.finish().exit_code == 4
        another.detached = True
        processes.start(container, another, stdio).leave()
        life.kill(container, 9)
        assert life.wait(container) == 137
        assert " stdout F /dev/pts/0\r\n" in Path(container.path, "log").read_bytes().decode()
    finally:
        life.remove(container, force=True)
        os.close(null)
        os.close(errors)


def test_programs_that_are_not_there(report: Path) -> None:
    for program, code in (("no-such-program", 127), ("/no/such", 127), ("/etc", 126), ("x" * 5000, 126)):
        outcome = run(report, program)
        assert isinstance(outcome, StepError), outcome
        assert outcome.exit_code == code, outcome


def test_paths_too_long(report: Path) -> None:
    for options in ({"cwd": "/a" * 4000}, {"tmpfs": [("/b" * 4000, ())]}, {"hostname": "h" * 300}):
        outcome = run(report, "true", **options)
        assert isinstance(outcome, StepError) and outcome.index, outcome


def test_reading_a_file(report: Path, folder: str) -> None:
    """Too large, no file, a link out of the root, nothing: what an image can have as its passwd."""
    Path(folder, "passwd").write_bytes(b"x" * 4096)
    os.symlink("/proc/self/mem", f"{folder}/link")
    os.mkfifo(f"{folder}/fifo")
    assert launch.read_in_root(folder, "/passwd", 4096) == "x" * 4096
    assert launch.read_in_root(folder, "/none", 4096).strip("\0") == ""
    with pytest.raises(StepError):
        launch.read_in_root(folder, "/passwd", 4095)
    for path in ("/fifo", "/"):  # not read, and as if it were not there
        assert launch.read_in_root(folder, path, 4096).strip("\0") == ""
    assert launch.read_in_root(folder, "/link", 4096).strip("\0") == ""


def test_faults(report: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way out of a failure is walked too: every seventh step fails."""
    from testbuild import FAULT

    message, target, seen = plans.Planned.message, -1, 0

    def faulty(planned: plans.Planned, spec: dict[str, Any], slots: dict[int, int]) -> bytes:
        nonlocal seen
        seen, data = len(planned.encoded.steps), bytearray(message(planned, spec, slots))
        if target >= 0:
            data[wire.HEADER.size + wire.RECORD.size * target + FAULT] = EPERM
        return bytes(data)

    monkeypatch.setattr(plans.Planned, "message", faulty)
    assert run(report, "true") == 0
    for index in range(0, seen, 7):
        target = index
        outcome = run(report, "true")
        assert isinstance(outcome, StepError), (index, outcome)


def test_mutated_plans(sanitized: Path, plain: Dolium) -> None:
    """Whatever the bytes are, dolium-init reads and writes its own memory only.  The plans run as root of namespaces that
    a plain user has made, where they can do no harm."""
    unshare = shutil.which("unshare")
    confined = [unshare or "unshare", "-Urmpinu", "--fork", "--kill-child"]
    probe = plain("/bin/true", argv=confined)
    if not unshare or probe.code:
        pytest.skip(f"a plain user cannot make namespaces here: {probe.stderr.strip()}")
    done = subprocess.run([*confined, SYSTEM_PYTHON, str(MUTATE), str(sanitized), "1", str(COUNT)], capture_output=True,
                          text=True, timeout=300 * SLOW, cwd="/", env={"PATH": "/usr/bin:/bin"},
                          **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}))  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-4000:]
    assert done.stdout.endswith(" plans carried out, 0 badly\n")
    assert int(done.stdout.split()[0]) > COUNT
