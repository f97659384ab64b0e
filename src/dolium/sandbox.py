"""`dolium.run`: one program in a fresh container, as plain as subprocess.run."""

import os
from select import POLLIN, POLLOUT, poll
from time import monotonic

from dolium.engine import config, containers
from dolium.errors import CommandFailed, CommandTimeout, UsageError
from dolium.plan import quantities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from dolium.runtime.launch import Running

SIGKILL = 9
MAX_OUTPUT = 16 << 20
"""Bytes of stdout, and of stderr, that are kept unless told otherwise."""


class Result:
    """How a program ended, and what it printed.

    args               the command
    exit_code          as a shell says it: 128 + N after signal N
    returncode         as subprocess says it: -N after signal N
    signal             the signal that ended it, or 0
    stdout, stderr     bytes, or str with text=True
    wall_seconds       from the call to the end
    cpu_seconds        of the whole container
    peak_memory_bytes  of the whole container where its memory is counted, else of its largest process
    ended_by           "exit", "signal", "timeout", "memory" or "output"
    limits_hit         which of "memory", "timeout" and "output" ended it
    truncated          whether more was printed than is kept
    """

    __slots__ = ("args", "exit_code", "signal", "stdout", "stderr", "wall_seconds", "cpu_seconds", "peak_memory_bytes",
                 "ended_by", "limits_hit", "truncated")  # fmt: skip

    def __init__(self, **fields: "Any") -> None:
        self.args: list[str] = fields["args"]
        self.exit_code: int = fields["exit_code"]
        self.signal: int = fields["signal"]
        self.stdout: Any = fields["stdout"]
        self.stderr: Any = fields["stderr"]
        self.wall_seconds: float = fields["wall_seconds"]
        self.cpu_seconds: float = fields["cpu_seconds"]
        self.peak_memory_bytes: int = fields["peak_memory_bytes"]
        self.ended_by: str = fields["ended_by"]
        self.limits_hit: tuple[str, ...] = fields["limits_hit"]
        self.truncated: bool = fields["truncated"]

    @property
    def returncode(self) -> int:
        """As subprocess says it: -N after signal N."""
        return -self.signal if self.signal else self.exit_code

    def __repr__(self) -> str:
        def shorten(data: "Any") -> str:
            return repr(data) if len(data) <= 60 else f"{data[:57]!r}... ({len(data)} in all)"

        peak = quantities.show_size(self.peak_memory_bytes)
        return (f"Result(exit_code={self.exit_code}, ended_by={self.ended_by!r}, wall={self.wall_seconds:.3f} s, "
                f"peak_memory={peak}, stdout={shorten(self.stdout)}, stderr={shorten(self.stderr)})")  # fmt: skip

    def __reduce__(self) -> "tuple[Any, ...]":
        return _rebuild, ({name: getattr(self, name) for name in self.__slots__},)


def _rebuild(fields: "dict[str, Any]") -> Result:
    return Result(**fields)


def run(argv: "Sequence[str]", *, image: str = "@host", check: bool = False, text: bool = False,
        input: "str | bytes | None" = None, env: "Mapping[str, str] | None" = None, cwd: "str | None" = None,
        user: "str | None" = None, timeout: "float | str | None" = None, memory: "int | str | None" = None,
        cpus: "float | str | None" = None, pids: "int | None" = None, network: str = "none",
        mounts: "Iterable[str]" = (), max_output: "int | str" = MAX_OUTPUT) -> Result:  # fmt: skip
    """Run a program in a container of its own, wait for its end, return what it printed and how it ended.

    `image` is `@host`, `@venv` or a directory; `memory` and `max_output` are bytes or text such as "64M"; `cpus` is a number
    of CPUs; `timeout` is seconds; `pids` is a number of processes; `mounts` are `SRC:DST` or `SRC:DST:ro`; `network`
    is `none`, `host` or, for root, `bridge`; `env` is all
    that the program gets besides PATH, HOME and HOSTNAME.  A program that fails is a result, not an error, unless
    `check` is given.  Safe to call from several threads at once.

    Raises UsageError, SpecError, NotFound and Unsupported for a call that cannot be carried out, StepError where the
    kernel refuses (a program that is not there, above all), CommandFailed and CommandTimeout with `check`.
    """
    began = monotonic()
    options, seconds = config.Options(), None
    options.argv = _words(argv)
    options.env = {**env} if env else {}
    options.cwd = cwd
    options.network = network
    if network not in ("none", "host", "bridge"):
        raise UsageError(f"network: expected none, host or bridge, got {network!r}")
    if memory is not None:
        options.memory = quantities.size(memory, "memory", 4096)
    if cpus is not None:
        options.cpus = quantities.cpus(cpus, "cpus")
    if pids is not None:
        options.pids = quantities.integer(pids, "pids", 1, 1 << 22)
    if timeout is not None:
        seconds = quantities.seconds(timeout, "timeout")
    options.volumes = [quantities.volume(each, "mounts") for each in mounts]
    most = quantities.size(max_output, "max_output")
    data = input.encode() if isinstance(input, str) else input or b""
    exchange = _Exchange(data, most)
    try:
        running, _ = containers.start(image, options, user, exchange.theirs())
        exchange.started()
        try:
            reason = exchange.carry(running, None if seconds is None else began + seconds)
        except BaseException:
            running.abandon()
            raise
        ending = running.finish()
        exchange.drain()
    finally:
        exchange.close()
    if ending.out_of_memory and ending.signal == SIGKILL:
        reason = "memory"
    limits = (reason,) if reason else ()
    outputs: list[Any] = [bytes(each) for each in exchange.kept]
    if text:
        outputs = [each.decode("utf-8", "replace").replace("\r\n", "\n") for each in outputs]
    result = Result(args=options.argv, exit_code=124 if reason == "timeout" else ending.exit_code, signal=ending.signal,
                    stdout=outputs[0], stderr=outputs[1], wall_seconds=monotonic() - began, cpu_seconds=ending.cpu_seconds,
                    peak_memory_bytes=ending.peak_memory, ended_by=reason or ("signal" if ending.signal else "exit"),
                    limits_hit=limits, truncated=exchange.truncated)  # fmt: skip
    if check and (result.exit_code or reason):
        raise (CommandTimeout if reason == "timeout" else CommandFailed)(result.args, result)
    return result


