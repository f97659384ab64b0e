"""One more process in an OCI container: `exec`."""

import os

from dolium.core import document, wire
from dolium.errors import DoliumError, SpecError, StateError
from dolium.plan import joining, oci, slots
from dolium.runtime import bundle, console, hooks, process, state
from dolium.runtime.containerhooks import Helping
from dolium.runtime.watched import preserved

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.runtime.ending import Ending

ESRCH = 3
MOST = (1 << 32) - 2
"""The largest id that there is."""


class Extra:
    """What is asked for.

    `process` is a file with a `process` object, or else `argv` with what differs from the container's own: `cwd`, `env`,
    `user` as UID[:GID], `groups`, `capabilities` besides, `locked` for no_new_privs, labels.  `ignore_paused`: start it in a
    container that is paused, too, where it goes on when that does.
    """

    __slots__ = (
        "process",
        "argv",
        "cwd",
        "env",
        "user",
        "groups",
        "capabilities",
        "locked",
        "apparmor",
        "label",
        "tty",
        "detached",
        "pid_file",
        "console_socket",
        "own_terminal",
        "preserve",
        "cgroup",
        "pidfd_socket",
        "ignore_paused",
    )

    def __init__(self) -> None:
        self.process = ""
        self.argv: list[str] = []
        self.cwd = ""
        self.env: list[str] = []
        self.user = ""
        self.groups: list[str] = []
        self.capabilities: list[str] = []
        self.locked = False
        self.apparmor = ""
        self.label = ""
        self.tty = False
        self.detached = False
        self.pid_file = ""
        self.console_socket = ""
        self.own_terminal: tuple[int, int] | None = None  # columns and rows of the caller's, which shows the process's
        self.preserve = 0
        self.cgroup = ""
        self.pidfd_socket = ""
        self.ignore_paused = False


def number(text: str, flag: str) -> int:
    """An id, in digits and nothing else (CVE-2026-30892: `-u 1` was read as 0)."""
    if not text.isascii() or not text.isdecimal() or len(text) > 10 or int(text) > MOST:
        raise SpecError(flag, f"expected a number from 0 to {MOST}, got `{text[:40]}`")
    return int(text)


def described(asked: Extra, given: str, own: "dict[str, Any]") -> "dict[str, Any]":
    """The process that is asked for; `given` is the text of `asked.process`, `own` the container's.  Raises SpecError."""
    if asked.process:
        found = oci.complete_process(document.read(given, "process"))
        if "execCPUAffinity" in own:  # the container's is for those that say nothing
            found.setdefault("execCPUAffinity", own["execCPUAffinity"])
    else:
        if not asked.argv:
            raise SpecError("process.args", "is required: at least the name of a program")
        found = {**own, "args": asked.argv, "env": [*own["env"], *asked.env], "terminal": False}
    if asked.cwd:
        found["cwd"] = oci.absolute(asked.cwd, "--cwd")
    if asked.user:
        uid, colon, gid = asked.user.partition(":")
        found["user"] = {**found["user"], "uid": number(uid, "--user"), "additionalGids": []}
        found["user"]["gid"] = number(gid, "--user") if colon else found["user"]["gid"]
    if asked.groups:
        found["user"] = {**found["user"], "additionalGids": [number(each, "--additional-gids") for each in asked.groups]}
    if asked.capabilities:
        sets = {name: [*held] for name, held in found["capabilities"].items()}
        for name in ("bounding", "effective", "permitted"):
            sets[name] = sorted({*sets[name], *asked.capabilities})
        found["capabilities"] = sets
    if asked.locked:
        found["noNewPrivileges"] = True
    for key, given in (("apparmorProfile", asked.apparmor), ("selinuxLabel", asked.label)):
        if given:
            found[key] = given
    if asked.tty:
        found["terminal"] = True
    if found.get("terminal") and not asked.console_socket and asked.own_terminal:
        columns, rows = asked.own_terminal
        found["consoleSize"] = {"height": rows, "width": columns}
    elif bool(found.get("terminal")) != bool(asked.console_socket):
        raise SpecError("process.terminal", "is asked for without --console-socket" if found.get("terminal")
                        else "is not asked for, but --console-socket is given")  # fmt: skip
    return found


