"""`dolium run`: a container made and started, in the foreground or left running."""

import os
from _signal import SIG_IGN, getsignal, signal
from select import POLLIN, poll
from time import monotonic

from dolium.cli import flags as grammar
from dolium.cli import render, request
from dolium.engine import life, rootfs, settling, store
from dolium.errors import Exists
from dolium.plan.quantities import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dolium.cli.terminal import Terminal
    from dolium.engine.pull import Progress
    from dolium.engine.store import Container
    from dolium.runtime.denials import Watcher
    from dolium.runtime.ending import Ending
    from dolium.runtime.watched import Watched

SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCONT = 1, 2, 3, 9, 10, 12, 14, 15, 18
FORWARDED = (SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCONT)
PATIENCE = 3
"""Ctrl-C so often ends what does not listen: PID 1 ignores signals that it has no handler for, pid_namespaces(7)."""


def main(argv: "list[str]") -> int:
    """The exit code: the program's own, 124 at the time limit.  Raises DoliumError."""
    flags = grammar.parse(argv)
    if flags.help:
        from dolium.cli.help_page import help

        render.write(1, help())
        return 0
    return execute(flags)


def execute(flags: grammar.Flags, seen: "Callable[[life.Begun], None] | None" = None) -> int:
    """Carry out what the flags ask for; `seen` is called once the program runs.  The exit code.  Raises DoliumError."""
    image, options = request.image(flags), request.options(flags)
    screen = terminal(flags.interactive) if flags.tty and not flags.detach else None
    # before the signals are the program's: Ctrl-C ends the unpacking
    use = rootfs.provide(image, render.say, pull=flags.pull or "missing", platform=flags.platform or "", progress=progress)
    signals = Signals()
    of_image = request.complete(flags, options, use.image if use else None)
    how: dict[str, Any] = {
        "name": flags.name, "remove": flags.rm, "labels": of_image.labels, "stop_signal": of_image.stop_signal,
        "stop_timeout": flags.stop_timeout, "digest": use.digest if use else "",
        "manifest": use.image.digest if use and use.image else ""}  # fmt: skip
    try:
        container, held = store.create(image, options, of_image.user, **how)
    except Exists:
        if not flags.name or not life.has_gone(flags.name):
            raise
        container, held = store.create(image, options, of_image.user, **how)
    if use:
        use.close()  # it is remembered now who needs it
        for each in use.notes:
            render.say(each)
    denials = _watcher() if flags.why_denied else None
    with held:
        try:
            begun = begin(container, interactive=flags.interactive, detached=flags.detach, denials=denials, screen=screen)
        except BaseException:
            store.remove(container)  # what never ran is not left lying about
            raise
    if begun.note and flags.userns is None:
        render.say(begun.note)
    if seen:
        seen(begun)
    if flags.detach:
        begun.running.leave()
        render.write(1, f"{container.id}\n")
        return 0
    code = attend(container, begun, signals, flags.timeout, screen)
    if denials:
        _tell(denials, flags.seccomp is None)
    return code


def progress() -> "Progress":
    """What shows how a pull goes."""
    from dolium.cli import progress

    return progress.chosen(False, False)


def _watcher() -> "Watcher":
    from dolium.runtime.denials import Watcher

    return Watcher()


def _tell(denials: "Watcher", default: bool) -> None:
    from dolium.plan.denied import lines

    for each in lines(denials.end(), default, denials.others):
        render.say(each)


def terminal(interactive: bool) -> "Terminal":
    """This process's own, for a program that has one.  Raises UsageError where there is nothing to type at."""
    from dolium.cli.terminal import Terminal

    return Terminal(interactive)


def begin(container: "Container", *, interactive: bool, detached: bool, denials: "Watcher | None" = None,
          screen: "Terminal | None" = None) -> life.Begun:  # fmt: skip
    """Start a locked container on this process's standard input, where that is wanted, output and error; on none of them if
    it has a terminal, which is to be seen on that `screen`.

    Raises DoliumError.
    """
    tty = container.options.get("tty")
    null = -1 if interactive and not detached and not tty else os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        stdio = (null, null, null) if tty else (0 if null < 0 else null, 1, 2)
        begun = life.begin(container, stdio, detached=detached, denials=denials, size=screen.size() if screen else None)
        for each in begun.notes:
            render.say(each)
        return begun
    finally:
        if null >= 0:
            os.close(null)


def attend(container: "Container", begun: life.Begun, signals: "Signals", timeout: "float | None",
           screen: "Terminal | None" = None) -> int:  # fmt: skip
    """Wait for the end of a container in the foreground, say why it was killed if it was; its exit code."""
    running = begun.running
    try:
        reason = signals.wait(running, timeout, screen)
        ending = running.finish()
    except BaseException:
        running.abandon()
        raise
    if not settling.ended(container, begun.since, ending, reason):
        render.say(f"the disk is full: how it ended is not written down; `dolium rm {container.name}` makes room")
    limit = container.options.get("memory")
    if reason == "timeout":
        render.say(f"killed: time limit of {timeout:g} s reached")
        return 124
    if reason == "interrupted":
        render.say(f"killed: {PATIENCE} interrupts, and the program heeded none")
    elif limit and ending.out_of_memory and ending.signal == SIGKILL:
        render.say(_out_of_memory(ending, limit))
    return ending.exit_code


class Signals:
    """Passes on to the program what is sent to dolium; what comes before it runs waits until it does."""

    def __init__(self) -> None:
        self.running: Watched | None = None
        self.early: list[int] = []
        self.interrupts = 0
        for number in FORWARDED:
            if getsignal(number) != SIG_IGN or number != SIGHUP:  # nohup(1) means it
                signal(number, self._arrive)

    def _arrive(self, number: int, _: object) -> None:
        self.interrupts += number in (SIGINT, SIGTERM)
        if self.running is None:
            self.early.append(number)
        else:
            self.running.signal(SIGKILL if self.interrupts >= PATIENCE else number)

    def wait(self, running: "Watched", timeout: "float | None", screen: "Terminal | None" = None) -> str:
        """Until the container has ended, and all it printed on its terminal is on the `screen`; why we ended it, or nothing."""
        self.running = running
        for number in self.early:
            running.signal(number)
        waiter, reason = poll(), ""
        waiter.register(running.fileno(), POLLIN)
        turn = screen.turn if screen else waiter.poll
        deadline = None if timeout is None else monotonic() + timeout
        try:
            if screen:
                screen.attach(running)
            while not turn(None if deadline is None or reason else max(0.0, deadline - monotonic()) * 1000):
                if deadline is not None and monotonic() >= deadline and not reason:
                    reason = "timeout"
                    running.signal(SIGKILL)
            while screen and self.interrupts < PATIENCE and screen.drain(100):
                pass
        finally:
            if screen:
                screen.release()
        return reason or ("interrupted" if self.interrupts >= PATIENCE else "")


def _out_of_memory(ending: "Ending", limit: int) -> str:
    files = f", of it {show_size(ending.tmpfs)} files in tmpfs" if ending.tmpfs else ""
    return f"killed: memory limit of {show_size(limit)} reached (peak {show_size(ending.peak_memory)}{files})"
