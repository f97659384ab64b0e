"""`Sandbox.python`: one interpreter in a Sandbox, which is given snippets and keeps its state between them.

The interpreter belongs to the snippets, not to us: what it answers is read as a stranger's.  An answer begins with 16 random
bytes of its question, is of bounded length, and comes over a socket of its own; a snippet that gets hold of that socket can
invent its own answer, and those to later snippets of the same interpreter, and nothing else.
"""

import os
import struct
from _thread import allocate_lock
from select import POLLIN, POLLOUT, poll
from socket import AF_UNIX, MSG_NOSIGNAL, SOCK_STREAM, socketpair
from time import monotonic

from dolium.core.interrupts import Held
from dolium.errors import DoliumError, StateError, UsageError
from dolium.plan import quantities
from dolium.sandbox import asked
from dolium.sandbox.exchange import CHUNK, FLOOD, Kept
from dolium.sandbox.process import PIPE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from dolium.sandbox.box import Sandbox

ASK, ANSWER = struct.Struct("!16sII"), struct.Struct("!16sB4I")
VALUE, ERROR, FIGURES, CUT = 1, 2, 4, 8
MOST = 1 << 20
"""Bytes of each text of an answer."""
LONGEST = 64 << 20
"""Bytes of a snippet."""
MOST_FIGURES = 64 << 20
NUMBER_OF_FIGURES = 256
PIPE_SIZE = 1 << 20
"""Bytes that a pipe can be made to hold, /proc/sys/fs/pipe-max-size: so much is read after an answer, and no more."""


class Snippet:
    """What came of a snippet.

    value        repr of its last expression, as an interactive interpreter shows it; None where there is none, or it is None
    stdout       what it printed, and what programs did that it started; of what is too long the first and the last half
    stderr       the same
    error        the name of the exception that ended it, as in a traceback's last line, or ""
    message      the exception's text
    traceback    the whole traceback
    figures      name -> bytes: the files that it has written to the directory $DOLIUM_FIGURES
    ended_by     "end"; or, the interpreter being gone: "timeout", "memory", "output", "exit" (os._exit), "signal", or "broken"
                 (it gave an answer that is none)
    truncated    whether something of all this was too long and is not complete
    wall_seconds from the call to the answer
    """

    __slots__ = ("value", "stdout", "stderr", "error", "message", "traceback", "figures", "ended_by", "truncated",
                 "wall_seconds")  # fmt: skip

    def __init__(self, **fields: "Any") -> None:
        self.value: str | None = fields["value"]
        self.stdout: str = fields["stdout"]
        self.stderr: str = fields["stderr"]
        self.error: str = fields["error"]
        self.message: str = fields["message"]
        self.traceback: str = fields["traceback"]
        self.figures: dict[str, bytes] = fields["figures"]
        self.ended_by: str = fields["ended_by"]
        self.truncated: bool = fields["truncated"]
        self.wall_seconds: float = fields["wall_seconds"]

    @property
    def ok(self) -> bool:
        """Whether it came to its end, without an exception."""
        return self.ended_by == "end" and not self.error

    def __repr__(self) -> str:
        parts = [] if self.ended_by == "end" else [f"ended_by={self.ended_by!r}"]
        if self.error:
            parts.append(f"error={_short(f'{self.error}: {self.message}')}")
        elif self.ended_by == "end":
            parts.append(f"value={self.value if self.value is None else _short(self.value)}")
        for name in ("stdout", "stderr"):
            if text := getattr(self, name):
                parts.append(f"{name}={_short(text)}")
        if self.figures:
            parts.append(f"figures={sorted(self.figures)}")
        return f"Snippet({', '.join(parts)}, wall={self.wall_seconds:.3f} s)"

    def __reduce__(self) -> "tuple[Any, ...]":
        return _rebuild, ({name: getattr(self, name) for name in self.__slots__},)


def _short(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}... ({len(text)} in all)"


def _rebuild(fields: "dict[str, Any]") -> Snippet:
    return Snippet(**fields)


