"""`dolium exec`: one more program in a container that runs."""

import os

from dolium.cli import render, run, words
from dolium.cli.flags import GROUPS, Flag, yes
from dolium.engine import life, processes, store
from dolium.errors import UsageError
from dolium.plan.quantities import show_size

TABLE = (
    Flag("interactive", "i", "", yes, "pass standard input on"),
    Flag("tty", "t", "", yes, "a terminal of its own; `-it`: at yours"),
    Flag("detach", "d", "", yes, "leave it running; what it prints is lost"),
    *(flag for _, rows in GROUPS for flag in rows if flag.name in ("env", "env-file", "workdir", "user")),
)
WHAT = "CONTAINER PROGRAM [ARGUMENT...]"


def main(argv: "list[str]") -> int:
    """The exit code: the program's own, 0 of one left running.  Raises DoliumError."""
    found = words.parse(
        "exec", argv, TABLE, what=WHAT, leading=True,
        about="Run a program in a container that runs: with its files, limits and rights.",
    )  # fmt: skip
    if found is None:
        return 0
    if len(found.names) < 2:
        raise UsageError("`dolium exec` needs a container and a program", hint=f"dolium exec [FLAG...] {WHAT}")
    detached = found.get("detach", False)
    interactive, tty = found.get("interactive", False), found.get("tty", False)
    screen = run.terminal(interactive) if tty and not detached else None
    asked = processes.Another(found.names[1:], env={**found.get("env-file", {}), **found.get("env", {})}, cwd=found.get("workdir"),
                              user=found.get("user"), detached=detached, tty=tty,
                              size=screen.size() if screen else None)  # fmt: skip
    signals = run.Signals()
    container = store.find(found.names[0])
    null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
    try:
        stdio = (null, null, null) if detached or tty else (0 if interactive else null, 1, 2)
        joined = processes.start(container, asked, stdio)
    finally:
        os.close(null)
    if detached:
        joined.leave()
        return 0
    try:
        signals.wait(joined, None, screen)
        ended = joined.finish()
    except BaseException:
        joined.abandon()
        raise
    limit = container.options.get("memory")
    if limit and ended.signal == life.SIGKILL and life.ran_out_of_memory(container):
        render.say(f"killed: the container's memory limit of {show_size(limit)} was reached, and all in it has ended")
    return ended.exit_code
