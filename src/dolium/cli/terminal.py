"""The caller's terminal while a program in a container has one of its own: what is typed goes in, what is printed comes out.

Imported only where there is a `-t`.  With `-i` the caller's terminal is raw for as long: every key is a byte for the other
one, which makes of Ctrl-C what the program inside has chosen.  It is restored on every way out but SIGKILL.
"""

import os
import termios
from _signal import signal
from fcntl import ioctl
from select import POLLIN, POLLOUT, poll
from time import monotonic

from dolium.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.runtime.watched import Watched

SIGINT, SIGKILL, SIGCONT, SIGSTOP, SIGTSTP, SIGWINCH = 2, 9, 18, 19, 20, 28
EINTR = 4
CHUNK = 4096
"""As much as a terminal holds; and a pipe that has room takes so much without waiting, pipe(7)."""
FAREWELL = 10.0
"""Seconds for a program whose terminal has been hung up."""


class Way:
    """One direction: from a descriptor to another, and what has been read and not yet been written."""

    __slots__ = ("source", "sink", "held")

    def __init__(self, source: int, sink: int) -> None:
        self.source = source
        self.sink = sink
        self.held = b""

    def wants(self) -> "tuple[int, int]":
        """The descriptor and the event to wait for; a source that has ended is -1."""
        return (self.sink, POLLOUT) if self.held else (self.source, POLLIN)

    def move(self) -> bool:
        """Read or write once; False where that end is closed."""
        try:
            if self.held:
                self.held = self.held[os.write(self.sink, self.held) :]
                return True
            self.held = os.read(self.source, CHUNK)
            return bool(self.held)
        except BlockingIOError:
            return True
        except OSError:  # EIO: a terminal that is gone; EPIPE: a reader that is
            return False


