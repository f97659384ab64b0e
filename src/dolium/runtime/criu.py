"""A conversation with criu (`criu swrk`): one request, its notifications on the way, one answer.

The request and its answers are messages (plan/criu_messages.py) on a socket.  The program's own command line can do less: the
terminal of a restored container it hands to nobody, and nobody could run hooks in between (decisions/0037)."""

import os
from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, SOCK_SEQPACKET, socket, socketpair

from dolium.errors import DoliumError
from dolium.plan import criu_messages as messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Heard = Callable[[messages.Answer, int], None]
    """What is done on a notification, with a descriptor that came with it, or -1."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LONGEST = 1 << 16
SIGKILL, SIGPIPE = 9, 13
FIRST = 10
"""The number that a descriptor handed over has in criu at least: those below are its own standard ones and its socket."""
NOISE = ("RLIMIT_NOFILE",)
"""What it calls an error without being stopped by it."""


def find(given: str) -> str:
    """The program: the one that is named (--criu), else the first in PATH.  Raises DoliumError."""
    names = [given] if given else [f"{each}/criu" for each in os.environ.get("PATH", PATH).split(":") if each]
    for name in names:
        if os.access(name, os.X_OK):
            return name
    raise DoliumError(f"cannot checkpoint or restore: `{given or 'criu'}` is not there", hint="Debian: apt-get install criu")


class Criu:
    """The program at work.  `lent` are descriptors that it is given, by the numbers that they have there.  Call `end`."""

    def __init__(self, program: str, lent: "dict[int, int]") -> None:
        ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        self._socket: socket = ours
        self._words = os.memfd_create("words", os.MFD_CLOEXEC)
        copies = {number: _above(fd) for number, fd in lent.items()}
        line = _above(theirs.fileno())
        actions: list[tuple[int, ...]] = [(os.POSIX_SPAWN_DUP2, self._words, 1), (os.POSIX_SPAWN_DUP2, self._words, 2),
                                          (os.POSIX_SPAWN_DUP2, line, 3)]  # fmt: skip
        actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in copies.items()]
        environment = {**os.environ, "PATH": os.environ.get("PATH", PATH)}
        try:
            self.pid = os.posix_spawn(program, ["criu", "swrk", "3"], environment, file_actions=actions, setsigdef=(SIGPIPE,),
                                      setsigmask=())  # fmt: skip
        except OSError as error:
            self.end()
            raise DoliumError(f"`{program}`: {error.strerror}") from None
        finally:
            theirs.close()
            for fd in (line, *copies.values()):
                os.close(fd)

    def ask(self, kind: int, options: "dict[str, Any]", heard: "Heard | None" = None) -> messages.Answer:
        """Its answer, be it success or not.  Raises DoliumError where it went away without one, and what `heard` raises: then
        criu takes the restored container back."""
        self._say(messages.request(kind, options))
        while True:
            try:
                data, control, _, _ = self._socket.recvmsg(LONGEST, 32, MSG_CMSG_CLOEXEC)
            except ConnectionResetError:
                data, control = b"", []
            if not data:
                said = first_error(self._said()) or "it ended without an answer"
                raise DoliumError(f"criu: {said}", hint="`criu check` says whether it can work here")
            answer = messages.Answer(data)
            if answer.kind != messages.NOTIFY:
                return answer
            fd = int.from_bytes(control[0][2][:4], "little") if control else -1
            if heard:
                heard(answer, fd)
            elif fd >= 0:
                os.close(fd)
            self._say(messages.heard())

    def _say(self, data: bytes) -> None:
        try:
            self._socket.send(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what it has to say of that is read next

    def _said(self) -> str:
        size = os.fstat(self._words).st_size
        return os.pread(self._words, size, 0).decode("utf-8", "replace")

    def kill(self) -> None:
        """At once; `end` buries it."""
        os.kill(self.pid, SIGKILL)  # our own child, not waited for: the number is still its

    def end(self) -> None:
        """Hang up, which is also how it is told to stop, and wait for it."""
        self._socket.close()
        os.close(self._words)
        if pid := getattr(self, "pid", 0):
            os.waitpid(pid, 0)
            self.pid = 0


def _above(fd: int) -> int:
    from fcntl import F_DUPFD_CLOEXEC, fcntl

    return fcntl(fd, F_DUPFD_CLOEXEC, 100)


def first_error(log: str) -> str:
    """What went wrong in a log of criu's: the first error, for those after it are its consequences; empty for none."""
    for line in log.splitlines():
        stamp, found, message = line.partition("Error (")
        if found and not any(each in message for each in NOISE) and (not stamp or stamp[0] == "("):
            return message.partition("): ")[2].strip()
    return ""


def failure(doing: str, answer: messages.Answer, log: str) -> DoliumError:
    """The error for an answer that is none; `log` is the path of what criu has written."""
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            words = first_error(file.read())
    except OSError:
        words = ""
    reason = words or answer.words or (os.strerror(answer.errno) if answer.errno else "it does not say why")
    return DoliumError(f"cannot {doing}: criu: {reason}", hint=f"its log is `{log}`")
