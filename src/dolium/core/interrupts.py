"""What must not be left half done: in it the program's handlers of signals wait, and are called in the end.

Python calls them between any two operations of the main thread, and SIGINT's raises KeyboardInterrupt there: between open(2) and
the name for its descriptor, too.  Blocking the signal would not do, for another thread then takes it, and the handler runs in the
main thread all the same.  So the handlers are exchanged, which only the main thread can do, and only it needs to.
"""

import os
from _signal import getsignal, signal
from _thread import get_native_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SIGNALS = (2, 15, 14, 1, 10, 12)
"""SIGINT, SIGTERM, SIGALRM, SIGHUP, SIGUSR1 and 2: those whose handlers raise, in programs that have such."""
_handlers: "dict[int, Any]" = {}
_come: "list[int]" = []


class Held:
    """With it: they wait.  Within another one it changes nothing."""

    __slots__ = ("_is_outer",)

    def __enter__(self) -> None:
        self._is_outer = _hold()

    def __exit__(self, *_: object) -> None:
        if self._is_outer:
            _release()


class Let:
    """With it, within `Held`: they do not wait, for this may take long."""

    __slots__ = ("_was_held",)

    def __enter__(self) -> None:
        self._was_held = bool(_handlers) and _is_main()
        if self._was_held:
            _release()

    def __exit__(self, *_: object) -> None:
        if self._was_held:
            _hold()


def check() -> None:
    """Within `Held`, in the middle of something long, where it can end: call those that have come.  Raises what they do."""
    if _come:
        with Let():
            pass


def _is_main() -> bool:
    return get_native_id() == os.getpid()


def _hold() -> bool:
    """Whether it was to be done, and is."""
    if _handlers or not _is_main():
        return False
    found: dict[int, Any] = {}
    try:
        for number in SIGNALS:
            handler = getsignal(number)
            if callable(handler):
                found[number] = handler
                signal(number, _note)
    except ValueError:  # the interpreter's main thread is not the process's
        return False
    except BaseException:  # one that has just come
        for number, handler in found.items():
            signal(number, handler)
        raise
    _handlers.update(found)
    return bool(found)


def _release() -> None:
    handlers = {**_handlers}
    for number, handler in handlers.items():
        if getsignal(number) is _note:
            signal(number, handler)
    _handlers.clear()
    _call(handlers)


def _note(number: int, _: object) -> None:
    if number not in _come:
        _come.append(number)


def _call(handlers: "dict[int, Any]") -> None:
    """Those that have come, each even if one before it raises."""
    if _come:
        number = _come.pop(0)
        try:
            handlers[number](number, None)
        finally:
            _call(handlers)


def _after_fork() -> None:
    """A child of another thread's has that one for its main thread, which holds nothing."""
    _come.clear()
    if _handlers:
        _release()


os.register_at_fork(after_in_child=_after_fork)
