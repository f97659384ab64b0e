"""`dolium explain` and `dolium run` with the same words: one shows what the other does, refuses what it refuses, and touches
nothing."""

from __future__ import annotations

import os
import sys
import tempfile
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from dolium.cli import explain, main, render, run
from dolium.core import spawn
from dolium.errors import DoliumError
from dolium.runtime import launch, lease, places

VALUES = {
    "memory": ["64m", "4k", "1.5g", "0", "64x"], "memory-swap": ["64m", "128m", "-1"], "cpus": ["0.5", "64", "0.001"],
    "cpu-weight": ["1", "10000", "0"], "cpu-shares": ["2", "1024"], "cpuset-cpus": ["0", "0-1", "4000", "1-0"],
    "pids-limit": ["1", "-1", "0"], "ulimit": ["nofile=1:2", "core=-1", "nofile=2:1"], "oom-score-adj": ["500", "-1000", "1001"],
    "timeout": ["5", "500ms", "-1"], "hostname": ["box", "-x", "a" * 64], "network": ["none", "host", "nowhere"],
    "add-host": ["a:127.0.0.1", "a"], "dns": ["127.0.0.1", "x"],
    "sysctl": ["net.core.somaxconn=5", "kernel.shmmax=x", "vm.swappiness=1", "net..x=1"], "env": ["A=1", "B", "=", "C=\x1b[2J一"],
    "env-file": ["/dev/null", "/no/such"], "user": ["0", "root", "1000", "nobody", "nosuch", "70000:70000", "0:0"],
    "userns": ["auto", "host", "required"], "cap-add": ["ALL", "NET_ADMIN", "MKNOD", "SYS_RESOURCE"], "cap-drop": ["ALL", "MKNOD"],
    "security-opt": ["seccomp=unconfined", "no-new-privileges=false", "mask=/a:/b", "unmask=ALL", "seccomp=/no/such"],
    "workdir": ["/", "/tmp", "x"], "volume": ["/:/x", "/etc/passwd:/y:ro", "/no/such:/x", "./:/z", "/tmp:/proc"],
    "tmpfs": ["/x", "/dev/shm:size=1m", "/proc", "/x:size=1"],
    "device": ["/dev/null", "/dev/zero:/dev/x", "/dev/none-such", "/etc/passwd:/dev/x", "/dev/null:/dev/y:r"],
}  # fmt: skip
SWITCHES = ["read-only", "init", "interactive", "time-namespace", "detach", "rm"]
ROOTS = ["@host", "@venv", "/", "/no/such", "@hots", "image:1"]
flag = st.sampled_from(sorted(VALUES)).flatmap(lambda name: st.sampled_from(VALUES[name]).map(lambda value: [f"--{name}", value]))
words = st.tuples(
    st.lists(flag | st.sampled_from(SWITCHES).map(lambda name: [f"--{name}"]), max_size=4), st.sampled_from(ROOTS) | st.just("@host"),
    st.lists(st.sampled_from(["sh", "-c", "一" * 60, "\x1b[2J", ""]), max_size=3),
).map(lambda parts: [word for group in parts[0] for word in group] + [parts[1], *parts[2]])  # fmt: skip
STARTS = ("os.posix_spawn", "os.fork", "os.exec", "subprocess.Popen", "socket.connect", "socket.bind")
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.symlink", "os.link", "os.chmod", "os.chown", "os.truncate", "os.kill")
_seen: list[str] | None = None


def _listen(event: str, about: tuple[object, ...]) -> None:
    if _seen is not None:
        writes = event == "open" and isinstance(about[2], int) and about[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if event in CHANGES + STARTS or writes:
            _seen.append(f"{event} {about}")


sys.addaudithook(_listen)  # for good: it cannot be taken away, and costs nothing while nobody listens


class Started(DoliumError):
    """Instead of a start."""


def explained(argv: list[str]) -> tuple[str, list[str], list[str]]:
    """(error or nothing, what was printed, what it changed or started)"""
    global _seen
    printed: list[str] = []
    with mock.patch.object(render, "write", lambda fd, text: printed.append(text)):
        _seen = found = []
        try:
            assert explain.main(argv) == 0
            return "", "".join(printed).splitlines(), found
        except DoliumError as problem:
            return str(problem), [], found
        finally:
            _seen = None


@contextmanager
def elsewhere() -> Iterator[None]:
    """State and data of its own, and nothing is started."""
    def start(*_: object) -> None:
        raise Started("started")

    def give_back(spec: object, facts: object, taken: lease.Lease, *_: object) -> None:
        taken.release()
        start()

    with tempfile.TemporaryDirectory() as top, mock.patch.object(places, "state", lambda: places.own(f"{top}/state")), \
            mock.patch.object(places, "data", lambda: places.own(f"{top}/data")), mock.patch.object(run, "Signals"), \
            mock.patch.object(launch, "start", give_back):  # fmt: skip
        yield
        assert os.listdir(f"{top}/state/leases") == [] if os.path.isdir(f"{top}/state/leases") else True
        assert os.listdir(f"{top}/data/containers") == [] if os.path.isdir(f"{top}/data/containers") else True


def ran(argv: list[str]) -> str:
    try:
        run.main(argv)
    except Started:
        return ""
    except DoliumError as problem:
        return str(problem)
    raise AssertionError("it went on after the start")


def is_planned_first(problem: str) -> bool:
    """What only the plan finds out, which `run` makes in launch.start."""
    return "linux." in problem or "unsupported: --" in problem


@settings(deadline=None, max_examples=300)
@given(words)
def test_explain_and_run_agree(argv: list[str]) -> None:
    os.close(spawn.program("dolium-init"))  # sealed once in a process, when first somebody looks a user up
    if "--network" not in argv:
        argv = ["--network", "none", *argv]
    if "image:1" in argv:  # nobody asks a registry here
        argv = ["--pull", "never", *argv]
    problem, lines, touched = explained(argv)
    for line in lines:
        assert sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in line) <= 80, line
        assert line.isprintable(), repr(line)
    assert not [each for each in touched if "--user" not in argv or not each.startswith(("os.posix_spawn", "open ('/dev/null'"))], touched
    with elsewhere():
        done = ran(argv)
    assert done == problem or (done == "" and is_planned_first(problem)), (done, problem)


def test_a_plain_user_gets_the_same_answer(plain, dolium) -> None:  # type: ignore[no-untyped-def]
    """Nothing that takes root: no file is made in a home that is not there."""
    ended = plain("explain", "--pids-limit", "5", "@host", "sh", env={"HOME": "/nonexistent", "XDG_DATA_HOME": "/nonexistent"})
    assert (ended.code, ended.stderr) == (0, "") and "uid_map 0" in ended.stdout
    assert main.run(["explain", "/no/such"]) == 125
