"""The verbs that make and end a container: create, start, run, state, kill, delete, exec."""

import os

from dolium.cli.oci import Words, note, show, warn
from dolium.errors import DoliumError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dolium.cli.terminal import Terminal
    from dolium.runtime.creation import Asked, Creation
    from dolium.runtime.notify import Proxy
    from dolium.runtime.watched import Watched

FORWARDED = (1, 2, 3, 10, 12, 15, 18, 28)


def asks(found: Words) -> "Asked":
    """What its words ask for, besides the bundle."""
    from dolium.runtime.creation import Asked

    asked = Asked(os.path.abspath(found.flags.get("bundle", ".")))
    asked.pid_file = _path(found, "pid-file")
    asked.console_socket = _path(found, "console-socket")
    asked.pidfd_socket = _path(found, "pidfd-socket")
    asked.config = _path(found, "config")
    asked.pivot = "no-pivot" not in found.flags
    asked.keyring = "no-new-keyring" not in found.flags
    asked.preserve = found.number("preserve-fds")
    asked.groups = found.options.get("cgroup-manager") != "disabled"
    asked.systemd = "systemd-cgroup" in found.options or found.options.get("cgroup-manager") == "systemd"
    if asked.preserve > 1000:
        raise UsageError("--preserve-fds: more than 1000 descriptors")
    return asked


def _path(found: Words, name: str) -> str:
    given: str = found.flags.get(name, "")
    return os.path.abspath(given) if given else ""


def create(found: Words, root: str) -> int:
    """`create`"""
    from dolium.runtime import lifecycle

    _tell(found, lifecycle.create(root, found.id, asks(found)))
    return 0


def _tell(found: Words, creation: "Creation") -> None:
    """In the log, what the container does not get of what it asks for."""
    from dolium.plan import identity

    if names := identity.left_out(creation.spec, creation.facts):
        note(found, "capabilities that this kernel has not, or dolium-oci cannot give: " + ", ".join(names))


def start(found: Words, root: str) -> int:
    """`start`"""
    from dolium.runtime import start as starting

    starting.start(root, found.id)
    return 0


def each(found: Words, root: str) -> "list[str]":
    """The ids that are meant: that one, or with --regex all in which the expression is found, as crun has it."""
    if "regex" not in found.flags:
        return [found.id]
    import re

    from dolium.runtime import state

    try:
        wanted = re.compile(found.id)
    except re.error as problem:
        raise UsageError(f"--regex: `{found.id[:80]}`: {problem}") from None
    return [container.id for container in state.every(root) if wanted.search(container.id)]


def run(found: Words, root: str) -> int:
    """`run`; without --detach its exit code is the program's."""
    from dolium.runtime import delete as deletion
    from dolium.runtime import lifecycle

    asked = asks(found)
    if "detach" in found.flags:
        _tell(found, lifecycle.create(root, found.id, asked))
        try:
            start(found, root)
        except BaseException:
            deletion.delete(root, found.id, True)
            raise
        return 0
    asked.detached = False
    asked.own_terminal = _own_terminal()
    block()
    running = lifecycle.Foreground(root, found.id, asked)
    _tell(found, running.creation)
    forward(running.fileno(), running.signal, running.notify, running.pid(), shown(running.creation))
    code = running.finish("keep" in found.flags).exit_code
    for failed in running.failed:
        warn(found, str(failed))
    return code


def state(found: Words, root: str) -> int:
    """`state`"""
    from dolium.core import document
    from dolium.runtime import state as known

    show(document.write(described(known.find(root, found.id))) + "\n")
    return 0


def described(container: "Any") -> "dict[str, Any]":
    """A container as `state` and `list` show it."""
    fields, status = container.fields, container.status()
    known = {name: fields[name] for name in ("bundle", "rootfs", "created", "annotations")}
    return {
        "ociVersion": "1.3.0",
        "id": container.id,
        "pid": container.pid() if status != "stopped" else 0,
        "status": status,
        **known,
        "owner": "root" if fields["owner"] == 0 else str(fields["owner"]),
    }


def signal_number(text: str) -> int:
    """`9`, `KILL`, `SIGKILL`, `RTMIN+1`.  Raises SpecError."""
    if text.isascii() and text.isdecimal() and int(text) <= 64:  # as engines say it: no names need be known
        return int(text)
    from dolium.plan.quantities import signal

    name = text.upper().removeprefix("SIG")
    for base, number, sign in (("RTMIN", 34, 1), ("RTMAX", 64, -1)):
        rest = name.removeprefix(base).lstrip("+-") or "0"
        if name.startswith(base) and rest.isdecimal() and len(rest) < 3 and 34 <= number + sign * int(rest) <= 64:
            return number + sign * int(rest)
    return signal(text, "signal")


