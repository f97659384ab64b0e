"""The real helpers, and a kernel that refuses one system call: strace makes it fail from outside."""

from __future__ import annotations

import os
import re
import shutil
import subprocess

import pytest
from containers import DOLIUM, SLOW, SYSTEM_PYTHON, Ended

CALLS = {
    "openat2": 1, "open_tree": 1, "mount_setattr": 1, "fsopen": 1, "fsconfig": 1, "fsmount": 1, "move_mount": 1, "mkdirat": 1,
    "symlinkat": 1, "pivot_root": 1, "umount2": 1, "clone3": 1, "unshare": 1, "sethostname": 1, "setsid": 1, "keyctl": 1,
    "setgroups": 1, "setresgid": 1, "setresuid": 1, "capset": 1, "seccomp": 1, "sendmsg": 1, "chdir": 1, "execveat": 1,
    "execve": 2,
}  # fmt: skip
"""Which of a process's calls of that name is refused.  execve's second: the first is how dolium-init begins."""
NAMED = {"execveat": "execve"}
"""What the report calls them by, where that differs."""


@pytest.fixture(scope="module")
def strace(workshop: str) -> str:
    found = shutil.which("strace")
    if not found:
        pytest.skip("no strace")
    probe = subprocess.run([found, "-f", "-o", "/dev/null", "-e", "inject=getpid:error=EPERM:when=1", "/bin/true"],
                           capture_output=True, text=True)  # fmt: skip
    if probe.returncode:
        pytest.skip(f"strace cannot trace or inject here: {probe.stderr.strip()}")
    return found


def run(strace: str, call: str, when: int, errno: str, *flags: str) -> Ended:
    words = [strace, "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:error={errno}:when={when}",
             SYSTEM_PYTHON, "-IS", DOLIUM, "run", "--rm", "--network", "none", *flags, "--workdir", "/tmp", "@host", "true"]  # fmt: skip
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * SLOW)
    return Ended(done.returncode, done.stdout, done.stderr)


def test_without_a_refusal(strace: str, nothing_left: None) -> None:
    ended = run(strace, "getpgid", 1, "EPERM")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")


def test_an_end_that_is_not_known_is_no_success(strace: str, nothing_left: None) -> None:
    """dolium-keep cannot wait for the program: a tracer, criu(8) is one, was there first."""
    assert run(strace, "waitid", 1, "ECHILD").code == 137


@pytest.mark.parametrize(("call", "errno"), [*((call, "EPERM") for call in CALLS if call != "clone3"), ("clone3", "ENOSYS"), ("openat2", "ENOSYS"),
                                             ("fsopen", "ENOSYS"), ("mount_setattr", "ENOSYS"), ("unshare", "ENOSPC"),
                                             ("open_tree", "EMFILE"), ("execve", "ENOEXEC")])  # fmt: skip
def test_a_refused_call(strace: str, call: str, errno: str, nothing_left: None) -> None:
    if call == "setgroups" and os.geteuid():
        pytest.skip("a plain user's container cannot call it, user_namespaces(7)")
    ended = run(strace, call, CALLS[call], errno)
    lines = ended.stderr.splitlines()
    assert ended.code == (126 if call == "execve" else 125), ended
    assert ended.stdout == "", ended
    assert re.fullmatch(rf"error: cannot .+: {NAMED.get(call, call)}\(2\): .+ \({errno}\)", lines[0]), ended
    place = re.fullmatch(r"  at step (\d+) of (\d+), asked for by `[\w.\[\]]+`", lines[1])
    assert place and 0 < int(place[1]) <= int(place[2]), ended
    if errno == "ENOSYS":
        assert "kernel" in ended.stderr.partition("hint: ")[2], ended


@pytest.mark.parametrize("call", ["memfd_create", "socketpair", "clone3"])
def test_a_call_of_python_is_refused(strace: str, call: str, nothing_left: None) -> None:
    """No step, but an error all the same: one line, and no traceback.  (clone3 is what posix_spawn(3) makes helpers with.)"""
    ended = run(strace, call, 1, "EPERM")
    assert ended.code == 125 and ended.stdout == "", ended
    assert ended.stderr.startswith("error: ") and "Traceback" not in ended.stderr, ended
