"""What is made in advance, by a thread, and used once: the store of a `dolium.Pool`.

The thread lives while there is something to make or to remove.  So a full store has none, can be collected as garbage, and a
fork(2) finds nothing half done; a signal is never its own.
"""

import os
from _signal import SIG_BLOCK, pthread_sigmask, valid_signals
from _thread import allocate_lock, start_new_thread
from atexit import register
from weakref import WeakSet

from dolium.errors import DoliumError, StateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    class Item(Protocol):
        """What may die while it waits; `abandon` removes it, and twice is no mistake."""

        def is_alive(self) -> bool: ...
        def abandon(self) -> None: ...


TRIES = 3
"""Made anew for one that asks, of things that die at once."""
_open: "WeakSet[Shelf]" = WeakSet()


class Shelf:
    """`size` things that `make` makes, the first of them now.  `make` must not refer to who has the shelf, or that is never
    garbage.  Safe to use from several threads at once.  Raises what `make` does."""

    def __init__(self, size: int, make: "Callable[[], Any]") -> None:
        self.size: int = size
        self.is_closed: bool = False
        self._make = make
        self._owner = os.getpid()
        self._lock = allocate_lock()
        self._worker = allocate_lock()
        """Held by the thread, while there is one."""
        self._working = self._failed = False
        self._used: list[Item] = []
        self.ready: list[Any] = [make()]
        _open.add(self)
        self._work()

    def close(self) -> None:
        """Remove what is ready, and wait for what is being made or removed.  In a process that was forked this does nothing."""
        if os.getpid() != self._owner:
            return
        with self._lock:
            self.is_closed = True
            left = [*self.ready, *self._used]
            self.ready, self._used = [], []
        for item in left:
            item.abandon()
        with self._worker:  # it has seen that the pool is closed
            pass
        _open.discard(self)

    def give(self, act: "Callable[[Any], bool]") -> "Any":
        """One that was alive when `act` was done with it, which says so.  Raises what that does, and StateError."""
        for _ in range(self.size + TRIES):
            item = self._next()
            try:
                if act(item):
                    return item
            except BaseException:
                self.put_away(item)
                raise
            self.put_away(item)
        raise DoliumError("the pool's containers die before they are used", hint="is their memory limit too small?")

    def _next(self) -> "Any":
        if os.getpid() != self._owner:
            raise StateError("pool", "of the process that this one was forked from", "this one's",
                             hint="make a Pool after the fork")  # fmt: skip
        while True:
            with self._lock:
                if self.is_closed:
                    raise StateError("pool", "closed", "open")
                item = self.ready.pop(0) if self.ready else None
                self._failed = False
            self._work()
            if item is None:
                return self._make()
            if item.is_alive():
                return item
            self.put_away(item)

    def put_away(self, item: "Item") -> None:
        """Of one that has been used nothing is left after a while."""
        with self._lock:
            closed = self.is_closed
            if not closed:
                self._used.append(item)
        if closed:
            item.abandon()
        else:
            self._work()

    def _work(self) -> None:
        """See to it that a thread makes what is missing and removes what was used."""
        with self._lock:
            if self._working or self.is_closed:
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
        pthread_sigmask(SIG_BLOCK, valid_signals())  # they are for the threads of the program
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
            missing = not self.is_closed and not self._failed and len(self.ready) < self.size
            if self._used and (not missing or len(self._used) > self.size):
                return self._used.pop().abandon
            if missing:
                return self._add
            self._working = False
            return None

    def _add(self) -> None:
        item = self._make()
        with self._lock:
            if not self.is_closed:
                self.ready.append(item)
                return
        item.abandon()


def _close_all() -> None:
    """Before the interpreter takes the threads away."""
    for each in [*_open]:
        each.close()


register(_close_all)
