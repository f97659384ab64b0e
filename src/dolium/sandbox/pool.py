"""`dolium.Pool`: containers made in advance, each of them used once."""

import os
from _signal import SIG_BLOCK, pthread_sigmask, valid_signals
from _thread import allocate_lock, start_new_thread
from atexit import register
from time import monotonic
from weakref import WeakSet

from dolium.errors import DoliumError, StateError
from dolium.plan import quantities
from dolium.runtime.held import Held
from dolium.sandbox import asked
from dolium.sandbox.box import Sandbox, copy, quietly
from dolium.sandbox.job import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from dolium.runtime.ending import Ending
    from dolium.sandbox.asked import Mount
    from dolium.sandbox.result import Result

MOST = 1024
"""Containers in one pool."""
_open: "WeakSet[Pool]" = WeakSet()


class Pool:
    """So many containers (`size`) made in advance and used once each: use it with `with`.

    `image`, `mounts`, `memory`, `cpus`, `pids`, `disk`, `network`, `env`, `cwd` and `user` are as in `dolium.run`, for every
    container of the pool: what a container is must be known before it is made.  The first is made here, the others in the
    background, as are those that take the place of used ones.  Each costs an idle process, and memory of about 100 KiB; all
    go with `close` and when this process dies.  Safe to use from several threads at once; not in a process forked from this
    one, which needs a pool of its own.

    Raises what `dolium.Sandbox` does.
    """

    def __init__(self, *, size: int = 4, image: str = "@host", mounts: "Iterable[str | Mount]" = (),
                 memory: "int | str | None" = None, cpus: "float | str | None" = None, pids: "int | None" = None,
                 disk: "int | str | None" = None, network: str = "none", env: "Mapping[str, str] | None" = None,
                 cwd: "str | None" = None, user: "str | None" = None) -> None:  # fmt: skip
        self.size = quantities.integer(size, "size", 1, MOST)
        self._options = asked.options(env=env, cwd=cwd, memory=memory, cpus=cpus, pids=pids, disk=disk, network=network,
                                      mounts=mounts)  # fmt: skip
        self._image, self._user = image, user
        self._owner = os.getpid()
        self._lock = allocate_lock()
        self._worker = allocate_lock()
        """Held by the thread that makes and removes, while there is one."""
        self._working = False
        self._closed = self._failed = False
        self._used: list[Held] = []
        self._ready: list[Held] = [self._make()]
        _open.add(self)
        self._work()

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_ready"):
            self.close()

    def __repr__(self) -> str:
        return f"<Pool of {self._image}: closed>" if self._closed else f"<Pool of {self._image}: {self.ready} of {self.size} ready>"

    @property
    def ready(self) -> int:
        """How many containers wait to be used."""
        return len(self._ready)

    def run(self, argv: "Sequence[str]", *, check: bool = False, text: bool = False, encoding: "str | None" = None,
            errors: "str | None" = None, input: "str | bytes | None" = None, env: "Mapping[str, str] | None" = None,
            cwd: "str | None" = None, timeout: "float | str | None" = None, max_output: "int | str" = asked.MAX_OUTPUT,
            on_stdout: "Callable[[bytes], Any] | None" = None,
            on_stderr: "Callable[[bytes], Any] | None" = None) -> "Result":  # fmt: skip
        """Run a program in a container of its own, as `dolium.run` does, with the same results.  `env` comes besides the
        pool's; times and what a result counts begin with this call.  Where none is ready, one is made now.

        Raises StateError where the pool is closed, and what `dolium.run` does.
        """
        return self._job(**{name: value for name, value in locals().items() if name != "self"}).work()

    def _job(self, argv: "Sequence[str]", *, env: "Mapping[str, str] | None", cwd: "str | None", **how: "Any") -> Job:
        """What a call of `run` with these very arguments is to do; nothing is started yet.  Raises UsageError."""
        words = asked.words(argv)

        def begin(stdio: "tuple[int, int, int]") -> _Handle:
            return _Handle(self, self._give(lambda held: held.command(words, env or {}, cwd, stdio)))

        return Job(words, begin, **how)

    def take(self, *, timeout: "float | str | None" = None) -> Sandbox:
        """A container of the pool as a Sandbox, which is the caller's to close; after `timeout` seconds from now it is killed.

        Raises StateError where the pool is closed, and what `dolium.Sandbox` does.
        """
        seconds = None if timeout is None else quantities.seconds(timeout, "timeout")
        deadline = None if seconds is None else monotonic() + seconds
        held = self._give(lambda held: held.idle(None if seconds is None else round(seconds * 1000)))
        return Sandbox._of(self._image, copy(self._options), self._user, held.running, held.first, deadline)

    def close(self) -> None:
        """Remove the containers that are ready, and wait for those that are being made or removed.  Programs that run, and
        Sandboxes that were taken, go on.  Closing twice is no mistake.  In a process that was forked this does nothing."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            self._closed = True
            left = [*self._ready, *self._used]
            self._ready, self._used = [], []
        for held in left:
            held.abandon()
        with self._worker:  # it has seen that the pool is closed
            pass
        _open.discard(self)

    def _give(self, act: "Callable[[Held], bool]") -> Held:
        """A container that was alive when `act` was done with it."""
        while True:
            held = self._next()
            try:
                if act(held):
                    return held
            except BaseException:
                self._put_away(held)
                raise
            self._put_away(held)

    def _next(self) -> Held:
        if os.getpid() != self._owner:
            raise StateError("pool", "of the process that this one was forked from", "this one's",
                             hint="make a Pool after the fork")  # fmt: skip
        while True:
            with self._lock:
                if self._closed:
                    raise StateError("pool", "closed", "open")
                held = self._ready.pop(0) if self._ready else None
                self._failed = False
            self._work()
            if held is None:
                return self._make()
            if held.is_alive():
                return held
            self._put_away(held)

    def _make(self) -> Held:
        options = copy(self._options)
        options.held = True
        return Held(quietly(self._image, options, self._user))

    def _put_away(self, held: Held) -> None:
        """Of a container that has been used nothing is left after a while."""
        with self._lock:
            closed = self._closed
            if not closed:
                self._used.append(held)
        if closed:
            held.abandon()
        else:
            self._work()

    def _work(self) -> None:
        """See to it that a thread makes what is missing and removes what was used."""
        with self._lock:
            if self._working or self._closed:
                return
            self._working = True
            self._worker.acquire()
        try:
            start_new_thread(self._make_and_remove, ())
        except BaseException:
            self._working = False
            self._worker.release()
            raise

    def _make_and_remove(self) -> None:
        pthread_sigmask(SIG_BLOCK, valid_signals())  # they are for the thread that waits for a program
        try:
            while task := self._task():
                try:
                    task()
                except (DoliumError, OSError):  # who finds none ready makes one, and is told why that fails
                    self._failed = True
        finally:
            self._worker.release()

    def _task(self) -> "Callable[[], None] | None":
        """What is to be done next.  Removing can wait, but not for ever."""
        with self._lock:
            missing = not self._closed and not self._failed and len(self._ready) < self.size
            if self._used and (not missing or len(self._used) > self.size):
                return self._used.pop().abandon
            if missing:
                return self._add
            self._working = False
            return None

    def _add(self) -> None:
        held = self._make()
        with self._lock:
            if not self._closed:
                self._ready.append(held)
                return
        held.abandon()


class _Handle:
    """The handle of a program in a container of a pool."""

    def __init__(self, pool: Pool, held: Held) -> None:
        self._pool, self._held = pool, held
        self.fileno, self.abandon = held.running.fileno, held.abandon

    def stop(self) -> None:
        self._held.running.signal(asked.SIGKILL)

    def finish(self) -> "Ending":
        try:
            return self._held.ended()
        finally:
            self._pool._put_away(self._held)

    def reason(self, ending: "Ending") -> str:
        return ""


def _close_all() -> None:
    """Before the interpreter takes the threads away."""
    for each in [*_open]:
        each.close()


register(_close_all)