class Answer:
    """An answer on its way, from somebody who may send anything.  `feed` raises ValueError as soon as it can be none."""

    def __init__(self, token: bytes) -> None:
        self._token = token
        self._data = bytearray()
        self._sizes: tuple[int, ...] = ()
        self.flags: int = 0

    def feed(self, data: bytes) -> bool:
        """What has come; whether it is complete."""
        self._data += data
        if not self._sizes:
            if not self._data.startswith(self._token[: len(self._data)]):
                raise ValueError("an answer to no question of ours")
            if len(self._data) < ANSWER.size:
                return False
            _, self.flags, *sizes = ANSWER.unpack_from(self._data)
            if self.flags > VALUE | ERROR | FIGURES | CUT or max(sizes) > MOST:
                raise ValueError("flags or lengths that no answer has")
            self._sizes = tuple(sizes)
        if len(self._data) > ANSWER.size + sum(self._sizes):
            raise ValueError("more than an answer")
        return len(self._data) == ANSWER.size + sum(self._sizes)

    def texts(self) -> "list[str]":
        """Value, type, message and traceback of a complete one."""
        found, at = [], ANSWER.size
        for size in self._sizes:
            found.append(self._data[at : at + size].decode("utf-8", "replace"))
            at += size
        return found


class Python:
    """An interpreter in a Sandbox, made by `Sandbox.python`; use it with `with`.

    One that a snippet's timeout, its own exit or a limit has ended is gone with all names that snippets had made: the next
    `run` raises StateError, and `restart` begins anew.  Safe to call from several threads; snippets run one after the other.
    """

    def __init__(self, box: "Sandbox", *, executable: str = "python3", env: "Mapping[str, str] | None" = None,
                 cwd: "str | None" = None, user: "str | None" = None, timeout: "float | str | None" = None,
                 max_output: "int | str" = asked.MAX_OUTPUT, max_figures: "int | str" = MOST_FIGURES) -> None:  # fmt: skip
        self._box = box
        self._seconds = None if timeout is None else quantities.seconds(timeout, "timeout")
        self._most = quantities.size(max_output, "max_output")
        self._most_figures = quantities.size(max_figures, "max_figures")
        self._figures = f"/tmp/figures-{os.urandom(6).hex()}"
        self._env = {**(env or {}), "DOLIUM_FIGURES": self._figures}
        self._cwd, self._user = cwd, user
        self._argv = [executable, "-c", _program()]
        self._lock = allocate_lock()
        self._count = 0
        self.ended_by: str = ""
        try:
            with Held():
                self._begin()
        except BaseException:  # also one that has come meanwhile
            if hasattr(self, "_process"):
                self.close()
            raise

    def __enter__(self) -> "Python":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_process"):
            self.close()

    def __repr__(self) -> str:
        return f"<Python in {self._box.id}: {self.status}>"

    @property
    def status(self) -> str:
        """`running`, or `ended` with why."""
        return f"ended ({self.ended_by})" if self.ended_by else "running"

    def _begin(self) -> None:
        ours, theirs = socketpair(AF_UNIX, SOCK_STREAM)
        try:
            self._process = self._box.popen(self._argv, stdin=theirs.fileno(), stdout=PIPE, stderr=PIPE, env=self._env,
                                            cwd=self._cwd, user=self._user, bufsize=0)  # fmt: skip
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = ours
        self._channel.setblocking(False)
        self._outputs = [each.fileno() for each in (self._process.stdout, self._process.stderr) if each]
        for fd in self._outputs:
            os.set_blocking(fd, False)

    def restart(self) -> None:
        """End the interpreter, with all names that snippets have made, and start another.  Raises what `Sandbox.popen` does."""
        with Held(), self._lock:
            self._end("closed")
            self.ended_by = ""
            try:
                self._begin()
            except BaseException:
                self.ended_by = "closed"
                raise

    def close(self) -> None:
        """End the interpreter and what it has started; the Sandbox stays.  Closing twice is no mistake."""
        with Held():
            self.kill()  # a snippet of another thread's, which holds the lock
            with self._lock:
                self._end("closed")

    def kill(self) -> None:
        """The interpreter and what it has started; a `run` of another thread then comes to its end."""
        if not self.ended_by:
            self._process.kill()

    def _end(self, why: str) -> None:
        if self.ended_by:
            return
        self.ended_by = why
        self._process.kill()
        self._process.wait()
        self._channel.close()
        for each in (self._process.stdout, self._process.stderr):
            if each:
                each.close()

    def run(self, code: str, *, timeout: "float | str | None" = None) -> Snippet:
        """Run a snippet to its end.  After `timeout` seconds (else those of the interpreter) it is killed, with the interpreter.
        A snippet that raises an exception is a result, not an error.

        Raises StateError where the interpreter or its Sandbox has ended, and UsageError.
        """
        began = monotonic()
        seconds = self._seconds if timeout is None else quantities.seconds(timeout, "timeout")
        source = code.encode("utf-8", "surrogatepass") if isinstance(code, str) else b""
        if not isinstance(code, str) or len(source) > LONGEST:
            raise UsageError(f"code: expected a str of at most {quantities.show_size(LONGEST)}")
        with self._lock:
            if self.ended_by:
                why = {"timeout": "ended at its time limit", "closed": "closed"}.get(self.ended_by, f"ended ({self.ended_by})")
                raise StateError(f"{self._box.id}/python", f"{why}, and its state is gone", "running",
                                 hint="restart() begins anew, without the names that earlier snippets have made")  # fmt: skip
            self._count += 1
            name = f"<snippet {self._count}>".encode()
            token = os.urandom(16)
            answer, kept = Answer(token), (Kept(self._most), Kept(self._most))
            question = ASK.pack(token, len(name), len(source)) + name + source
            try:
                why = self._converse(question, answer, kept, None if seconds is None else began + seconds)
            except BaseException:
                with Held():
                    self._end("closed")
                raise
            value, error, message, traceback = answer.texts() if not why else [""] * 4
            figures, left_out = self._fetch() if why or answer.flags & FIGURES else ({}, False)
            return Snippet(
                value=value if not why and answer.flags & VALUE else None, error=error, message=message, traceback=traceback,
                stdout=_text(kept[0]), stderr=_text(kept[1]), figures=figures, ended_by=why or "end",
                truncated=left_out or kept[0].truncated or kept[1].truncated or bool(answer.flags & CUT),
                wall_seconds=monotonic() - began)  # fmt: skip

    def _converse(self, question: bytes, answer: Answer, kept: "tuple[Kept, Kept]", deadline: "float | None") -> str:
        """Ask, and take what is printed until the answer is there; or why none came: the interpreter is gone then."""
        channel, end = self._channel.fileno(), self._process.fileno()
        outputs = dict(zip(self._outputs, kept, strict=True))
        left, waiter, why = memoryview(question), poll(), ""
        waiter.register(channel, POLLIN | POLLOUT)
        for fd in (end, *outputs):
            waiter.register(fd, POLLIN)
        while not why:
            events = dict(waiter.poll(None if deadline is None else max(0.0, deadline - monotonic()) * 1000))
            for fd in events.keys() & outputs.keys():
                if not self._take(fd, outputs[fd]):
                    waiter.unregister(fd)
                elif outputs[fd].total > FLOOD + self._most:
                    why = "output"
            if deadline is not None and monotonic() >= deadline:
                why = "timeout"
            elif channel in events and not why:
                try:
                    if events[channel] & POLLOUT and left:
                        left = left[self._channel.send(left[:CHUNK], MSG_NOSIGNAL) :]
                        if not left:
                            waiter.modify(channel, POLLIN)
                    data = self._channel.recv(CHUNK)
                    if not data:
                        why = "broken"
                    elif answer.feed(data):
                        self._drain(outputs)
                        return ""
                except BlockingIOError:
                    pass
                except (ValueError, OSError):
                    why = "broken"
            elif end in events:
                why = "broken"
        return self._gone(why, outputs)

    def _gone(self, why: str, outputs: "dict[int, Kept]") -> str:
        """Kill it, unless it has ended; why it is gone."""
        by_itself = False
        if why == "broken":
            waiter = poll()
            waiter.register(self._process.fileno(), POLLIN)
            by_itself = bool(waiter.poll(1000))  # that is why its socket is closed
        self._process.kill()
        self._process.wait()
        self._drain(outputs)
        ending = self._process.ending
        assert ending
        if by_itself:
            why = self._box._taken_along(ending) or ("signal" if ending.signal else "exit")
        self._end(why)
        return why

    def _take(self, fd: int, kept: Kept) -> bool:
        """Whether there may be more."""
        try:
            data = os.read(fd, CHUNK)
        except BlockingIOError:
            return True
        kept.add(data)
        return bool(data)

    def _drain(self, outputs: "dict[int, Kept]") -> None:
        """What the pipes hold now."""
        for fd, kept in outputs.items():
            limit = kept.total + PIPE_SIZE
            before = -1
            while before != kept.total < limit:
                before = kept.total
                self._take(fd, kept)

    def _fetch(self) -> "tuple[dict[str, bytes], bool]":
        """The files in the directory for figures, and whether some were left out."""
        try:
            found, complete = self._box._harvest(self._figures, NUMBER_OF_FIGURES, self._most_figures)
            return found, not complete
        except (OSError, DoliumError):  # the directory is gone, or the Sandbox
            return {}, False


def _text(kept: Kept) -> str:
    return kept.data().decode("utf-8", "replace")


def _program() -> str:
    """The text of what runs inside."""
    with open(f"{os.path.dirname(__file__)}/interpreter.py", encoding="utf-8") as file:
        return file.read()

