"""The library for asyncio: the names of `dolium`, with `await`.

    result = await aio.run(["true"])
    async with aio.Sandbox(memory="64M") as box:
        process = await box.popen(["seq", "3"], stdout=asyncio.subprocess.PIPE)
        async for line in process.stdout:
            ...

A task that is cancelled kills what it waits for, sees it removed, and then raises CancelledError.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from inspect import signature
from typing import IO, Any, TypeVar

from dolium.sandbox import box, fresh, pool, same_arguments
from dolium.sandbox.job import Job
from dolium.sandbox.process import Process as _Process
from dolium.sandbox.python import Python as _Python
from dolium.sandbox.python import Snippet
from dolium.sandbox.result import Result
from dolium.sandbox.snapshot import Snapshot

T = TypeVar("T")


async def _aside(act: Callable[[], T], stop: Callable[[], None] | None = None) -> T:
    """In a thread of its own: a pool of threads would be a limit of how many containers run at once.

    When the task is cancelled, `stop` is called, and the thread's end awaited all the same.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def work() -> None:
        try:
            outcome, failure = act(), None
        except BaseException as problem:
            outcome, failure = None, problem
        loop.call_soon_threadsafe(_settle, done, outcome, failure)

    threading.Thread(target=work, name="dolium", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        if stop:
            stop()
        while not done.done():
            try:
                await asyncio.wait([done])
            except asyncio.CancelledError:  # cancelled again: it is being killed already
                pass
        done.exception()  # seen
        raise


async def _made(make: Callable[[], T], undo: Callable[[T], None]) -> T:
    """What that makes, aside; of a task that is cancelled meanwhile it is undone."""
    made: list[T] = []

    def act() -> None:
        made.append(make())

    try:
        await _aside(act)
    except asyncio.CancelledError:
        for each in made:
            undo(each)
        raise
    return made[0]


def _settle(done: "asyncio.Future[Any]", outcome: Any, failure: BaseException | None) -> None:
    if failure is None:
        done.set_result(outcome)
    else:
        done.set_exception(failure)


def _bound(function: Callable[..., Any], args: tuple[Any, ...], how: dict[str, Any]) -> dict[str, Any]:
    """All arguments of a call, by name, the usual ones too.  Raises TypeError as the call would."""
    call = signature(function).bind(*args, **how)
    call.apply_defaults()
    return dict(call.arguments)


async def _work(job: Job) -> Result:
    return await _aside(job.work, job.stop)


@same_arguments.of_function(fresh.run)
async def run(*args: Any, **how: Any) -> Result:
    """`dolium.run`."""
    return await _work(fresh.job(**_bound(fresh.run, args, how)))


class Process:
    """A program that runs in a Sandbox, with the names of asyncio.subprocess.Process: `pid`, `returncode` (and `exit_code`),
    `stdin` (a StreamWriter), `stdout` and `stderr` (StreamReaders) where PIPE was asked for."""

    def __init__(self, process: _Process) -> None:
        self._process = process
        self.args: list[str] = process.args
        self.pid: int = process.pid
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._transports: list[asyncio.BaseTransport] = []

    async def _connect(self) -> None:
        if self._process.stdin:
            self.stdin = await self._writer(self._process.stdin)
        if self._process.stdout:
            self.stdout = await self._reader(self._process.stdout)
        if self._process.stderr:
            self.stderr = await self._reader(self._process.stderr)

    async def _reader(self, file: IO[bytes]) -> asyncio.StreamReader:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), file)
        self._transports.append(transport)
        return reader

    async def _writer(self, file: IO[bytes]) -> asyncio.StreamWriter:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, file)
        self._transports.append(transport)
        return asyncio.StreamWriter(transport, protocol, None, loop)

    @property
    def returncode(self) -> int | None:
        """None while it runs; then the exit code, or -N after signal N."""
        return self._process.poll()

    @property
    def exit_code(self) -> int | None:
        """The same as a shell says it: 128 + N after signal N."""
        self._process.poll()
        return self._process.exit_code

    async def wait(self) -> int:
        """Until it has ended; its return code.  A cancelled wait kills nothing."""
        if self._process.poll() is None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            fd = os.dup(self._process.fileno())  # two may wait at once
            loop.add_reader(fd, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(fd)
                os.close(fd)
        return self._process.wait()

    async def communicate(self, input: bytes | None = None) -> tuple[bytes | None, bytes | None]:
        """Feed input, read both outputs to their ends, wait; (stdout, stderr)."""
        async def feed() -> None:
            if self.stdin:
                try:
                    self.stdin.write(input or b"")
                    await self.stdin.drain()
                except (BrokenPipeError, ConnectionResetError):  # it does not read
                    pass
                self.stdin.close()

        async def read(stream: asyncio.StreamReader | None) -> bytes | None:
            return await stream.read() if stream else None

        _, out, err = await asyncio.gather(feed(), read(self.stdout), read(self.stderr))
        await self.wait()
        return out, err

    def send_signal(self, number: int) -> None:
        """To the program; nothing if it has ended."""
        self._process.send_signal(number)

    def terminate(self) -> None:
        """SIGTERM to the program."""
        self._process.terminate()

    def kill(self) -> None:
        """SIGKILL to the program and to all that it has started."""
        self._process.kill()

    async def __aenter__(self) -> "Process":
        return self

    async def __aexit__(self, kind: object, *_: object) -> None:
        if kind:
            self.kill()
        for each in self._transports:
            each.close()
        await self.wait()


class Python:
    """`dolium.Python`, made by `await box.python()`; a cancelled `run` kills the interpreter."""

    def __init__(self, python: _Python) -> None:
        self._python = python

    async def __aenter__(self) -> "Python":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self._python)

    @property
    def status(self) -> str:
        """`running`, or `ended` with why."""
        return self._python.status

    @property
    def ended_by(self) -> str:
        """Why it has ended, or nothing."""
        return self._python.ended_by

    async def run(self, code: str, *, timeout: float | str | None = None) -> Snippet:
        """`dolium.Python.run`."""
        return await _aside(lambda: self._python.run(code, timeout=timeout), self._python.kill)

    async def restart(self) -> None:
        """`dolium.Python.restart`."""
        await _aside(self._python.restart)

    async def close(self) -> None:
        """End the interpreter and what it has started; the Sandbox stays.  Closing twice is no mistake."""
        await _aside(self._python.close)


