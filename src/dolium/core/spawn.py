"""Start dolium-init: from a sealed memfd, with a plan in another, at a cost that does not grow with the caller."""

import os
from _socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair
from _thread import allocate_lock
from fcntl import F_ADD_SEALS, F_DUPFD_CLOEXEC, F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_WRITE, fcntl

from dolium.core import PROGRAMS
from dolium.errors import Unsupported

MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_EXEC = 1, 2, 16
EACCES, EINVAL, EFBIG = 13, 22, 27
SIGNALS = tuple(number for number in range(1, 65) if number not in (32, 33))
"""Blocked while the helper starts; 32 and 33 are the C library's own, nptl(7)."""

_lock = allocate_lock()
_sealed: "dict[str, int]" = {}
_live: "set[socket]" = set()


def program(name: str) -> int:
    """A descriptor of a sealed copy of `dolium-init` or `dolium-keep`, made once per process.

    Sealed, because a container can reach the file its helper runs from (CVE-2019-5736).
    """
    with _lock:
        if name not in _sealed:
            _sealed[name] = _seal(name)
        return _sealed[name]


def _seal(name: str) -> int:
    path = f"{PROGRAMS}/{name}"
    try:
        with open(path, "rb", buffering=0) as file:
            content = file.read()
    except FileNotFoundError:
        raise Unsupported("containers", f"`{path}` has not been built", hint="run `make` in Dolium's directory") from None
    try:
        fd = os.memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC)
    except OSError as error:
        if error.errno == EACCES:
            raise Unsupported("containers", "vm.memfd_noexec is 2, which forbids running a sealed helper",
                              hint="sudo sysctl vm.memfd_noexec=1") from None  # fmt: skip
        if error.errno != EINVAL:  # MFD_EXEC came with Linux 6.3
            raise
        fd = os.memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)
    os.fchmod(fd, 0o555)
    _fill(fd, content)
    fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)
    return fd


def _fill(fd: int, data: bytes) -> None:
    """Into a memfd, whole: RLIMIT_FSIZE counts there too, and cuts a write short before it refuses one, write(2)."""
    try:
        whole = os.write(fd, data) == len(data)
    except OSError as error:
        if error.errno != EFBIG:
            raise
        whole = False
    if not whole:
        raise Unsupported("containers", "the limit of file sizes leaves no room for a plan", hint="ulimit -f unlimited")


class Helper:
    """A running helper: `pid`, the owner's end of its socket, and the memfd that holds the plan and its report."""

    __slots__ = ("pid", "socket", "plan")

    def __init__(self, pid: int, owner: socket, plan: int) -> None:
        self.pid = pid
        self.socket = owner
        self.plan = plan

    def close(self) -> None:
        """Close the socket (a dolium-keep that watches over a container then kills it) and the plan."""
        _live.discard(self.socket)
        self.socket.close()
        if self.plan >= 0:
            os.close(self.plan)
            self.plan = -1

    def report(self) -> bytes:
        """The plan with what dolium-init has written into it."""
        return os.pread(self.plan, os.fstat(self.plan).st_size, 0)

    def reap(self) -> int:
        """Wait for the helper's end; its wait status, or 0 where somebody else has reaped it (SIGCHLD ignored)."""
        try:
            return os.waitpid(self.pid, 0)[1]
        except ChildProcessError:
            return 0


def start(plan: bytes, fds: "tuple[int, ...]", stdio: "tuple[int, int, int]") -> Helper:
    """Start dolium-init on a plan.  `fds` stay open in it under their numbers, `stdio` become its 0, 1 and 2.

    Raises Unsupported and OSError.
    """
    init = program("dolium-init")
    memory = os.memfd_create("dolium-plan", MFD_CLOEXEC)
    ours = theirs = None
    lifted: list[int] = []
    try:
        _fill(memory, plan)
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        actions: list[tuple[int, int, int]] = []
        for target, source in enumerate(stdio):
            if source < 3 and source != target:  # it may be overwritten before its turn
                source = fcntl(source, F_DUPFD_CLOEXEC, 3)
                lifted.append(source)
            actions.append((os.POSIX_SPAWN_DUP2, source, target))
        for fd in (theirs.fileno(), memory, *fds):  # onto itself: clears close-on-exec, posix_spawn_file_actions_adddup2(3)
            actions.append((os.POSIX_SPAWN_DUP2, fd, fd))
        argv = ["dolium-init", str(theirs.fileno()), str(memory)]
        pid = os.posix_spawn(f"/proc/self/fd/{init}", argv, {}, file_actions=actions, setsigmask=SIGNALS)
    except BaseException:
        os.close(memory)
        if ours is not None:
            ours.close()
        raise
    finally:
        if theirs is not None:
            theirs.close()
        for fd in lifted:
            os.close(fd)
    _live.add(ours)
    return Helper(pid, ours, memory)


def _after_fork() -> None:
    """A forked child must not keep its parent's containers alive."""
    for each in _live:
        each.close()
    _live.clear()


os.register_at_fork(after_in_child=_after_fork)
