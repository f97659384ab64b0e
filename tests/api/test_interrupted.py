"""Ctrl-C at any moment: KeyboardInterrupt comes out of the call, and nothing is left of what it was at."""

import gc
import os
import random
import signal
import threading
import time
from collections.abc import Callable

import pytest
from containers import SLOW

import dolium

ROUNDS = 30


def box() -> None:
    with dolium.Sandbox() as made:
        made.run(["true"])
        made.write("/tmp/x", "y")


def popen() -> None:
    with dolium.Sandbox() as made, made.popen(["cat"], stdin=-1, stdout=-1) as process:
        process.communicate(b"x")


def snapshot() -> None:
    with dolium.Sandbox() as made:
        made.run(["touch", "/x"])
        with made.snapshot() as snap:
            dolium.run(["true"], image=snap)


def pool() -> None:
    with dolium.Pool(size=2) as made:
        made.run(["true"])
        made.take().close()


def python() -> None:
    with dolium.Sandbox() as made, made.python() as interpreter:
        interpreter.run("1 + 1")


def run() -> None:
    dolium.run(["true"])


@pytest.mark.parametrize("act", [run, box, popen, snapshot, pool, python], ids=lambda act: act.__name__)
def test_at_any_moment(act: Callable[[], None]) -> None:
    act()  # all modules are there
    began = time.monotonic()
    act()
    took, chance, hits = time.monotonic() - began, random.Random(1), 0
    before = signal.getsignal(signal.SIGINT)

    def ring(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    for _ in range(ROUNDS):
        sender = threading.Timer(0.001 + chance.random() * took, ring)
        try:
            sender.start()
            act()
        except KeyboardInterrupt:
            hits += 1
        try:  # what it was at has ended sooner
            sender.join()
            time.sleep(0)
        except KeyboardInterrupt:
            sender.join()
    gc.collect()
    assert hits and signal.getsignal(signal.SIGINT) is before


def test_while_a_program_runs_it_comes_at_once() -> None:
    for act in (lambda: dolium.run(["sleep", "60"]), lambda: dolium.Sandbox().run(["sleep", "60"])):
        sender = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
        sender.start()
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            act()
        assert time.monotonic() - began < 20 * SLOW
        sender.join()
    gc.collect()


def test_an_exit_that_a_handler_raises() -> None:
    """As services end that catch SIGTERM."""

    def leave(*_: object) -> None:
        raise SystemExit(3)

    old = signal.signal(signal.SIGTERM, leave)
    try:
        with dolium.Pool(size=2) as made:
            sender = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM))
            sender.start()
            with pytest.raises(SystemExit):
                while True:
                    made.run(["true"])
            sender.join()
    finally:
        signal.signal(signal.SIGTERM, old)


def test_an_interrupted_snippet_takes_its_interpreter_and_not_the_box() -> None:
    with dolium.Sandbox() as made, made.python() as interpreter:
        interpreter.run("x = 1")
        sender = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
        sender.start()
        with pytest.raises(KeyboardInterrupt):
            interpreter.run("import time; time.sleep(60)")
        sender.join()
        with pytest.raises(dolium.StateError):
            interpreter.run("x")
        interpreter.restart()
        assert interpreter.run("1 + 1").value == "2" and made.run(["true"]).exit_code == 0
