"""`dolium run`: a container in the foreground."""

import os
from _signal import SIG_IGN, getsignal, signal
from select import POLLIN, poll
from time import monotonic

from dolium.cli import flags as grammar
from dolium.cli import render, request
from dolium.engine import containers
from dolium.plan.quantities import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.cli.flags import Flags
    from dolium.runtime.launch import Ending, Running

SIGHUP, SIGINT, SIGQUIT, SIGKILL, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCONT = 1, 2, 3, 9, 10, 12, 14, 15, 18
FORWARDED = (SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCONT)
PATIENCE = 3
"""Ctrl-C so often ends what does not listen: PID 1 ignores signals that it has no handler for, pid_namespaces(7)."""


def main(argv: "list[str]") -> int:
    """The exit code: the program's own, 124 at the time limit.  Raises DoliumError."""
    flags = grammar.parse(argv)
    if flags.help:
        render.write(1, grammar.help())
        return 0
    options = request.options(flags)
    null = -1 if flags.interactive else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    running, note = containers.start(flags.image or "", options, flags.user, (0 if null < 0 else null, 1, 2))
    try:
        if note and flags.userns is None:
            render.say(note)
        reason = _wait(running, flags.timeout)
    except BaseException:
        running.abandon()
        raise
    ending = running.finish()
    return _tell(ending, reason, flags)


def _wait(running: "Running", timeout: "float | None") -> str:
    """Forward signals until the container has ended; why we ended it, or nothing."""
    interrupts, reason = 0, ""

    def forward(number: int, _: object) -> None:
        nonlocal interrupts, reason
        interrupts += number in (SIGINT, SIGTERM)
        if interrupts >= PATIENCE and not reason:
            reason = "interrupted"
            number = SIGKILL
        running.signal(number)

    for number in FORWARDED:
        if getsignal(number) != SIG_IGN or number != SIGHUP:  # nohup(1) means it
            signal(number, forward)
    waiter = poll()
    waiter.register(running.fileno(), POLLIN)
    deadline = None if timeout is None else monotonic() + timeout
    while not waiter.poll(None if deadline is None or reason else max(0.0, deadline - monotonic()) * 1000):
        if deadline is not None and monotonic() >= deadline and not reason:
            reason = "timeout"
            running.signal(SIGKILL)
    return reason


def _tell(ending: "Ending", reason: str, flags: "Flags") -> int:
    if reason == "timeout":
        render.say(f"killed: time limit of {flags.timeout:g} s reached")
        return 124
    if reason == "interrupted":
        render.say(f"killed: {PATIENCE} interrupts, and the program heeded none")
    elif ending.out_of_memory and ending.signal == SIGKILL and flags.memory:
        files = f", of it {show_size(ending.tmpfs)} files in tmpfs" if ending.tmpfs else ""
        peak = show_size(ending.peak_memory)
        render.say(f"killed: memory limit of {show_size(flags.memory)} reached (peak {peak}{files})")
    return ending.exit_code
