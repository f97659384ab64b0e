"""A terminal of the tests' own, with the command in front of it, and somebody who types."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import struct
import termios
import time
from typing import Any

from containers import SLOW, Dolium, Started, wait_for

LOOP = "while :; do sleep 0.02; done"
"""For a shell that has set traps: it sleeps, and minds them."""


class Desk:
    """Runs the command of that user with a new terminal as its controlling one: stdin, stdout and stderr, unless told
    otherwise.  What it shows is read by `see`, `until` and `end` only; `shown` is all of it so far."""

    def __init__(self, who: Dolium, *words: str, size: tuple[int, int] = (33, 101), **how: Any) -> None:
        self.master, self.slave = os.openpty()
        self.resize(*size)
        self.before = termios.tcgetattr(self.slave)
        self.shown = b""
        slave = self.slave
        streams = {name: how.pop(name, slave) for name in ("stdin", "stdout", "stderr")}

        def control() -> None:
            fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

        self.process: Started = who.start(*words, **streams, start_new_session=True, preexec_fn=control, pass_fds=[slave], **how)

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream:
                stream.close()
        for fd in (self.master, self.slave):
            if fd >= 0:
                os.close(fd)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, keys: bytes) -> None:
        while keys:
            keys = keys[os.write(self.master, keys) :]

    def see(self, seconds: float = 0.05) -> bool:
        """Read what comes within that time; whether something did."""
        if not select.select([self.master], [], [], seconds)[0]:
            return False
        try:
            self.shown += os.read(self.master, 65536)
        except OSError as error:
            assert error.errno == errno.EIO
        return True

    def until(self, pattern: bytes, seconds: float = 15) -> re.Match[bytes]:
        """Until it is shown, after what an earlier call has found."""
        deadline = time.monotonic() + seconds * SLOW
        while not (found := re.search(pattern, self.shown, re.S)):
            assert time.monotonic() < deadline, f"{pattern!r} is not shown: {self.shown[-3000:]!r}"
            assert self.see() or self.process.poll() is None, f"it ended before {pattern!r}: {self.shown[-3000:]!r}"
        self.shown = self.shown[found.end() :]
        return found

    def end(self, seconds: float = 20) -> int:
        """Its exit code; all that was shown is in `shown` then."""
        deadline = time.monotonic() + seconds * SLOW
        while self.process.poll() is None:
            self.see()
            assert time.monotonic() < deadline, f"it does not end: {self.shown[-3000:]!r}"
        while self.see(0):
            pass
        return self.process.returncode

    def hang_up(self) -> None:
        """As when the window is closed."""
        os.close(self.slave)
        os.close(self.master)
        self.master = self.slave = -1

    def is_raw(self) -> bool:
        local = termios.tcgetattr(self.slave)[3]
        return not local & (termios.ECHO | termios.ICANON | termios.ISIG)

    def is_as_before(self) -> bool:
        return termios.tcgetattr(self.slave) == self.before

    def wait_until_raw(self) -> None:
        wait_for(self.is_raw)


def type_line(desk: Desk, line: str) -> None:
    desk.type(line.encode() + b"\n")


def shell(desk: Desk) -> None:
    """Its prompt, after which it reads; a mark of ours, since everybody's looks different."""
    desk.until(rb"[#$] ")


def sh(user: Dolium, image: str, line: str, *flags: str, **how: object) -> Desk:
    """A container in which a shell does that."""
    return Desk(user, "run", *flags, image, "sh", "-c", line, **how)