def kill(found: Words, root: str) -> int:
    """`kill`"""
    from dolium.runtime import members

    number = signal_number(found.words[1] if len(found.words) > 1 else "TERM")
    _all(each(found, root), lambda identity: members.kill(root, identity, number, "all" in found.flags))
    return 0


def _all(identities: "list[str]", act: "Callable[[str], None]") -> None:
    """Act on each, whatever becomes of the one before.  Raises the first error."""
    first: DoliumError | None = None
    for identity in identities:
        try:
            act(identity)
        except DoliumError as problem:
            first = first or problem
    if first:
        raise first


def delete(found: Words, root: str) -> int:
    """`delete`"""
    from dolium.runtime import delete as deletion

    def one(identity: str) -> None:
        for failed in deletion.delete(root, identity, "force" in found.flags):
            warn(found, str(failed))

    _all(each(found, root), one)
    return 0


def exec(found: Words, root: str) -> int:
    """`exec`; its exit code is the program's, or 0 at once with --detach."""
    from dolium.runtime import exec as another

    asked = another.Extra()
    asked.argv = found.words[1:]
    asked.process, asked.pid_file, asked.console_socket = (_path(found, name) for name in ("process", "pid-file", "console-socket"))
    asked.cwd, asked.user = found.flags.get("cwd", ""), found.flags.get("user", "")
    asked.apparmor, asked.label = found.flags.get("apparmor", ""), found.flags.get("process-label", "")
    asked.env, asked.capabilities = found.flags.get("env", []), found.flags.get("cap", [])
    asked.groups = [each for word in found.flags.get("additional-gids", []) for each in word.split(",")]
    asked.locked, asked.tty, asked.detached = (name in found.flags for name in ("no-new-privs", "tty", "detach"))
    asked.preserve, asked.cgroup = found.number("preserve-fds"), found.flags.get("cgroup", "")
    asked.pidfd_socket, asked.ignore_paused = _path(found, "pidfd-socket"), "ignore-paused" in found.flags
    asked.own_terminal = None if asked.detached else _own_terminal()
    block()
    helping, _ = another.start(root, found.id, asked)
    if asked.detached:
        return 0
    forward(helping.fileno(), helping.signal, screen=shown(helping))
    return another.finish(helping).exit_code


def block() -> None:
    """Signals that are the program's: kept until there is one."""
    from _signal import SIG_BLOCK, pthread_sigmask

    pthread_sigmask(SIG_BLOCK, FORWARDED)


def _own_terminal() -> "tuple[int, int] | None":
    """Columns and rows of the terminal that is typed at; None where there is none."""
    return os.get_terminal_size(0) if os.isatty(0) else None


def shown(running: "Watched") -> "Terminal | None":
    """Ours, on which that of a process is shown that has one and no --console-socket."""
    if running.terminal < 0:
        return None
    from _signal import SIG_UNBLOCK, pthread_sigmask

    from dolium.cli.terminal import SIGCONT, SIGWINCH, Terminal

    screen = Terminal(True)
    screen.attach(running)
    pthread_sigmask(SIG_UNBLOCK, (SIGCONT, SIGWINCH))  # of these two the screen makes something itself
    return screen


def forward(ended: int, send: "Callable[[int], None]", notify: "Proxy | None" = None, pid: int = 0,
            screen: "Terminal | None" = None) -> None:  # fmt: skip
    """Send on what arrives, until that descriptor can be read: signals, what the container tells systemd, what is typed."""
    from _signal import sigtimedwait
    from select import POLLIN, poll

    waiting = poll()
    waiting.register(ended, POLLIN)
    if notify:
        waiting.register(notify.fileno(), POLLIN)
    try:
        while True:
            if screen:
                screen.turn(50)
            ready = dict(waiting.poll(0 if screen else 50))
            if notify and notify.fileno() in ready:
                notify.pass_on(pid)
            if ended in ready:
                break
            while arrived := sigtimedwait(FORWARDED, 0):
                send(arrived.si_signo)
        while screen and screen.drain(100):
            pass
    finally:
        if screen:
            screen.release()
