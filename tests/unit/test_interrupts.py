"""Handlers of signals that wait until something is done."""

import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from dolium.core import interrupts
from dolium.core.interrupts import Held, Let


@pytest.fixture
def called() -> Iterator[list[int]]:
    """Numbers of the signals whose handlers have been called."""
    found: list[int] = []
    before = {each: signal.signal(each, lambda number, _: found.append(number)) for each in (signal.SIGUSR1, signal.SIGTERM)}
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def come(number: int) -> None:
    os.kill(os.getpid(), number)


def test_they_come_in_the_end_once_and_in_their_order(called: list[int]) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Held():
        with Held():
            come(signal.SIGUSR1)
            come(signal.SIGTERM)
            come(signal.SIGUSR1)
        assert called == []
    assert called == [signal.SIGUSR1, signal.SIGTERM] and signal.getsignal(signal.SIGINT) is before
    come(signal.SIGTERM)
    assert called[2:] == [signal.SIGTERM]


def test_within_let_they_come_at_once(called: list[int]) -> None:
    with Held():
        come(signal.SIGUSR1)
        with Let():
            assert called == [signal.SIGUSR1]
            come(signal.SIGUSR1)
            assert called == [signal.SIGUSR1] * 2
        come(signal.SIGUSR1)
        assert len(called) == 2
        interrupts.check()
        assert len(called) == 3
    with Let():
        pass
    interrupts.check()


def test_one_that_raises_ends_what_may_end_and_no_other_is_lost(called: list[int]) -> None:
    done = []
    with pytest.raises(KeyboardInterrupt), Held():
        try:
            come(signal.SIGINT)
            come(signal.SIGTERM)
            done.append("first")
            with Let():
                done.append("never")
        finally:
            come(signal.SIGUSR1)
            done.append("last")
    assert done == ["first", "last"] and called == [signal.SIGTERM, signal.SIGUSR1]


def test_one_that_comes_for_an_exception_does_not_hide_it() -> None:
    with pytest.raises(KeyboardInterrupt) as caught, Held():
        come(signal.SIGINT)
        raise ValueError
    assert isinstance(caught.value.__context__, ValueError)


def test_other_threads_hold_nothing_and_are_not_held(called: list[int]) -> None:
    inside, out = threading.Event(), threading.Event()

    def work() -> None:
        with Held():
            inside.set()
            out.wait(10)
            with Let():
                pass

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(10)
    come(signal.SIGUSR1)
    assert called == [signal.SIGUSR1]
    with Held():
        come(signal.SIGUSR1)
        out.set()
        thread.join()
        assert len(called) == 1
    assert len(called) == 2


def test_a_child_of_another_thread_has_the_handlers(called: list[int]) -> None:
    codes: list[int] = []

    def fork() -> None:
        pid = os.fork()
        if not pid:
            handler: Any = signal.getsignal(signal.SIGUSR1)
            come(signal.SIGUSR1)
            os._exit(7 if handler.__name__ == "<lambda>" and called == [signal.SIGUSR1] else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    with Held():
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()
    assert codes == [7] and called == []


def test_ignored_and_usual_ones_are_left_alone() -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        with Held():
            come(signal.SIGUSR2)
            assert signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR2, before)
