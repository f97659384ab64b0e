"""Start dolium-init: from a sealed memfd, with a plan in another, at a cost that does not grow with the caller.

A container can reach the file that its helper runs from (CVE-2019-5736), so that file must be one that it cannot write to, or
one that nobody runs again.
"""

import os
from _socket import AF_UNIX, SOCK_SEQPACKET, socketpair
from _thread import allocate_lock
from fcntl import (
    F_ADD_SEALS,
    F_DUPFD_CLOEXEC,
    F_RDLCK,
    F_SEAL_GROW,
    F_SEAL_SEAL,
    F_SEAL_SHRINK,
    F_SEAL_WRITE,
    F_SETLEASE,
    F_UNLCK,  # fmt: skip
    fcntl,
)
from time import sleep

from dolium.core import PROGRAMS
from dolium.errors import Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket

MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_NOEXEC_SEAL, MFD_EXEC = 1, 2, 8, 16
EAGAIN, EACCES, EINVAL, EFBIG = 11, 13, 22, 27
SIGNALS = tuple(number for number in range(1, 65) if number not in (32, 33))
"""Blocked while the helper starts; 32 and 33 are the C library's own, nptl(7)."""

SIGCHLD = 17
"""A caller that ignores it has no statuses of its children, and would have given that to the helper, wait(2)."""

CHILD = 24
"""Where in the header of the plan the child's pid is, init/wire.h."""

_lock = allocate_lock()
_sealed: "dict[str, int]" = {}
_live: "set[Socket]" = set()


def program(name: str) -> int:
    """A descriptor to run `dolium-init` or `dolium-keep` from, the caller's own: of a sealed copy, made once per process, or,
    where vm.memfd_noexec forbids that, of a copy that is run once.

    Raises Unsupported and OSError.
    """
    with _lock:
        if name not in _sealed:
            _sealed[name] = _seal(name)
        fd = _sealed[name]
    return fcntl(fd, F_DUPFD_CLOEXEC, 3) if fd >= 0 else _copy(name)


def _content(name: str) -> bytes:
    path = f"{PROGRAMS}/{name}"
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        raise Unsupported("containers", f"`{path}` has not been built", hint="run `make` in Dolium's directory") from None


def _seal(name: str) -> int:
    """A sealed copy; -1 where vm.memfd_noexec is 2, which forbids running one."""
    content = _content(name)
    try:
        fd = os.memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC)
    except OSError as error:
        if error.errno == EACCES:
            return -1
        if error.errno != EINVAL:  # MFD_EXEC came with Linux 6.3
            raise
        fd = os.memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)
    os.fchmod(fd, 0o555)
    _fill(fd, content)
    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
    return fd


