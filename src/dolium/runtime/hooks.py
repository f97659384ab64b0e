"""Hooks of an OCI config: programs of the host that are told of a container on their standard input (runtime-spec, config.md).

They get the environment that the config gives them and nothing else, and a directory of the host to be in: what an image
says reaches none of them (CVE-2024-0132, CVE-2025-23266)."""

import os
from select import POLLIN, poll

from dolium.core import document
from dolium.errors import HookError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGPIPE, SIGKILL = 13, 9
SHOWN = 400
"""Bytes of its own words that stand in the error."""


def state(spec: "dict[str, Any]", identity: str, status: str, pid: int) -> "dict[str, Any]":
    """The state that hooks and callers are given."""
    found = {"ociVersion": spec["ociVersion"], "id": identity, "status": status, "pid": pid, "bundle": spec["dolium"]["bundle"]}
    if not pid:
        del found["pid"]
    if spec["annotations"]:
        found["annotations"] = spec["annotations"]
    return found


def given(text: "dict[str, Any]") -> int:
    """A descriptor from which a hook reads that state; sealed by being nobody else's."""
    fd = os.memfd_create("state", os.MFD_CLOEXEC)
    os.write(fd, document.write(text).encode("utf-8", "surrogateescape"))
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def run(hook: "dict[str, Any]", why: str, told: "dict[str, Any]", directory: str) -> None:
    """Run one on the host, in the bundle's directory.  Raises HookError where it fails, or is not done in time."""
    stdin, words = given(told), os.memfd_create("words", os.MFD_CLOEXEC)
    here = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        argv = [each.encode("utf-8", "surrogateescape") for each in hook.get("args") or [hook["path"]]]
        env = dict(each.partition("=")[::2] for each in hook.get("env", ()))
        actions = [(os.POSIX_SPAWN_DUP2, stdin, 0), (os.POSIX_SPAWN_DUP2, words, 1), (os.POSIX_SPAWN_DUP2, words, 2)]
        try:
            pid = os.posix_spawn(hook["path"], argv, env, file_actions=actions, setsigdef=(SIGPIPE,), setsigmask=())
        except OSError as error:
            raise HookError(why, hook["path"], error.strerror or str(error)) from None
        problem = _await(pid, hook.get("timeout"))
        if problem:
            raise HookError(why, hook["path"], problem, said(words))
    finally:
        os.fchdir(here)
        for fd in (here, stdin, words):
            os.close(fd)


def _await(pid: int, timeout: "int | None") -> str:
    """What is wrong with how it ended; empty for nothing."""
    fd = os.pidfd_open(pid)
    try:
        waiting = poll()
        waiting.register(fd, POLLIN)
        late = not waiting.poll(timeout * 1000 if timeout else None)
        if late:
            os.kill(pid, SIGKILL)  # our own child, not waited for: the number is still its
        status = os.waitpid(pid, 0)[1]
    finally:
        os.close(fd)
    if late:
        return f"took longer than its {timeout} s"
    return ended(os.waitstatus_to_exitcode(status))


def ended(code: int) -> str:
    """What is wrong with an exit code (negative: the signal); empty for nothing."""
    return "" if code == 0 else f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"


def said(words: int) -> str:
    """The end of what a hook has written, on one line."""
    size = os.fstat(words).st_size
    text = os.pread(words, SHOWN, max(0, size - SHOWN)).decode("utf-8", "replace")
    return " ".join(text.split())