def start(top: str, identity: str, asked: Extra) -> "tuple[Helping, int]":
    """Start it; it runs, and this is its helper and its pid.  Raises StateError, SpecError, StepError."""
    container = state.find(top, identity)
    status, pid = container.status(), container.pid()
    if status not in ("running", "created", *(("paused",) if asked.ignore_paused else ())) or not pid:
        raise StateError(identity, status, "running")
    try:
        return _join(container, status, pid, asked)
    except (DoliumError, OSError) as problem:
        if container.pid() and getattr(problem, "errno", 0) != ESRCH:
            raise
        raise StateError(identity, "stopped", "running") from None  # setns(2) says so of one that is about to


def _join(container: state.Container, status: str, pid: int, asked: Extra) -> "tuple[Helping, int]":
    spec = container.config()
    facts = bundle.facts(spec)
    given = document.text(asked.process, "--process") if asked.process else ""
    spec = {**spec, "process": described(asked, given, spec["process"])}
    spec["dolium"] = {**spec["dolium"], "watch": {"detached": asked.detached}, "preserve": asked.preserve, "asked": set()}
    if asked.cgroup:
        _inner_group(spec, container, asked.cgroup)
    first = os.pidfd_open(pid)
    if container.pid() != pid:
        os.close(first)
        raise StateError(container.id, "stopped", "running")
    steps = joining.plan(spec, facts)
    helping = Helping(steps, spec, facts, {slots.CONTAINER: first})
    try:
        taker = console.connect(asked.console_socket) if asked.console_socket else None
        watcher = console.connect(asked.pidfd_socket, console.PIDFD) if asked.pidfd_socket else None
        helping.begin(lambda passed: wire.encode(steps, passed).data, (0, 1, 2), preserved(asked.preserve))
        helping.attach()
        helping.home()
        if taker:
            console.send(taker, helping.offered())
        elif spec["process"].get("terminal"):
            helping.terminal = helping.offered()
        helping.notify(hooks.state(spec, container.id, status, pid))
        assert helping.helper
        if asked.detached:
            _hear_end(helping)
            joined = helping.helper.child()
            pidfd = os.pidfd_open(joined) if watcher else -1
        else:
            pidfd = helping.offered()
            joined = helping.helper.child()
        if watcher:
            console.send(watcher, pidfd, console.PIDFD)
        elif pidfd >= 0:
            os.close(pidfd)
        if asked.pid_file:
            process.write_pid(asked.pid_file, joined)
    except BaseException:
        helping.abandon()
        raise
    if bool(asked.process) == asked.detached:
        from dolium.runtime import exec_again

        if exec_again.is_usual(asked, steps):
            exec_again.keep(container, given, steps, facts)
    return helping, joined


def _hear_end(helping: Helping) -> None:
    """Of a dolium-init that leaves.  Raises what went wrong."""
    assert helping.helper
    data = helping.helper.socket.recv(1)
    if data != b"F" or wire.Report(helping.helper.report()).failed >= 0:
        raise helping.failure(died=data != b"F")
    helping.helper.reap()  # only with its end is the process the caller's to wait for


def _inner_group(spec: "dict[str, Any]", container: state.Container, path: str) -> None:
    """--cgroup: a group below the container's own.  Raises SpecError."""
    if ".." in path.split("/") or not os.path.isdir(f"{container.fields['groups'].get('unified', '')}/{path.strip('/')}"):
        raise SpecError("--cgroup", f"the container has no group `{path}`")
    spec["dolium"]["inner"] = path
    spec["linux"] = {**spec["linux"], "cgroupsPath": f"{spec['linux']['cgroupsPath']}/{path.strip('/')}".rstrip("/")}


def finish(helping: Helping) -> "Ending":
    """Wait for the end of one that is not detached."""
    return helping.finish()