def _copy(name: str) -> int:
    """A copy without a name, for one run.  While it runs the kernel lets nobody write to it (ETXTBSY), and when a container can,
    by what it has kept of /proc/PID/exe, nobody runs it again: no mount is needed, which a plain user could not make.

    It lies where the programs lie, since programs can be run from there.  Where that cannot be written, the installed one is
    as good, if it is another's: a container of this user cannot write to it either.
    """
    if os.uname().release.startswith(("6.11.", "6.12.")):
        raise _forbidden("Linux 6.11 and 6.12 let a program be changed while it runs")
    try:
        made = os.open(PROGRAMS, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o700)
    except OSError as error:
        path = f"{PROGRAMS}/{name}"
        if os.stat(path).st_uid == os.geteuid() or os.access(path, os.W_OK, effective_ids=True):
            raise _forbidden(f"no copy can be made in `{PROGRAMS}`: {error.strerror}") from None
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fchmod(made, 0o555)
        _fill(made, _content(name))
        fd = os.open(f"/proc/self/fd/{made}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(made)
    _until_nobody_writes(fd)
    return fd


def _until_nobody_writes(fd: int) -> None:
    """What another thread forks has our descriptors until its exec, and what is open for writing cannot be run; of such a file
    no read lease can be had, fcntl(2)."""
    for _ in range(1000):
        try:
            fcntl(fd, F_SETLEASE, F_RDLCK)
            fcntl(fd, F_SETLEASE, F_UNLCK)
            return
        except OSError as error:
            if error.errno != EAGAIN:  # not on this file system
                return
        sleep(0.001)


def _forbidden(why: str) -> Unsupported:
    return Unsupported("containers", f"vm.memfd_noexec is 2, which forbids running a sealed helper, and {why}",
                       hint="sudo sysctl vm.memfd_noexec=1")  # fmt: skip


def _memory(name: str) -> int:
    """A memfd that holds data.  Where vm.memfd_noexec is 2, some kernels want to hear that it is no program."""
    try:
        return os.memfd_create(name, MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in (EACCES, EINVAL):
            raise
        return os.memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL)


def _fill(fd: int, data: bytes) -> None:
    """Into an empty file, whole: RLIMIT_FSIZE counts there too, and cuts a write short before it refuses one, write(2)."""
    try:
        whole = os.write(fd, data) == len(data)
    except OSError as error:
        if error.errno != EFBIG:
            raise
        whole = False
    if not whole:
        raise _no_room()


def _lengthen(fd: int, size: int) -> None:
    """By a hole, which takes no memory."""
    try:
        os.ftruncate(fd, size)
    except OSError as error:
        if error.errno != EFBIG:
            raise
        raise _no_room() from None


def _no_room() -> Unsupported:
    return Unsupported("containers", "the limit of file sizes leaves no room for a plan", hint="ulimit -f unlimited")


class Helper:
    """A running helper: `pid`, the owner's end of its socket, and the memfd that holds the plan and its report."""

    __slots__ = ("pid", "socket", "plan", "size", "_owner")

    def __init__(self, pid: int, owner: "Socket", plan: int, size: int) -> None:
        self.pid: int = pid
        self.socket: Socket = owner
        self.plan: int = plan
        self.size: int = size
        self._owner = os.getpid()

    def is_ours(self) -> bool:
        """Whether this process has started it, and not the one that this was forked from."""
        return os.getpid() == self._owner

    def close(self) -> None:
        """Close the socket (a dolium-keep that watches over a container then kills it) and the plan."""
        _live.discard(self.socket)
        self.socket.close()
        if self.plan >= 0:
            os.close(self.plan)
            self.plan = -1

    def report(self) -> bytes:
        """The plan with what dolium-init has written into it."""
        return os.pread(self.plan, self.size, 0)

    def child(self) -> int:
        """The pid of the process that dolium-init has made, as it has it; 0 before there is one."""
        return int.from_bytes(os.pread(self.plan, 4, CHILD), "little", signed=True)

    def reap(self) -> int:
        """Wait for the helper's end; its wait status, or 0 where somebody else has reaped it (SIGCHLD ignored)."""
        try:
            return os.waitpid(self.pid, 0)[1]
        except ChildProcessError:
            return 0


def start(plan: bytes, fds: "tuple[int, ...]", stdio: "tuple[int, int, int]", room: int = 0) -> Helper:
    """Start dolium-init on a plan.  `fds` stay open in it under their numbers, `stdio` become its 0, 1 and 2; `room` is how many
    bytes longer the plan is, for what comes later.

    Raises Unsupported and OSError.
    """
    memory = _memory("dolium-plan")
    ours = theirs = None
    passing: list[int] = []
    try:
        init = program("dolium-init")
        passing.append(init)
        _fill(memory, plan)
        if room:
            _lengthen(memory, len(plan) + room)
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        actions: list[tuple[int, int, int]] = []
        for target, source in enumerate(stdio):
            if source < 3 and source != target:  # it may be overwritten before its turn
                source = fcntl(source, F_DUPFD_CLOEXEC, 3)
                passing.append(source)
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
        for fd in (theirs.fileno(), memory, *fds):  # onto itself: clears close-on-exec, posix_spawn_file_actions_adddup2(3)
            actions.append((os.POSIX_SPAWN_DUP2, fd, fd))
        argv = ["dolium-init", str(theirs.fileno()), str(memory)]
        pid = os.posix_spawn(f"/proc/self/fd/{init}", argv, {}, file_actions=actions, setsigmask=SIGNALS,
                             setsigdef=(SIGCHLD,))  # fmt: skip
    except BaseException:
        os.close(memory)
        if ours is not None:
            ours.close()
        raise
    finally:
        if theirs is not None:
            theirs.close()
        for fd in passing:
            os.close(fd)
    _live.add(ours)
    return Helper(pid, ours, memory, len(plan))


def _after_fork() -> None:
    """A forked child must not keep its parent's containers alive, nor wait for a thread that it has not got."""
    global _lock
    _lock = allocate_lock()
    for each in _live:
        each.close()
    _live.clear()


os.register_at_fork(after_in_child=_after_fork)
