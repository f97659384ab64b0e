"""`restore` of an OCI container: its groups are made as `create` makes them, and criu makes the processes in them again.

criu works in a copy of the host's mounts, in which the rootfs is a mount, as it wants it: so nothing is left mounted, whatever
happens.  The first process becomes a child of ours, as its siblings are criu's: who waits for it is who called us, with --detach.
"""

import os

from dolium.core import document, sys
from dolium.errors import DoliumError, Unsupported
from dolium.plan import cgroupmount, criu_messages, rtnetlink, slots
from dolium.plan import checkpoint as planning
from dolium.runtime import (
    cgroup,
    checkpoint,
    console,
    creation,
    criu,
    delete,
    elsewhere,
    launch,
    lifecycle,
    mountpoints,
    netlink,
    process,
    state,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

LOG = "restore.log"
STDIO, NAMESPACES = 10, 20
"""Descriptors as they are numbered in criu: those for its first three files, those of namespaces."""
HOOKS = ("prestart", "createRuntime")
"""Those that are run again, as runc has it: with them come networks."""


class Restoration(creation.Creation):
    """A container while criu makes it again."""

    __slots__ = ("first",)

    def __init__(self, spec: "dict[str, Any]", facts: "Facts", container: state.Container) -> None:
        super().__init__(spec, facts, container)
        self.first = 0

    def pid(self) -> int:
        """Of its first process; 0 before there is one."""
        return self.first

    def found(self, pid: int) -> None:
        """Its namespaces are made, and nothing is in them yet."""
        self.first = pid
        self.container.fields["pid"] = state.identify(pid)
        self.container.save()
        if any(each == {"type": "network"} for each in self.spec["linux"]["namespaces"]):
            network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                elsewhere.act(lambda: sys.enter_network(network), lambda: netlink.talk(rtnetlink.set_up("lo")))
            finally:
                os.close(network)
        for step in self.planned:
            if step.op == "move_device" or (step.op == "hook" and step.path2 in HOOKS):
                self.act(step)

    def keeps_its_bounds(self) -> None:
        """Its processes are as they were, and do not go on yet: criu before 3.19 forgets no_new_privs, and nothing that forgets
        what holds the program may let it run.  Raises DoliumError."""
        found = process.bounds(self.first)
        for why, wanted, has in (("process.noNewPrivileges", self.spec["process"].get("noNewPrivileges"), found["NoNewPrivs"]),
                                 ("linux.seccomp", self.spec["linux"].get("seccomp"), found["Seccomp"])):  # fmt: skip
            if wanted and has == "0":
                raise DoliumError(f"cannot restore the container: it has come back without {why}",
                                  hint="criu before 3.19 forgets no_new_privs; or it was checkpointed without")

    def goes_on(self) -> None:
        """Written down first, as by `start`: who has heard of a program finds that it runs."""
        self.container.fields["status"] = "started"
        self.container.save()

    def kill(self) -> None:
        """What there is of it, and criu, which is in its groups; whom criu holds goes on where that dies first."""
        if self.first:
            state.kill(self.first)
        for group in self.made:
            cgroup.kill(group)

    def undo(self) -> None:
        """Kill what there is of it, and remove the groups that were made for it."""
        self.kill()
        super().undo()


def restore(top: str, identity: str, asked: creation.Asked, wanted: checkpoint.Asked) -> state.Container:
    """`restore`: whole or not at all.  The container runs, and its first process is a child of this one.  Raises DoliumError
    and OSError."""
    checkpoint.needs_root()
    if asked.systemd:
        why = "criu restores into groups that are there, and systemd makes one only with a process in it"
        raise Unsupported("restore with --systemd-cgroup", why, hint="choose the cgroupfs driver for it: cgroup_manager=cgroupfs")
    options = planning.options(wanted.flags)
    program = criu.find(wanted.criu)
    if not os.path.isdir(wanted.images):
        raise DoliumError(f"cannot restore the container: there is no directory `{wanted.images}`")
    made, container = lifecycle.prepare(top, identity, asked, Restoration)
    assert isinstance(made, Restoration)
    try:
        try:
            _make(made, program, options, wanted, asked)
            _tell(made, asked)
            made.let_go()
        except BaseException:
            made.undo()
            delete.run_poststop(made.spec, identity)
            container.forget()
            raise
    finally:
        container.unlock()
    return container


def _make(made: Restoration, program: str, options: "dict[str, Any]", wanted: checkpoint.Asked, asked: creation.Asked) -> None:
    spec = made.spec
    planning.check_namespaces(spec)
    made.prepare(asked)
    _filter_devices(made)
    mountpoints.make(spec)
    lent: dict[int, int] = {}
    # criu follows no link that is the last of a path
    binds = {each["destination"]: os.path.realpath(each["source"]) for each in spec["mounts"] if each["type"] == "bind"}
    joined = [(planning.JOINED[kind], path) for kind, path in planning.shared(spec) if kind in planning.JOINED]
    options |= {"log_file": LOG, "root": spec["root"]["path"], "rst_sibling": True, "evasive_devices": True,
                "config_file": planning.config_file(spec["annotations"]),
                "external": planning.sources(_kept(wanted.images, binds), binds, _groups(made)),
                "inherit_fd": _stdio(wanted.images, lent) + _namespaces(spec, lent), "join_ns": joined}  # fmt: skip
    at_work, directories = _start(program, spec["root"]["path"], wanted, lent)
    try:
        options["images_dir_fd"], options["work_dir_fd"] = directories.fds
        options["cg_root"] = _enter(at_work.pid, made.container)
        answer = at_work.ask(criu_messages.RESTORE, options, _listener(made))
    except BaseException:
        made.kill()
        at_work.kill()  # where it is in no group; it would wait for those that it holds
        raise
    finally:
        at_work.end()
        directories.close()
    if not answer.fine:
        raise criu.failure("restore the container", answer, f"{wanted.work}/{LOG}")


def _filter_devices(made: Restoration) -> None:
    """On cgroup v2 the filter of devices is no file that could be written: dolium-init attaches it."""
    steps = [each for each in made.planned if each.op == "device_filter" or (each.op == "open" and each.out == slots.CGROUP)]
    if any(each.op == "device_filter" for each in steps):
        launch.done(steps)


def _kept(images: str, binds: "dict[str, str]") -> "dict[str, list[str]]":
    """Which mounts are the host's; what runc has written down says nothing of that: its names are the destinations, and
    /dev/null for all that it has hidden behind that."""
    path = f"{images}/external.json"
    if not os.path.exists(path):
        return {**{each: [each, ""] for each in binds}, "/dev/null": [planning.DEVICE, "/null"]}
    found = document.read(document.text(path), "external.json")
    if not isinstance(found, dict) or not all(_are_texts(each, 2) for each in found.values()):
        raise DoliumError(f"`{path}` is not as `checkpoint` writes it")
    return found


def _are_texts(value: object, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(isinstance(each, str) for each in value)


def _groups(made: Restoration) -> "dict[str, str]":
    return {name: path for _, name, path in cgroupmount.binds(made.spec, made.facts)}


def _stdio(images: str, lent: "dict[int, int]") -> "list[tuple[str, int]]":
    """Our own standard files, for those that the container had from outside."""
    path = f"{images}/descriptors.json"
    names = document.read(document.text(path), "descriptors.json")
    if not _are_texts(names, 3):
        raise DoliumError(f"`{path}` is not as `checkpoint` writes it")
    found: dict[str, int] = {}
    for number, name in enumerate(names):
        if name.startswith(("pipe:", *planning.LENT)) and name not in found:
            found[name] = STDIO + number
            lent[STDIO + number] = number
    return list(found.items())


def _namespaces(spec: "dict[str, Any]", lent: "dict[int, int]") -> "list[tuple[str, int]]":
    """Those of others that criu leaves alone."""
    found: list[tuple[str, int]] = []
    for kind, path in planning.shared(spec):
        if kind in planning.EXTERNAL:
            number = NAMESPACES + len(found)
            lent[number] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            found.append((planning.EXTERNAL[kind][1], number))
    return found


def _start(
    program: str, rootfs: str, wanted: checkpoint.Asked, lent: "dict[int, int]"
) -> "tuple[criu.Criu, checkpoint.Directories]":
    """criu, in mounts of its own, where the rootfs is one; its directories are seen from there, for it mounts below them.
    Raises OSError and DoliumError."""
    found: list[tuple[criu.Criu, checkpoint.Directories]] = []

    def go() -> None:
        sys.own_mounts(slave=True)
        sys.bind(rootfs, rootfs)
        directories = checkpoint.Directories(wanted)
        try:
            found.append((criu.Criu(program, lent), directories))
        except BaseException:
            directories.close()
            raise

    try:
        elsewhere.act(go, lambda: None)
    finally:
        for number, fd in lent.items():
            if number >= NAMESPACES:
                os.close(fd)
    return found[0]


def _enter(pid: int, container: state.Container) -> "list[tuple[str, str]]":
    """criu itself goes into the container's groups, so what it makes is there; (controller, its path) of each."""
    for group in {*container.fields["groups"].values()}:
        cgroup.write(f"{group}/cgroup.procs", str(pid).encode())
    found = []
    for line in cgroup.read(f"/proc/{pid}/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        found += [(each, path) for each in controllers.split(",")]
    return found


def _listener(made: Restoration) -> "criu.Heard":
    def heard(answer: criu_messages.Answer, fd: int) -> None:
        if fd >= 0:
            if made.console:
                console.send(made.console, fd)
                made.console = None
            else:
                os.close(fd)
        if answer.script == "setup-namespaces":
            made.found(answer.pid)
        elif answer.script == "pre-resume":
            made.keeps_its_bounds()
            made.goes_on()

    return heard


def _tell(made: Restoration, asked: creation.Asked) -> None:
    """Who waits for it, and ourselves, what is different from `create`: criu restores into a time namespace."""
    pid, known = made.pid(), {each["type"] for each in made.spec["linux"]["namespaces"]}
    if "time" not in known and _time_of(pid) != _time_of(os.getpid()):
        made.spec["linux"]["namespaces"].append({"type": "time"})
        made.container.save_config(made.spec)
    if asked.pid_file:
        process.write_pid(asked.pid_file, pid)
    made.give_pidfd()


def _time_of(pid: int) -> int:
    try:
        return os.stat(f"/proc/{pid}/ns/time").st_ino
    except FileNotFoundError:  # it has ended, or this kernel has none
        return 0


class Foreground:
    """A restored container that this process waits for.  It is not bound to us: who kills us leaves it running, as runc does."""

    def __init__(self, container: state.Container) -> None:
        self._container = container
        self._pid = container.fields["pid"][0]
        self._pidfd = os.pidfd_open(self._pid)

    def fileno(self) -> int:
        """Readable when it has ended."""
        return self._pidfd

    def signal(self, number: int) -> None:
        """Forward one."""
        from _signal import pidfd_send_signal

        try:
            pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            pass

    def finish(self) -> int:
        """Its exit code; then it is deleted."""
        code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
        os.close(self._pidfd)
        self._container.lock()
        delete.destroy(self._container)
        delete.remove(self._container)
        return 128 - code if code < 0 else code
