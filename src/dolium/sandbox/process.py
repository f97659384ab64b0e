"""A program that runs in a Sandbox, with the names of subprocess.Popen."""

import os
from _thread import RLock
from select import POLLIN, POLLOUT, poll
from time import monotonic

from dolium.core.interrupts import Held
from dolium.errors import UsageError
from dolium.runtime import cgroup, session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

    from dolium.runtime.ending import Ending
    from dolium.runtime.joining import Joined
    from dolium.sandbox.asked import Text

PIPE, STDOUT, DEVNULL = -1, -2, -3
"""subprocess.PIPE, STDOUT and DEVNULL, without that module."""
SIGKILL, SIGTERM = 9, 15
CHUNK = 65536


class Process:
    """A program that runs in a Sandbox.

    args                   the command
    pid                    of the program, as the host sees it
    stdin, stdout, stderr  file objects where PIPE was asked for, else None
    returncode             None while it runs; then the exit code, or -N after signal N
    exit_code              the same as a shell says it: 128 + N after signal N
    """

    def __init__(self, argv: "list[str]", joined: "Joined", group: str, ended: "Callable[[str], None]",
                 forgotten: "Callable[[Joined, str], None]", ends: "tuple[int, int, int]", text: "Text",
                 bufsize: int = -1) -> None:  # fmt: skip
        self.args: list[str] = argv
        self.returncode: int | None = None
        self.exit_code: int | None = None
        self._joined = joined
        self._group = group
        self._ended = ended
        self._lock = RLock()  # a signal handler may ask in the middle of an answer
        os.close(joined.started())
        self._forgotten = forgotten
        self.pid: int = joined.pid()
        self.ending: Ending | None = None
        self.stdin: IO[Any] | None = _file(ends[0], "wb", text, bufsize)
        self.stdout: IO[Any] | None = _file(ends[1], "rb", text, bufsize)
        self.stderr: IO[Any] | None = _file(ends[2], "rb", text, bufsize)
        self._text = text
        self._left = memoryview(b"")
        self._collected = (bytearray(), bytearray())

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        for each in (self.stdout, self.stderr, self.stdin):
            if each:
                try:
                    each.close()
                except BrokenPipeError:  # what was still to be written has no reader any more
                    pass
        if kind is KeyboardInterrupt:
            self.kill()
        self.wait()

    def __del__(self) -> None:
        if hasattr(self, "_forgotten") and self.returncode is None:
            self._forgotten(self._joined, self._group)

    def __repr__(self) -> str:
        return f"<Process {self.args!r}: {'running' if self.returncode is None else f'returncode {self.returncode}'}>"

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self._joined.fileno()

    def poll(self) -> "int | None":
        """The return code, or None while it runs."""
        if self.returncode is None:
            self._look(0)
        return self.returncode

    def wait(self, timeout: "float | None" = None) -> int:
        """Until it has ended; its return code.  Raises subprocess.TimeoutExpired after so many seconds; it then goes on."""
        deadline = None if timeout is None else monotonic() + timeout
        while self.returncode is None:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            if not self._look(left) and deadline is not None and monotonic() >= deadline:
                from subprocess import TimeoutExpired

                raise TimeoutExpired(self.args, timeout or 0.0)
        return self.returncode

    def _look(self, seconds: "float | None") -> bool:
        """Whether it has ended by then; settles its end."""
        with self._lock:
            if self.returncode is None:
                waiter = poll()
                waiter.register(self.fileno(), POLLIN)
                if not waiter.poll(None if seconds is None else seconds * 1000):
                    return False
                with Held():
                    self.ending = self._joined.finish()
                    self._ended(self._group)
                    self.exit_code = self.ending.exit_code
                    self.returncode = -self.ending.signal if self.ending.signal else self.ending.exit_code
        return True

    def communicate(self, input: "str | bytes | None" = None, timeout: "float | None" = None) -> "tuple[Any, Any]":
        """Feed input, read both outputs to their ends, wait; (stdout, stderr).  Raises subprocess.TimeoutExpired, which has
        what came until then; call it again, without input, to go on."""
        deadline = None if timeout is None else monotonic() + timeout
        if input is not None:
            self._left = memoryview(self._text.taken(input))
        waiter, outputs = poll(), {}
        for file, kept in zip((self.stdout, self.stderr), self._collected, strict=True):
            if file and not file.closed:
                waiter.register(file.fileno(), POLLIN)
                outputs[file.fileno()] = (file, kept)
        if self.stdin and not self.stdin.closed:
            self.stdin.flush()
            if self._left:
                os.set_blocking(self.stdin.fileno(), False)
                waiter.register(self.stdin.fileno(), POLLOUT)
            else:
                self.stdin.close()
        while outputs or (self.stdin and not self.stdin.closed):
            left = None if deadline is None else max(0.0, deadline - monotonic()) * 1000
            events = waiter.poll(left)
            for fd, _ in events:
                if fd in outputs:
                    file, kept = outputs[fd]
                    chunk = os.read(fd, CHUNK)
                    kept += chunk
                    if not chunk:
                        waiter.unregister(fd)
                        file.close()
                        del outputs[fd]
                elif not self._feed(fd):
                    waiter.unregister(fd)
            if not events and deadline is not None and monotonic() >= deadline:
                from subprocess import TimeoutExpired

                raise TimeoutExpired(self.args, timeout or 0.0, bytes(self._collected[0]), bytes(self._collected[1]))
        self.wait(None if deadline is None else max(0.0, deadline - monotonic()))
        given = [self._text.given(bytes(each)) for each in self._collected]
        return (given[0] if self.stdout else None), (given[1] if self.stderr else None)

    def _feed(self, fd: int) -> bool:
        """Write what the pipe takes; False when that was all, or nobody reads it."""
        assert self.stdin
        try:
            self._left = self._left[os.write(fd, self._left[:CHUNK]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            self._left = memoryview(b"")
        if not self._left:
            try:
                self.stdin.close()
            except BrokenPipeError:
                pass
        return bool(self._left)

    def send_signal(self, number: int) -> None:
        """To the program; nothing if it has ended."""
        if self.returncode is None:
            self._joined.signal(number)

    def terminate(self) -> None:
        """SIGTERM to the program."""
        self.send_signal(SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the program and to all that it has started."""
        if self.returncode is not None:
            return
        self._joined.signal(SIGKILL)
        if self._group:
            cgroup.kill(self._group)
        else:
            session.kill(self.pid)


class Ends:
    """What a program is to have for its 0, 1 and 2, and our ends of the pipes among them.  Close it in the end."""

    def __init__(self) -> None:
        self._theirs = [-1, -1, -1]
        self._ours = [-1, -1, -1]
        self._made: list[int] = []

    def make(self, *given: "int | IO[Any] | None") -> None:
        """As subprocess has them, but None for /dev/null.  Raises UsageError and OSError."""
        for index, each in enumerate(given):
            if each is None or each == DEVNULL:
                self._theirs[index] = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
                self._made.append(self._theirs[index])
            elif each == PIPE:
                pair = os.pipe()
                self._theirs[index], self._ours[index] = pair if index == 0 else pair[::-1]
                self._made.append(self._theirs[index])
            elif each == STDOUT and index == 2:
                self._theirs[2] = self._theirs[1]
            elif isinstance(each, int):
                if each < 0:
                    raise UsageError(f"popen: no such descriptor: {each}")
                self._theirs[index] = each
            else:
                self._theirs[index] = each.fileno()

    def theirs(self) -> "tuple[int, int, int]":
        """The program's."""
        return self._theirs[0], self._theirs[1], self._theirs[2]

    def ours(self) -> "tuple[int, int, int]":
        """Of its pipes; -1 where there is none."""
        return self._ours[0], self._ours[1], self._ours[2]

    def given(self) -> None:
        """Ours are somebody else's now."""
        self._ours = []

    def close(self) -> None:
        """What was made here and is of no more use."""
        for fd in [*self._made, *(fd for fd in self._ours if fd >= 0)]:
            os.close(fd)


def _file(fd: int, mode: str, text: "Text", bufsize: int) -> "IO[Any] | None":
    if fd < 0:
        return None
    raw: IO[Any] = os.fdopen(fd, mode, bufsize)
    if not text.encoding:
        return raw
    from io import TextIOWrapper

    return TextIOWrapper(raw, encoding=text.encoding, errors=text.errors, line_buffering=bufsize == 1 and mode == "wb")
