"""One program from its start to its Result, whoever waits for it."""

from _thread import allocate_lock
from time import monotonic

from dolium.core.interrupts import Held, Let
from dolium.plan import quantities
from dolium.sandbox import asked
from dolium.sandbox.exchange import Exchange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from dolium.runtime.ending import Ending
    from dolium.sandbox.result import Result

    class Handle(Protocol):
        """A program that has been started: `fileno` is readable when it has ended, `stop` kills it and what it started,
        `finish` settles its end, `abandon` does both, `reason` says what else has ended it."""

        def fileno(self) -> int: ...
        def stop(self) -> None: ...
        def finish(self) -> Ending: ...
        def abandon(self) -> None: ...
        def reason(self, ending: Ending) -> str: ...


class Job:
    """What is asked of one run.  `begin` starts the program on three descriptors."""

    def __init__(self, argv: "list[str]", begin: "Callable[[tuple[int, int, int]], Handle]", *, check: bool, text: bool,
                 encoding: "str | None", errors: "str | None", input: "str | bytes | None", timeout: "float | str | None",
                 max_output: "int | str", on_stdout: "Callable[[bytes], Any] | None",
                 on_stderr: "Callable[[bytes], Any] | None") -> None:  # fmt: skip
        self.argv: list[str] = argv
        self.began: float = monotonic()
        self._begin = begin
        self._check = check
        self._text = asked.Text(text, encoding, errors)
        self._data = self._text.taken(input)
        self._most = quantities.size(max_output, "max_output")
        self._deadline = None if timeout is None else self.began + quantities.seconds(timeout, "timeout")
        self._listeners = (on_stdout, on_stderr)
        self._lock = allocate_lock()
        self._handle: Handle | None = None
        self._stopped = False

    def work(self) -> "Result":
        """Start the program, serve it until its end.  Raises what the start does, CommandFailed and CommandTimeout."""
        with Held():
            return self._work()

    def _work(self) -> "Result":
        exchange = Exchange(self._data, self._most, self._listeners)
        try:
            handle = self._begin(exchange.theirs())
            exchange.started()
            with self._lock:
                self._handle = handle
                if self._stopped:
                    handle.stop()
            try:
                with Let():
                    reason = exchange.carry(handle.fileno(), self._deadline, handle.stop)
            except BaseException:
                handle.abandon()
                raise
            with self._lock:
                self._handle = None
            ending = handle.finish()
            exchange.drain()
        finally:
            exchange.close()
        reason = reason or handle.reason(ending)
        return asked.result(self.argv, ending, exchange, self._text, reason, monotonic() - self.began, self._check)

    def stop(self) -> None:
        """From another thread: kill the program, now or as soon as it has started; `work` then comes to its end."""
        with self._lock:
            self._stopped = True
            if self._handle:
                self._handle.stop()