class Terminal:
    """Where the caller sees and, if `interactive`, types what the program's terminal is for.

    Nothing is changed before `attach`.  Raises UsageError where there is nothing to type at.
    """

    __slots__ = ("saved", "own", "given", "running", "into", "out", "deadline")

    def __init__(self, interactive: bool) -> None:
        if interactive and not os.isatty(0):
            raise UsageError("`-i` with `-t`: standard input is no terminal",
                             hint="leave `-t` out to pass a pipe or a file on, or `-i` to pass nothing on")  # fmt: skip
        self.saved: list[Any] | None = termios.tcgetattr(0) if interactive else None
        self.own = next((fd for fd in (1, 0, 2) if os.isatty(fd)), -1)
        self.given: tuple[int, int] | None = None
        self.running: Watched | None = None
        self.into = Way(0 if interactive else -1, -1)
        self.out = Way(-1, 1)
        self.deadline: float | None = None

    def size(self) -> "tuple[int, int] | None":
        """Rows and columns of the caller's own, as the program's is to begin with; None where there is none."""
        if self.own >= 0:
            columns, rows = os.get_terminal_size(self.own)
            self.given = rows, columns
        return self.given

    def attach(self, running: "Watched") -> None:
        """From now on it belongs to the program that runs there."""
        self.running = running
        self.into.sink = self.out.source = running.terminal
        os.set_blocking(running.terminal, False)
        if self.own >= 0:
            signal(SIGWINCH, self._resize)
            if self.given != self.size():  # meanwhile; else the program may have set another for itself
                self._resize()
        if self.saved:
            signal(SIGTSTP, self._stop)
            signal(SIGCONT, self._go_on)
            self._make_raw()

    def turn(self, milliseconds: "float | None") -> bool:
        """Pass on what there is, waiting so long at most; whether the program has ended."""
        assert self.running
        if self.deadline is not None:
            left = max(0.0, self.deadline - monotonic()) * 1000
            milliseconds = left if milliseconds is None else min(left, milliseconds)
        ended = self.running.fileno() in self._wait(milliseconds, self.running.fileno())
        if not ended and self.deadline is not None and monotonic() >= self.deadline:
            self.running.signal(SIGKILL)
            self.deadline = None
        return ended

    def drain(self, milliseconds: float) -> bool:
        """The same after the end, of what has been printed; whether there may be more."""
        self.into.source, self.into.held = -1, b""
        if self.out.held:
            self._wait(milliseconds)
            return self.out.sink >= 0
        return self.out.source >= 0 and self.out.move() and bool(self.out.held)

    def _wait(self, milliseconds: "float | None", *others: int) -> "set[int]":
        """Until something can be done for one of the ways, which is then done, or one of the others is readable."""
        waiter, events = poll(), dict.fromkeys(others, POLLIN)
        for way in (self.into, self.out):
            fd, event = way.wants()
            if fd >= 0:
                events[fd] = events.get(fd, 0) | event
        for fd, event in events.items():
            waiter.register(fd, event)
        ready = {fd for fd, _ in waiter.poll(milliseconds)}
        for way in (self.into, self.out):
            fd, _ = way.wants()
            if fd not in ready or way.move():
                continue
            if fd in (0, 1):
                self._hang_up()
                break
            way.source, way.held = -1, b""  # it has no terminal any more: only its end is waited for
        if 0 in ready and self.into.held and self._is_unheard():
            os.kill(os.getpid(), SIGINT)
        return ready

    def _is_unheard(self) -> bool:
        """Whether a Ctrl-C has been typed that the kernel will drop: what it is meant for is the first process of a PID
        namespace and has no handler for it, pid_namespaces(7).  Then it is for us: without `-t` three of them end what does
        not listen, and so they do here."""
        assert self.running
        try:
            inner = termios.tcgetattr(self.running.terminal)
            if not inner[3] & termios.ISIG or inner[6][termios.VINTR] not in self.into.held:
                return False
            with open(f"/proc/{os.tcgetpgrp(self.running.terminal)}/status") as file:
                found = {line.partition(":")[0]: line.split()[1:] for line in file}
        except (OSError, termios.error):
            return False
        return found["NSpid"][-1] == "1" and not int(found["SigCgt"][0], 16) >> SIGINT - 1 & 1

    def _hang_up(self) -> None:
        """Nobody sees or types any more: for the program too its terminal is gone.  One that does not mind is ended soon."""
        assert self.running
        self.into = self.out = Way(-1, -1)
        self.running.hang_up()
        self.deadline = monotonic() + FAREWELL

    def release(self) -> None:
        """It is the caller's again, as it was."""
        self._restore()
        self.saved = None

    def _resize(self, *_: object) -> None:
        if self.running and self.running.terminal >= 0:
            try:
                ioctl(self.running.terminal, termios.TIOCSWINSZ, ioctl(self.own, termios.TIOCGWINSZ, bytes(8)))
            except OSError:  # one of the two is gone
                pass

    def _stop(self, *_: object) -> None:
        """SIGTSTP from elsewhere: Ctrl-Z itself is a byte for the program."""
        self._restore()
        os.kill(os.getpid(), SIGSTOP)

    def _go_on(self, *_: object) -> None:
        self._make_raw()
        self._resize()

    def _make_raw(self) -> None:
        """As cfmakeraw(3) has it.  In the background the kernel stops us here, until it is our turn, tcsetattr(3)."""
        if not self.saved:
            return
        input, output, control, local, *speeds, keys = self.saved
        t = termios
        input &= ~(t.IGNBRK | t.BRKINT | t.PARMRK | t.ISTRIP | t.INLCR | t.IGNCR | t.ICRNL | t.IXON)
        control = control & ~(t.CSIZE | t.PARENB) | t.CS8
        local &= ~(t.ECHO | t.ECHONL | t.ICANON | t.ISIG | t.IEXTEN)
        keys = list(keys)
        keys[t.VMIN], keys[t.VTIME] = 1, 0
        _set([input, output & ~t.OPOST, control, local, *speeds, keys])

    def _restore(self) -> None:
        """Not from the background: then it is the shell's, which has settled it for itself."""
        if not self.saved:
            return
        try:
            if os.tcgetpgrp(0) != os.getpgrp():
                return
        except OSError:  # it controls nobody's session, or another's
            pass
        _set(self.saved)


def _set(attributes: "list[Any]") -> None:
    while True:
        try:
            termios.tcsetattr(0, termios.TCSANOW, attributes)
            return
        except termios.error as error:
            if error.args[0] != EINTR:  # it is gone
                return
