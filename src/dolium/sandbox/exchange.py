"""The three pipes of one run: feeds input, keeps output up to a bound, passes it on as it comes, knows when to stop."""

import os
from select import POLLIN, POLLOUT, poll
from time import monotonic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CHUNK = 65536
FLOOD = 64 << 20
"""Bytes: who prints so much more than is kept, with nobody listening, is ended; no log is so long."""


class Kept:
    """What is kept of a stream: all of it, or, of what is longer than `most` bytes, the first and the last half."""

    __slots__ = ("most", "head", "tail", "total")

    def __init__(self, most: int) -> None:
        self.most: int = most
        self.head: bytearray = bytearray()
        self.tail: bytearray = bytearray()
        self.total: int = 0

    def add(self, chunk: bytes) -> None:
        """What has come."""
        self.total += len(chunk)
        room = self.most - self.most // 2 - len(self.head)
        if room > 0:
            self.head += chunk[:room]
            chunk = chunk[room:]
        self.tail += chunk
        if len(self.tail) > self.most + CHUNK:  # not at every chunk: what is dropped moves the rest
            self._cut()

    def _cut(self) -> None:
        if (extra := len(self.tail) - self.most // 2) > 0:
            del self.tail[:extra]

    def data(self) -> bytes:
        """What is kept."""
        self._cut()
        return bytes(self.head + self.tail)

    @property
    def truncated(self) -> bool:
        """Whether there was more."""
        return self.total > self.most


class Exchange:
    """One run's pipes.  `most` bytes are kept of each output; `listeners` get what comes of stdout and stderr instead of
    only having it kept."""

    def __init__(self, data: bytes, most: int, listeners: "tuple[Callable[[bytes], Any] | None, ...]" = (None, None)) -> None:
        self.data: memoryview = memoryview(data)
        self.kept: tuple[Kept, Kept] = (Kept(most), Kept(most))
        self.open: list[int] = []
        self.stdin: int = -1
        self.streams: dict[int, tuple[Kept, Callable[[bytes], Any] | None]] = {}
        self.flood: int = any(listeners) and 1 << 62 or FLOOD + most
        try:
            if data:
                child_in, self.stdin = self._pipe()
                os.set_blocking(self.stdin, False)
            else:
                child_in = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
                self.open.append(child_in)
            out, child_out = self._pipe()
            err, child_err = self._pipe()
        except BaseException:
            self.close()
            raise
        self.children: tuple[int, int, int] = (child_in, child_out, child_err)
        for fd, kept, listener in zip((out, err), self.kept, listeners, strict=True):
            os.set_blocking(fd, False)
            self.streams[fd] = (kept, listener)

    def _pipe(self) -> "tuple[int, int]":
        pair = os.pipe()
        self.open += pair
        return pair

    def theirs(self) -> "tuple[int, int, int]":
        """The program's 0, 1 and 2."""
        return self.children

    def started(self) -> None:
        """The container has its ends; ours of the same pipes must go, or they would never end."""
        for fd in self.children:
            self._close(fd)

    def _close(self, fd: int) -> None:
        if fd in self.open:
            self.open.remove(fd)
            os.close(fd)

    def close(self) -> None:
        """Give up all descriptors."""
        for fd in self.open:
            os.close(fd)
        self.open = []

    @property
    def truncated(self) -> bool:
        """Whether more was printed than is kept."""
        return any(each.truncated for each in self.kept)

    def carry(self, end: int, deadline: "float | None", stop: "Callable[[], Any]") -> str:
        """Until the program has ended, when the descriptor `end` becomes readable; why it was made to by `stop`, or nothing."""
        waiter, reason = poll(), ""
        waiter.register(end, POLLIN)
        for fd in self.streams:
            waiter.register(fd, POLLIN)
        if self.stdin >= 0:
            waiter.register(self.stdin, POLLOUT)
        while True:
            left = None if deadline is None or reason else max(0.0, deadline - monotonic()) * 1000
            events = waiter.poll(left)
            if deadline is not None and not reason and monotonic() >= deadline:  # also where output comes without a pause
                reason = "timeout"
                stop()
            for fd, _ in events:
                if fd == end:
                    return reason
                if fd == self.stdin:
                    if not self._feed():
                        waiter.unregister(fd)
                        self._close(fd)
                elif not self._take(fd):
                    waiter.unregister(fd)
                elif self.streams[fd][0].total > self.flood and not reason:
                    reason = "output"
                    stop()

    def _feed(self) -> bool:
        try:
            self.data = self.data[os.write(self.stdin, self.data[:CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self.data)

    def _take(self, fd: int) -> bool:
        """Whether there was something."""
        try:
            chunk = os.read(fd, CHUNK)
        except BlockingIOError:
            return False
        kept, listener = self.streams[fd]
        kept.add(chunk)
        if listener and chunk:
            listener(chunk)
        return bool(chunk)

    def drain(self) -> None:
        """What the pipes still hold after the end; who else holds their other ends is not waited for."""
        for fd in self.streams:
            while self._take(fd):
                pass