def doctor() -> "list[dict[str, Any]]":
    """What Dolium can do on this host, as `dolium doctor --json` says it: a dict for each thing that was looked at, with `id`
    (stable), `job` (what cannot be done without it, or empty), `ok`, `found`, `breaks` and `mend` (a line for a shell).

    It starts `true` in a few containers.  Raises Unsupported where not even /proc is there.
    """
    from dolium.engine import doctor

    return [each.fields() for each in doctor.examine()]


def _words(argv: "Sequence[str]") -> "list[str]":
    words = [os.fspath(each) for each in argv] if not isinstance(argv, (str, bytes)) else []
    if not words or not words[0] or not all(isinstance(each, str) for each in words):
        raise UsageError("argv: expected a list of strings, the program first", hint='for a shell line: ["sh", "-c", line]')
    return words


class _Exchange:
    """The three pipes of one run: feeds input, keeps output up to a bound, knows when to stop."""

    def __init__(self, data: bytes, most: int) -> None:
        self.data = memoryview(data)
        self.most = most
        self.kept = (bytearray(), bytearray())
        self.truncated = False
        self.open: list[int] = []
        self.stdin = -1
        self.streams: dict[int, bytearray] = {}
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
        self.children = (child_in, child_out, child_err)
        self.streams = {out: self.kept[0], err: self.kept[1]}

    def _pipe(self) -> "tuple[int, int]":
        pair = os.pipe()
        self.open += pair
        return pair

    def theirs(self) -> "tuple[int, int, int]":
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
        for fd in self.open:
            os.close(fd)
        self.open = []

    def carry(self, running: "Running", deadline: "float | None") -> str:
        """Until the container has ended; why it was made to, or nothing."""
        waiter, end, reason = poll(), running.fileno(), ""
        waiter.register(end, POLLIN)
        for fd in self.streams:
            waiter.register(fd, POLLIN)
        if self.stdin >= 0:
            waiter.register(self.stdin, POLLOUT)
        while True:
            left = None if deadline is None or reason else max(0.0, deadline - monotonic()) * 1000
            events = waiter.poll(left)
            if not events:
                reason = "timeout"
                running.signal(SIGKILL)
            for fd, _ in events:
                if fd == end:
                    return reason
                if fd == self.stdin:
                    if not self._feed():
                        waiter.unregister(fd)
                        self._close(fd)
                elif not self._take(fd):
                    waiter.unregister(fd)
                elif self.truncated and not reason:
                    reason = "output"
                    running.signal(SIGKILL)

    def _feed(self) -> bool:
        try:
            self.data = self.data[os.write(self.stdin, self.data[:65536]) :]
        except BlockingIOError:
            return True
        except BrokenPipeError:
            return False
        return bool(self.data)

    def _take(self, fd: int) -> bool:
        chunk = os.read(fd, 65536)
        kept = self.streams[fd]
        room = self.most - len(kept)
        kept += chunk[:room]
        self.truncated = self.truncated or len(chunk) > room
        return bool(chunk)

    def drain(self) -> None:
        """What the pipes still hold after the end."""
        for fd in self.streams:
            while self._take(fd):
                pass