class Sandbox:
    """`dolium.Sandbox`, with the same arguments; it starts in `async with` (or `await box.start()`)."""

    @same_arguments.of_class(box.Sandbox)
    def __init__(self, **how: Any) -> None:
        _bound(box.Sandbox, (), how)  # a slip of the pen is said here
        self._how = how
        self._box: box.Sandbox | None = None

    async def start(self) -> "Sandbox":
        """Start it, unless that is done.  Raises what `dolium.Sandbox` does."""
        if self._box:
            return self
        self._box = await _made(lambda: box.Sandbox(**self._how), box.Sandbox.close)
        return self

    async def __aenter__(self) -> "Sandbox":
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self._box) if self._box else "<Sandbox: not started>"

    @property
    def _started(self) -> box.Sandbox:
        if self._box is None:
            from dolium.errors import StateError

            raise StateError("", "not started", "running", hint="async with aio.Sandbox(...) as box")
        return self._box

    @property
    def id(self) -> str:
        """As its cgroups are named."""
        return self._started.id

    @property
    def status(self) -> str:
        """`running`, `ended` (by its time or memory limit, `ended_by` says), or `closed`."""
        return self._started.status

    @property
    def ended_by(self) -> str:
        """Why it has ended by itself, or nothing."""
        return self._started.ended_by

    async def close(self) -> None:
        """Kill what runs in it, and remove it with its files.  Closing twice is no mistake."""
        if self._box:
            await _aside(self._box.close)

    @same_arguments.of_method(box.Sandbox.run)
    async def run(self, *args: Any, **how: Any) -> Result:
        """`dolium.Sandbox.run`."""
        given = _bound(box.Sandbox.run, (self._started, *args), how)
        del given["self"]
        return await _work(self._started._job(**given))

    @same_arguments.of_method(box.Sandbox.popen)
    async def popen(self, *args: Any, **how: Any) -> Process:
        """`dolium.Sandbox.popen`, in bytes; its pipes are asyncio's streams."""
        made: list[_Process] = []
        started = self._started

        def begin() -> None:
            made.append(started.popen(*args, **how))

        try:
            await _aside(begin)
            process = Process(made[0])
            await process._connect()
        except asyncio.CancelledError:
            for each in made:
                each.kill()
            raise
        return process

    @same_arguments.of_method(box.Sandbox.python)
    async def python(self, **how: Any) -> Python:
        """`dolium.Sandbox.python`."""
        started = self._started
        return Python(await _made(lambda: started.python(**how), _Python.close))

    async def snapshot(self) -> Snapshot:
        """`dolium.Sandbox.snapshot`."""
        return await _made(self._started.snapshot, Snapshot.close)

    @same_arguments.of_method(box.Sandbox.read)
    async def read(self, *args: Any, **how: Any) -> Any:
        """`dolium.Sandbox.read`."""
        return await _aside(lambda: self._started.read(*args, **how))

    @same_arguments.of_method(box.Sandbox.write)
    async def write(self, *args: Any, **how: Any) -> None:
        """`dolium.Sandbox.write`."""
        await _aside(lambda: self._started.write(*args, **how))

    async def ls(self, path: str = "/") -> list[str]:
        """`dolium.Sandbox.ls`."""
        return await _aside(lambda: self._started.ls(path))

    async def exists(self, path: str) -> bool:
        """`dolium.Sandbox.exists`."""
        return await _aside(lambda: self._started.exists(path))

    async def remove(self, path: str) -> None:
        """`dolium.Sandbox.remove`."""
        await _aside(lambda: self._started.remove(path))

    @same_arguments.of_method(box.Sandbox.put)
    async def put(self, *args: Any, **how: Any) -> None:
        """`dolium.Sandbox.put`."""
        await _aside(lambda: self._started.put(*args, **how))

    @same_arguments.of_method(box.Sandbox.get)
    async def get(self, *args: Any, **how: Any) -> None:
        """`dolium.Sandbox.get`."""
        await _aside(lambda: self._started.get(*args, **how))


