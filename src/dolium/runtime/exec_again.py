"""The plan of an `exec` is kept beside the container's state: one that differs in its words only, as a health check does not even
in those, is then carried out by dolium-verbs, without Python (init/exec_again.c, docs/decisions/0041).

A plan follows from the container's config, the process that is asked for, and what the host and the caller are.  It is taken again
for the same document of a process, to the byte but for `args`, by a caller of the same rights, and by the very dolium-init that it
was made for.
"""

import os
from _struct import Struct
from fcntl import LOCK_EX, LOCK_NB, flock

from dolium.core import PROGRAMS, wire
from dolium.plan import program, slots
from dolium.runtime import host, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.core.wire import Step
    from dolium.plan.facts import Facts
    from dolium.runtime.exec import Extra
    from dolium.runtime.state import Container

FORMAT = b"doexec1\n"
HEAD = Struct("=8sQQqqQQQIIIiii")
"""FORMAT; inode, bytes, and change in s and ns of dolium-init; the caller's user namespace, effective and bounding capabilities,
and uid; bytes of the document and of the plan; whose HOME is to be found out, or -1; the slots for a pidfd of the first process and
for dolium-keep, or -1."""
PLAIN = ("process", "argv", "detached", "pid_file", "own_terminal")
"""What may be asked for of one that is done again; the caller's terminal is not asked for."""


def is_usual(asked: "Extra", steps: "list[Step]") -> bool:
    """Whether it can be done without Python: a detached one of a `process` file, or a program that is waited for."""
    if any(getattr(asked, name) for name in asked.__slots__ if name not in PLAIN):
        return False
    if asked.argv if asked.process else asked.detached or asked.pid_file:
        return False
    return all(step.op == "home" for step in steps if step.actor == wire.HOST)


def keep(container: "Container", document: str, steps: "list[Step]", facts: "Facts") -> None:
    """Write the plan of a process of this `document`, or of none, down for the next time, unless another verb is at work on the
    container, or there is no room: then it is planned again."""
    own = os.stat(f"{PROGRAMS}/dolium-init")
    wanted, message = document.encode(), wire.encode(steps, {}).data
    uid = next((step.n1 for step in steps if step.op == "home"), -1)
    seconds, nanoseconds = divmod(own.st_ctime_ns, 10**9)
    effective = host.capabilities(host.read("/proc/self/status"), "CapEff")
    users, keeper = os.stat("/proc/self/ns/user").st_ino, -1 if document else slots.KEEP
    head = HEAD.pack(FORMAT, own.st_ino, own.st_size, seconds, nanoseconds, users, effective, facts.capabilities, facts.uid,
                     len(wanted), len(message), uid, slots.CONTAINER, keeper)  # fmt: skip
    try:
        directory = os.open(container.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        flock(directory, LOCK_EX | LOCK_NB)
        _write(directory, head + wanted + message)
        longest = min(state.PLANS, key=lambda name: _used(directory, name))  # of no use
        os.rename(state.NEW_PLAN, longest, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        pass
    finally:
        os.close(directory)


def _used(directory: int, name: str) -> int:
    """When a plan was taken last, in ns; 0 where there is none."""
    try:
        return os.stat(name, dir_fd=directory).st_mtime_ns
    except FileNotFoundError:
        return 0


def _write(directory: int, data: bytes) -> None:
    """The room for /etc/passwd is left out: it is zeros, and a hole takes no memory.  Raises OSError."""
    before, room, after = data.partition(bytes(program.LARGEST))
    fd = os.open(state.NEW_PLAN, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600, dir_fd=directory)
    try:
        if os.write(fd, before) + os.pwrite(fd, after, len(before) + len(room)) != len(before) + len(after):
            raise OSError
    finally:
        os.close(fd)
