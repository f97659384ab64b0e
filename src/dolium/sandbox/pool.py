"""`dolium.Pool`: containers made in advance, each of them used once."""

from time import monotonic

from dolium.core import interrupts
from dolium.errors import UsageError
from dolium.plan import quantities
from dolium.runtime.held import Held
from dolium.sandbox import asked
from dolium.sandbox.box import Sandbox, quietly
from dolium.sandbox.job import Job
from dolium.sandbox.shelf import Shelf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from dolium.engine import config
    from dolium.engine.snapshots import Image
    from dolium.runtime.ending import Ending
    from dolium.sandbox.asked import Mount
    from dolium.sandbox.preloaded import Preloaded, Turn
    from dolium.sandbox.python import Snippet
    from dolium.sandbox.result import Result
    from dolium.sandbox.snapshot import Snapshot

MOST = 1024
"""Containers in one pool."""


class Pool:
    """So many containers (`size`) made in advance and used once each: use it with `with`.

    `image`, `mounts`, `memory`, `cpus`, `pids`, `disk`, `network`, `env`, `cwd` and `user` are as in `dolium.run`, for every
    container of the pool: what a container is must be known before it is made.  The first is made here, the others in the
    background, as are those that take the place of used ones.  Each costs an idle process, and memory of about 100 KiB; all
    go with `close` and when this process dies.  Safe to use from several threads at once; not in a process forked from this
    one, which needs a pool of its own.

    With `preload`, a list of modules (which may be empty), there is a Python interpreter in each that has imported them; it is
    for `snippet`, and for `Sandbox.python` of one that is taken.

    Raises what `dolium.Sandbox` does.
    """

    def __init__(self, *, size: int = 4, image: "str | Snapshot" = "@host", mounts: "Iterable[str | Mount]" = (),
                 memory: "int | str | None" = None, cpus: "float | str | None" = None, pids: "int | None" = None,
                 disk: "int | str | None" = None, network: str = "none", env: "Mapping[str, str] | None" = None,
                 cwd: "str | None" = None, user: "str | None" = None,
                 preload: "Iterable[str] | None" = None) -> None:  # fmt: skip
        self.size: int = quantities.integer(size, "size", 1, MOST)
        how: dict[str, Any] = {"env": env, "cwd": cwd, "memory": memory, "cpus": cpus, "pids": pids, "disk": disk,
                               "network": network, "mounts": [*mounts]}  # fmt: skip
        self._options = asked.options(**how)
        self._image, self._user = asked.image(image), user
        self._name = image if isinstance(image, str) else "a snapshot"
        self._interprets = preload is not None
        if preload is None:
            make: Callable[[], Any] = _making(self._image, self._options, user)
        else:
            from dolium.sandbox.preloaded import making

            make = making([*preload], image=image, user=user, **how)
        try:
            with interrupts.Held():
                self._shelf = Shelf(self.size, make)
        except BaseException:  # also one that has come meanwhile
            if hasattr(self, "_shelf"):
                self.close()
            raise

    def __enter__(self) -> "Pool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_shelf"):
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self._shelf.is_closed else f"{self.ready} of {self.size} ready"
        return f"<Pool of {self._name}: {state}>"

    @property
    def ready(self) -> int:
        """How many containers wait to be used."""
        return len(self._shelf.ready)

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
        if self._interprets:
            raise UsageError("run: with `preload` the pool has interpreters; give it snippets",
                             hint="make another Pool, without preload, for programs")  # fmt: skip

        def begin(stdio: "tuple[int, int, int]") -> _Handle:
            return _Handle(self._shelf, self._shelf.give(lambda held: held.command(words, env or {}, cwd, stdio)))

        return Job(words, begin, **how)

    def take(self, *, timeout: "float | str | None" = None) -> Sandbox:
        """A container of the pool as a Sandbox, which is the caller's to close; after `timeout` seconds from now it is killed.

        Raises StateError where the pool is closed, and what `dolium.Sandbox` does.
        """
        seconds = None if timeout is None else quantities.seconds(timeout, "timeout")
        deadline = None if seconds is None else monotonic() + seconds
        with interrupts.Held():
            if self._interprets:
                taken: Preloaded = self._shelf.give(lambda interpreter: interpreter.release(seconds))
                return taken.box
            held = self._shelf.give(lambda held: held.idle(seconds))
            return Sandbox._of(self._image, held.options.copy(), self._user, held.running, held.first, deadline)

    def snippet(self, code: str, *, timeout: "float | str | None" = None) -> "Snippet":
        """Run a snippet, as `Python.run` does, in an interpreter that has imported the modules of `preload`, in a container of
        its own that nobody has used and nobody will use again.

        Raises StateError where the pool is closed, UsageError where it was made without `preload`, and what `dolium.Sandbox` does.
        """
        return self._turn(code, timeout).work()

    def _turn(self, code: str, timeout: "float | str | None") -> "Turn":
        """What a call of `snippet` is to do."""
        if not self._interprets:
            raise UsageError("snippet: this pool has no interpreters", hint='dolium.Pool(preload=["numpy"]); or preload=[]')
        from dolium.sandbox.preloaded import Turn

        return Turn(self._shelf, code, timeout)

    def close(self) -> None:
        """Remove the containers that are ready, and wait for those that are being made or removed.  Programs that run, and
        Sandboxes that were taken, go on.  Closing twice is no mistake.  In a process that was forked this does nothing."""
        with interrupts.Held():
            self._shelf.close()


def _making(image: "str | Image", options: "config.Options", user: "str | None") -> "Callable[[], Held]":
    """What makes one more container that waits for its command."""

    def make() -> Held:
        asking = options.copy()
        asking.held = True
        return Held(quietly(image, asking, user), asking)

    return make


class _Handle:
    """The handle of a program in a container of a pool."""

    def __init__(self, shelf: Shelf, held: Held) -> None:
        self._shelf, self._held = shelf, held
        self.fileno, self.abandon = held.running.fileno, held.abandon

    def stop(self) -> None:
        self._held.running.signal(asked.SIGKILL)

    def finish(self) -> "Ending":
        try:
            return self._held.ended()
        finally:
            self._shelf.put_away(self._held)

    def reason(self, ending: "Ending") -> str:
        return ""
