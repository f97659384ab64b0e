"""Steps that give the program a terminal: one end is its stdin, stdout and stderr, the other goes out of the container."""

from dolium.core.wire import BOTH, INSIDE, OUTSIDE, Step, part
from dolium.plan import slots
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WHY = "process.terminal"


def is_wanted(spec: "dict[str, Any]") -> bool:
    """Whether the process is to have one."""
    return bool(spec["process"].get("terminal"))


def make(spec: "dict[str, Any]") -> "list[Step]":
    """Inside: a pty in the devpts at /dev/pts.  The end that the program gets is taken from the other one, and so never
    from what a name leads to (CVE-2025-52565)."""
    if not is_wanted(spec):
        return []
    size = spec["process"].get("consoleSize", {})
    rows, columns = size.get("height", 0), size.get("width", 0)
    shown = f"{rows} rows of {columns}" if rows and columns else "of its own"
    return [
        Step("ptmx", INSIDE, WHY, fd=slots.ROOT, path="/dev/pts", n1=rows, n2=columns, out=slots.MASTER,
             what="open ptmx in /dev/pts", note=f"a terminal, {shown}"),
        part(Step("pts", INSIDE, WHY, fd=slots.MASTER, n1=spec["process"]["user"]["uid"], out=slots.SLAVE,
                  what="open its other end", note="the program's user owns it")),
    ]  # fmt: skip


def console(spec: "dict[str, Any]", own_dev: bool = True) -> "list[Step]":
    """Inside: /dev/console is that terminal too, by descriptor on both sides."""
    if not is_wanted(spec):
        return []
    from dolium.plan.mounts import O_NOFOLLOW, PLAIN_FILE

    return [
        part(Step("open_tree", INSIDE, WHY, fd=slots.SLAVE, out=slots.MOUNT, what="open_tree that end",
                  note="to show it once more")),
        part(Step("move_mount", INSIDE, WHY, fd=slots.MOUNT, fd2=slots.DEV if own_dev else slots.ROOT, n1=PLAIN_FILE,
                  path="console" if own_dev else "/dev/console", what="bind it on /dev/console",
                  note="in our own tmpfs, by descriptor" if own_dev else "by descriptor", n2=0 if own_dev else O_NOFOLLOW)),
    ]  # fmt: skip


def hand_over(spec: "dict[str, Any]") -> "list[Step]":
    """The meeting at which outside gets it, for dolium-keep: one end for whoever is to read and write, the other only held,
    so that the terminal lives as long as the program does, also where that closes it for a while, as an init does."""
    if not is_wanted(spec):
        return []
    steps = [Step("sync", BOTH, WHY, n1=1, data=bytes((slots.MASTER, slots.SLAVE)), what="meet: the terminal goes out",
                  note="its other end is yours, or the log's")]  # fmt: skip
    if is_bundle(spec):
        steps.append(Step("offer", OUTSIDE, WHY, fd=slots.MASTER, what="give it to Python", note="for --console-socket"))
    return steps


def take(spec: "dict[str, Any]") -> "list[Step]":
    """Inside: it becomes stdin, stdout and stderr."""
    if not is_wanted(spec):
        return []
    return [Step("stdio", INSIDE, WHY, fd=slots.SLAVE, what="dup2 onto stdin, stdout, stderr",
                 note="nothing of yours is open in it")]  # fmt: skip


def control(spec: "dict[str, Any]") -> "list[Step]":
    """Inside, as leader of the session that the program will be in: Ctrl-C and Ctrl-Z reach its jobs."""
    if not is_wanted(spec):
        return []
    return [Step("ctty", INSIDE, WHY, what="make it the controlling terminal", note="Ctrl-C and Ctrl-Z act inside")]


def words(spec: "dict[str, Any]") -> "list[str]":
    """What dolium-keep is told of it."""
    return [f"terminal={{{slots.MASTER}}}", f"slave={{{slots.SLAVE}}}"] if is_wanted(spec) and not is_bundle(spec) else []