class Pool:
    """`dolium.Pool`, with the same arguments; it starts in `async with` (or `await pool.start()`)."""

    @same_arguments.of_class(pool.Pool)
    def __init__(self, **how: Any) -> None:
        _bound(pool.Pool, (), how)
        self._how = how
        self._pool: pool.Pool | None = None

    async def start(self) -> "Pool":
        """Start it, unless that is done.  Raises what `dolium.Pool` does."""
        if self._pool:
            return self
        self._pool = await _made(lambda: pool.Pool(**self._how), pool.Pool.close)
        return self

    async def __aenter__(self) -> "Pool":
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return repr(self._pool) if self._pool else "<Pool: not started>"

    @property
    def _started(self) -> pool.Pool:
        if self._pool is None:
            from dolium.errors import StateError

            raise StateError("pool", "not started", "open", hint="async with aio.Pool(...) as pool")
        return self._pool

    @property
    def ready(self) -> int:
        """How many containers wait to be used."""
        return self._started.ready

    async def close(self) -> None:
        """`dolium.Pool.close`."""
        if self._pool:
            await _aside(self._pool.close)

    @same_arguments.of_method(pool.Pool.run)
    async def run(self, *args: Any, **how: Any) -> Result:
        """`dolium.Pool.run`."""
        given = _bound(pool.Pool.run, (self._started, *args), how)
        del given["self"]
        return await _work(self._started._job(**given))

    async def snippet(self, code: str, *, timeout: float | str | None = None) -> Snippet:
        """`dolium.Pool.snippet`."""
        turn = self._started._turn(code, timeout)
        return await _aside(turn.work, turn.stop)

    async def take(self, *, timeout: float | str | None = None) -> Sandbox:
        """`dolium.Pool.take`: `async with await pool.take() as box`."""
        started, found = self._started, Sandbox()
        found._box = await _made(lambda: started.take(timeout=timeout), box.Sandbox.close)
        return found
