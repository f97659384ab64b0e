"""The life of a remembered container: created, running, exited, and again.

Who runs is written in the state directory, which a reboot empties; that it still runs is said by its lease alone, whose lock
the kernel drops when the last watcher dies.  What has ended unseen is settled by the next command that looks at it.
"""

import os
from select import POLLIN, poll
from time import sleep, time

from dolium.engine import containers, settling, store
from dolium.errors import NotFound, StateError, Unsupported
from dolium.plan import filter, slots
from dolium.runtime import host, launch, lease, places, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.config import Options
    from dolium.engine.networks import Attachment
    from dolium.engine.store import Container
    from dolium.runtime.denials import Watcher

SIGTERM, SIGKILL = 15, 9
SOON = 0.2
"""Seconds in which all of a container ends, once it has run out of memory."""


class Begun:
    """A container that runs: the watch over it, since when (seconds since 1970), and what the caller should be told, of its
    users and of its network."""

    __slots__ = ("running", "since", "note", "notes")

    def __init__(self, running: launch.Running, since: float, note: str, notes: "list[str]") -> None:
        self.running = running
        self.since = since
        self.note = note
        self.notes = notes


def begin(container: "Container", stdio: "tuple[int, int, int]", *, detached: bool = False,
          denials: "Watcher | None" = None, size: "tuple[int, int] | None" = None) -> Begun:  # fmt: skip
    """Start a locked container that does not run; `stdio` are its descriptors, a detached one's output goes to its log;
    `denials` hears what its system call filter refuses.  One with a terminal has that instead of them; `size` is its rows
    and columns.

    Raises what containers.prepare and launch.start do; then it has not begun.
    """
    where = settling.directory()
    if container.digest.startswith("layers:"):
        from dolium.engine import layers

        layers.must_be_there(container.image, container.digest, container.manifest)
    elif container.digest:
        from dolium.engine import tarballs

        tarballs.must_be_there(container.image, container.digest)
    options = container.request()
    options.size = size
    if detached and options.network.startswith("allow="):
        raise Unsupported("a detached container with `--network allow=`",
                          "its resolver lives as long as the command that waits for it",
                          hint="leave out `--detach`, or `dolium start --attach`")  # fmt: skip
    equip(options, container.id, container.path, remove=container.remove, detached=detached)
    options.why_denied = denials is not None
    taken = lease.take()
    more: dict[int, int] = {} if denials is None else {slots.DENIALS: denials.door}
    try:
        attachment = attach(options.network, taken.number, more)
        prepared = containers.prepare(container.image, options, container.user, taken.id_base, container.id, attachment,
                                      container.digest)  # fmt: skip
        more[slots.RECORD] = os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        if detached:
            more[slots.LOG] = os.open(
                f"{container.path}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
    except BaseException:
        for fd in more.values():
            os.close(fd)
        taken.release()
        raise
    given: list[int] = []
    try:
        settling.forget_record(container)
        if detached and not options.tty:
            for slot in (slots.OUT, slots.ERR):
                more[slot], theirs = os.pipe()
                given.append(theirs)
            stdio = (stdio[0], given[0], given[1])
        if denials:
            denials.watch(filter.compiled(prepared.spec["linux"]["seccomp"], prepared.facts)[0])
        running = launch.start(prepared.spec, prepared.facts, taken, stdio, more)
    finally:
        for fd in given:
            os.close(fd)
    pidfd = running.started()
    since = time()
    try:
        settling.note(container, running, taken.number, pidfd, since, prepared.note)
    except BaseException:
        running.abandon()
        raise
    finally:
        os.close(pidfd)
    return Begun(running, since, prepared.note, prepared.notes)


def attach(network: str, number: int, more: "dict[int, int] | None" = None) -> "Attachment | None":
    """A place for the container with that lease in the network asked for, or in the usual one; None for none and the host's.

    The descriptors that the plan takes for it go into `more`; without it, nothing is made or opened.  Raises UsageError,
    NotFound, StateError, Unsupported, OSError and DoliumError.
    """
    if network in ("none", "host"):
        return None
    from dolium.engine import networks  # not loaded where no network is asked for

    facts = host.facts()
    network = network or networks.usual(facts)
    kind, _, name = network.partition(":")
    if kind != "container":
        found = networks.attach(network, number, facts, make=more is not None)
        if found and found.path and more is not None:
            _open_networks(found.path, more)
        return found
    fd, now = first_process(store.find(name), "running")
    try:
        found = networks.shared(f"/proc/{now['pid']}/ns/net", network, facts)
        if more is not None:
            _open_networks(found.path, more)
            if has_ended(fd, 0):  # then the number may have been another's
                raise StateError(name, "exited", "running")
        return found
    finally:
        os.close(fd)


def _open_networks(path: str, more: "dict[int, int]") -> None:
    """The network namespace at that path, and our own to come back to."""
    for slot, each in ((slots.NETWORK, path), (slots.HOST_NETWORK, "/proc/self/ns/net")):
        more[slot] = os.open(each, os.O_RDONLY | os.O_CLOEXEC)


def equip(options: "Options", identity: str, path: str, *, remove: bool, detached: bool) -> None:
    """Add to what was asked for what a remembered container needs besides."""
    options.store = "" if remove else path
    options.watch = {"name": identity}
    if detached:
        options.watch |= {"detached": True, "end": _end_command()}


def _end_command() -> "list[str]":
    """What dolium-keep becomes in the end; the environment that says where things are goes with it."""
    import sys

    environment = {name: os.environ[name] for name in ("HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR") if name in os.environ}
    source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    code = (f"import os, sys; os.environ.update({environment!r}); sys.path.insert(0, {source!r}); "
            "from dolium.cli.main import main; main()")  # fmt: skip
    return [os.path.realpath(sys.executable), "-IS", "-c", code, "_ended"]


def state(container: "Container") -> "dict[str, Any]":
    """How things stand at this moment: `status` is created, running, exited or dead (store.Container.damage); the rest is what
    was written about that.

    Settles what has ended and nobody has settled.  Raises NotFound for one that was to be removed then, OSError, DoliumError.
    """
    return _state(container, settling.running(container))


def state_once_begun(container: "Container") -> "dict[str, Any]":
    """As `state`, for who acts on it: one that somebody is starting runs (settling.begun).  Raises what `state` does."""
    return _state(container, settling.begun(container))


def _state(container: "Container", now: "dict[str, Any]") -> "dict[str, Any]":
    """`now` is what is written about its run."""
    if now and lease.held(now["lease"], container.id):
        return {"status": "running", **now}
    if now:
        with store.hold(container):
            unwritten = settling.settle(container)
        if unwritten:
            return {"status": "exited", **unwritten}
    if container.damage:
        return {"status": "dead", "reason": container.damage}
    ended = settling.last_end(container)
    if not ended and not store.load(container.id):  # somebody removes it, or has
        raise NotFound("container", container.name)
    return {"status": "exited", **ended} if ended else {"status": "created"}


def every() -> "list[Container]":
    """All of them, the youngest first.  One that was to be removed at its end, and whose maker was killed before it ran, is
    removed now: nobody will start it.  So is half a tarball, or layer."""
    settling.sweep()
    if os.path.isdir(f"{places.data_path()}/rootfs"):
        from dolium.engine import tarballs

        tarballs.mend()
    if os.path.isdir(f"{places.data_path()}/layers"):
        from dolium.engine import layers

        layers.mend()
    return [each for each in store.every() if not _is_forsaken(each)]


def has_gone(name: str) -> bool:
    """Whether the container of that name was to be removed at its end, which has come unseen: then that is done now."""
    try:
        container = store.find(name)
        if not _is_forsaken(container):
            state(container)
            return False
    except NotFound:
        pass
    return True


def _is_forsaken(container: "Container") -> bool:
    if not container.remove or settling.running(container):
        return False
    held = store.hold_unless_busy(container)  # busy: its maker is still at it
    if held is None:
        return False
    with held:
        if settling.running(container):
            return False
        store.remove(container)
        settling.forget(container)
    return True


def first_process(container: "Container", wanted: str) -> "tuple[int, dict[str, Any]]":
    """A pidfd of the first process of a running container, and what is written about the run.

    A number counts only with the boot and the start time it was written with, checked after the pidfd is open.
    Raises StateError, which says what is `wanted`.
    """
    now = state_once_begun(container)
    if now["status"] == "running":
        fd = _open(now)
        if fd >= 0:
            return fd, now
        now = {"status": "exited"}
    raise StateError(container.name, now["status"], wanted, hint=f"dolium start {container.name}")


def _open(now: "dict[str, Any]") -> int:
    """A pidfd of the process that is written down as the first; -1 where it has gone."""
    try:
        fd = os.pidfd_open(now["pid"])
    except OSError:  # ESRCH; EINVAL: it had gone before its number could be written down
        return -1
    if process.start_time(now["pid"]) == now["start_time"] and process.boot_id() == now["boot_id"]:
        return fd
    os.close(fd)
    return -1


def kill(container: "Container", number: int) -> None:
    """Send a signal to its first process.  Raises StateError."""
    from _signal import pidfd_send_signal

    fd, _ = first_process(container, "running")
    try:
        pidfd_send_signal(fd, number)
    except ProcessLookupError:
        pass
    finally:
        os.close(fd)


def stop(container: "Container", seconds: float, number: int = SIGTERM) -> bool:
    """Ask it to end, and end it when it has not after so many seconds; whether it had to be ended.

    The kernel drops a signal that PID 1 of a namespace has no handler for, pid_namespaces(7), so then there is nothing to
    wait for.  Raises StateError.
    """
    from _signal import pidfd_send_signal

    fd, now = first_process(container, "running")
    try:
        heeded = _heeds(now["pid"], number)
        try:
            pidfd_send_signal(fd, number)
            asked = heeded and has_ended(fd, seconds)
            if not asked:
                pidfd_send_signal(fd, SIGKILL)
        except ProcessLookupError:
            asked = True
        has_ended(fd, None)
    finally:
        os.close(fd)
    wait(container)
    return not asked


def _heeds(pid: int, number: int) -> bool:
    """Whether a process has a handler for a signal, or waits for it with the signal blocked, signalfd(2)."""
    try:
        with open(f"/proc/{pid}/status") as file:
            sets = {line[:6]: int(line.split()[1], 16) for line in file if line[:6] in ("SigBlk", "SigCgt")}
    except (FileNotFoundError, ProcessLookupError):
        return False
    return (sets["SigBlk"] | sets["SigCgt"]) >> (number - 1) & 1 == 1


def has_ended(pidfd: int, seconds: "float | None") -> bool:
    """Whether a process ends within so many seconds; None: wait as long as it takes."""
    waiter = poll()
    waiter.register(pidfd, POLLIN)
    return bool(waiter.poll(None if seconds is None else seconds * 1000))


def wait(container: "Container") -> int:
    """Until it has ended and that is written down; its exit code.  Of one that has never run 0, as docker says.

    Raises NotFound for one that has been removed by now.
    """
    now = settling.begun(container)
    ran = bool(now)
    held = settling.hold_record(container) if now and container.remove else -1  # else its record would go with it
    code = 128 + SIGKILL  # of one that is removed without a record
    while now and lease.held(now["lease"], container.id):
        fd = _open(now)
        if fd >= 0:
            has_ended(fd, None)
            os.close(fd)
        if held >= 0 and (found := settling.recorded(container)):
            code = found[0].exit_code
            os.close(held)
            held = -1
        sleep(0.002)  # dolium-keep, then its last command, are still at it
        now = settling.running(container)
    if held >= 0:
        if found := settling.recorded(container):
            code = found[0].exit_code
        os.close(held)
    try:
        code = state(container).get("exit_code", 0)
    except NotFound:
        if not ran:
            raise
    return code


def ran_out_of_memory(container: "Container") -> bool:
    """Whether it has just ended because all of its memory was used; False of one that runs, or is forgotten by now."""
    now = settling.running(container)
    fd = _open(now) if now else -1
    if fd >= 0:
        goes_on = not has_ended(fd, SOON)
        os.close(fd)
        if goes_on:
            return False
    try:
        wait(container)
        return settling.last_end(container).get("reason") == "memory"
    except (NotFound, OSError):
        return False


def remove(container: "Container", force: bool = False) -> None:
    """Forget it and what it wrote.  Raises StateError for one that runs, unless it is to be killed first."""
    if state_once_begun(container)["status"] == "running":
        if not force:
            raise StateError(container.name, "running", "stopped", hint=f"dolium stop {container.name}, or dolium rm --force")
        try:
            kill(container, SIGKILL)
        except StateError:
            pass
        wait(container)
    if os.path.exists(container.path):
        with store.hold(container):
            must_not_run(container)  # somebody may have started it again
            store.remove(container)
            settling.forget(container)


def must_not_run(container: "Container") -> None:
    """Raises StateError if a locked container runs."""
    if state_of_locked(container) == "running":
        raise StateError(container.name, "running", "stopped", hint=f"dolium stop {container.name}")


def state_of_locked(container: "Container") -> str:
    """Running or not, for whoever holds its lock."""
    now = settling.running(container)
    if now and lease.held(now["lease"], container.id):
        return "running"
    settling.settle(container)
    return "stopped"
