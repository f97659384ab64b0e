"""Interpreters that have imported their modules, each in a container of its own: for a `dolium.Pool` with `preload`.

Not one interpreter that forks for each snippet: what a snippet does to its parent, which its children would inherit, no snippet
after it meets (docs/decisions/0029-held-containers.md).
"""

from _thread import allocate_lock
from select import POLLIN, poll

from dolium.core.interrupts import Held, Let
from dolium.errors import UsageError
from dolium.sandbox.box import Sandbox

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dolium.sandbox.python import Python, Snippet
    from dolium.sandbox.shelf import Shelf


class Preloaded:
    """An interpreter that is ready, and its Sandbox.  Raises UsageError for modules that it cannot import."""

    def __init__(self, modules: "list[str]", how: "dict[str, Any]") -> None:
        self.box: Sandbox = Sandbox(**how)
        try:
            self.python: Python = self.box.python()
            said = self.python.run(f"[__import__(each) for each in {modules!r}] and None")
            if not said.ok:
                why = f"{said.error}: {said.message}" if said.error else f"the interpreter ended ({said.ended_by})"
                raise UsageError(f"preload: {why}", hint='is it in the image? image="@venv" has what this Python has')
        except BaseException:
            self.box.close()
            raise

    def is_alive(self) -> bool:
        """Whether both still wait."""
        waiter = poll()
        waiter.register(self.python._process.fileno(), POLLIN)
        return self.box.status == "running" and not waiter.poll(0)

    def release(self, seconds: "float | None") -> bool:
        """Have its Sandbox give the interpreter to who asks for one, and end after so many seconds; False where it has died."""
        try:
            self.box._spare(self.python, seconds)
        except (BrokenPipeError, ConnectionResetError):
            return False
        return True

    def abandon(self) -> None:
        """Remove it."""
        self.python.close()
        self.box.close()


def making(modules: "list[str]", **how: "Any") -> "Callable[[], Preloaded]":
    """What makes one more.  Raises UsageError for what is no module's name."""
    for each in modules:
        if not isinstance(each, str) or not each.replace(".", "").isidentifier():
            raise UsageError(f"preload: expected names of modules, got {each!r}")
    return lambda: Preloaded(modules, how)


class Turn:
    """One snippet from its call to its answer, whoever waits for it."""

    def __init__(self, shelf: "Shelf", code: str, timeout: "float | str | None") -> None:
        self._shelf, self._code, self._timeout = shelf, code, timeout
        self._lock = allocate_lock()
        self._taken: Preloaded | None = None
        self._stopped = False

    def work(self) -> "Snippet":
        """Take an interpreter, and have it run the snippet.  Raises what both do."""
        with Held():
            taken: Preloaded = self._shelf.give(lambda _: True)
            try:
                with self._lock:
                    self._taken = taken
                    if self._stopped:
                        taken.python.kill()
                with Let():
                    return taken.python.run(self._code, timeout=self._timeout)
            finally:
                with self._lock:
                    self._taken = None
                self._shelf.put_away(taken)

    def stop(self) -> None:
        """From another thread: kill the interpreter, now or as soon as it is taken; `work` then comes to its end."""
        with self._lock:
            self._stopped = True
            if self._taken:
                self._taken.python.kill()
