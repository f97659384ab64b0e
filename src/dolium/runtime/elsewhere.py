"""Threads that go into another namespace and end there: setns(2) is of one thread."""

from _thread import allocate_lock, start_new_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


def act(go: "Callable[[], None]", there: "Callable[[], object]") -> None:
    """Have a thread of its own `go` somewhere and act `there`.  Raises what it raises."""
    failed: list[Any] = []
    done = allocate_lock()

    def run() -> None:
        try:
            go()
            there()
        except BaseException as problem:
            failed.append(problem)
        finally:
            done.release()

    done.acquire()
    start_new_thread(run, ())
    try:
        done.acquire()
    except BaseException:  # an interrupt: what it makes must be known before we go
        done.acquire()
        raise
    if failed:
        raise failed[0]
