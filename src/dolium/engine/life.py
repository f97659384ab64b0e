"""The life of a remembered container: created, running, exited, and again.

Who runs is written in the state directory, which a reboot empties; that it still runs is said by its lease alone, whose lock
the kernel drops when the last watcher dies.  What has ended unseen is settled by the next command that looks at it.
"""

import os
from select import POLLIN, poll
from time import sleep, time

from dolium.engine import containers, store
from dolium.errors import NotFound, StateError
from dolium.plan import filter, slots
from dolium.runtime import cgroup, ending, host, launch, lease, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.config import Options
    from dolium.engine.networks import Attachment
    from dolium.engine.store import Container
    from dolium.runtime.denials import Watcher
    from dolium.runtime.ending import Ending

SIGTERM, SIGKILL = 15, 9
ENOSPC, EROFS, EDQUOT = 28, 30, 122
HOST_WENT_DOWN = 255
"""What docker, too, says of a container that a reboot has ended."""


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
          denials: "Watcher | None" = None) -> Begun:  # fmt: skip
    """Start a locked container that does not run; `stdio` are its descriptors, a detached one's output goes to its log;
    `denials` hears what its system call filter refuses.

    Raises what containers.prepare and launch.start do; then it has not begun.
    """
    where = running_directory()
    options = container.request()
    equip(options, container.id, container.path, remove=container.remove, detached=detached)
    options.why_denied = denials is not None
    taken = lease.take()
    more: dict[int, int] = {} if denials is None else {slots.DENIALS: denials.door}
    try:
        attachment = attach(options.network, taken.number, more)
        prepared = containers.prepare(container.image, options, container.user, taken.id_base, container.id, attachment)
        more[slots.RECORD] = os.open(where, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except BaseException:
        for fd in more.values():
            os.close(fd)
        taken.release()
        raise
    given: list[int] = []
    try:
        if detached:
            for slot in (slots.OUT, slots.ERR):
                more[slot], theirs = os.pipe()
                given.append(theirs)
            more[slots.LOG] = os.open(
                f"{container.path}/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
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
        _note_running(container, running, taken.number, pidfd, since, prepared.note)
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


def _note_running(
    container: "Container", running: launch.Running, number: int, pidfd: int, since: float, note: str
) -> None:  # fmt: skip
    pid = _pid_of(pidfd)
    facts = running.facts
    memory = facts.controllers.get("memory")
    store.write(f"{running_directory()}/{container.id}.json", {
        "format": store.FORMAT, "pid": pid, "start_time": start_time(pid), "boot_id": boot_id(), "lease": number,
        "started": since, "id_base": facts.id_base, "groups": running.controllers, "version": memory.version if memory else 0,
        "cable": running.spec["dolium"]["network"], "note": note,
    }, durable=False)  # fmt: skip


def running_directory() -> str:
    """Where it is written who runs."""
    return places.below(places.state(), "running")


def _pid_of(pidfd: int) -> int:
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def start_time(pid: int) -> int:
    """Of a process, in clock ticks since boot, proc_pid_stat(5); 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def boot_id() -> str:
    """Of this run of the kernel, random(4)."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def state(container: "Container") -> "dict[str, Any]":
    """How things stand: `status` is created, running or exited; the rest is what was written about that.

    Settles what has ended and nobody has settled.  Raises NotFound for one that was to be removed then, OSError, DoliumError.
    """
    now = _running(container)
    if now and lease.held(now["lease"], container.id):
        return {"status": "running", **now}
    if now:
        with store.hold(container):
            unwritten = settle(container)
        if unwritten:
            return {"status": "exited", **unwritten}
    ended = store.read(f"{container.path}/ended.json")
    if not ended and not os.path.isdir(container.path):
        raise NotFound("container", container.name)
    return {"status": "exited", **ended} if ended else {"status": "created"}


def every() -> "list[Container]":
    """All of them, the youngest first.  One that was to be removed at its end, and whose maker was killed before it ran, is
    removed now: nobody will start it."""
    return [each for each in store.every() if not _is_forsaken(each)]


def _is_forsaken(container: "Container") -> bool:
    if not container.remove or _running(container):
        return False
    held = store.hold_unless_busy(container)  # busy: its maker is still at it
    if held is None:
        return False
    with held:
        if _running(container):
            return False
        store.remove(container)
        _forget_run(container)
    return True


def _running(container: "Container") -> "dict[str, Any]":
    return store.read(f"{running_directory()}/{container.id}.json")


def settle(container: "Container", held: int = -1) -> "dict[str, Any]":
    """Write down how a locked container ended, unless that is done, and remove what is left of its run; itself, if it was
    to be removed.  `held` is its lease, where the caller has it.  Returns what a full disk kept from being written."""
    now = _running(container)
    if not now or (held < 0 and lease.held(now["lease"], container.id)):
        return {}
    seen: Ending | None = None
    finished = time()
    try:
        with open(f"{running_directory()}/{container.id}.end") as file:
            seen, finished = ending.recorded(file.read())
        seen.count(now["groups"], now["version"])
    except (OSError, ValueError):  # no record: its watcher was killed; no groups: removed already
        pass
    for group in {*now["groups"].values()}:
        if os.path.isdir(group):
            cgroup.kill(group)
            cgroup.remove(group)
    reason = ""
    if seen is None:
        rebooted = now["boot_id"] != boot_id()
        seen = ending.Ending(*((1, HOST_WENT_DOWN) if rebooted else (2, SIGKILL)), False, 0, 0)
        reason = "the host went down" if rebooted else "dolium-keep was killed"
    unwritten = _write_end(container, seen, now["started"], finished, reason)
    if held >= 0:
        lease.Lease(f"{lease.directory()}/{now['lease']}", held, now["lease"]).release()
    else:
        lease.mend()
    return unwritten


def ended(container: "Container", since: float, seen: "Ending", reason: str = "") -> bool:
    """Write down what the owner knows of the end of a container that it has watched itself; False where the disk is full."""
    with store.hold(container):
        return not _write_end(container, seen, since, time(), reason)


def _write_end(container: "Container", seen: "Ending", started: float, finished: float, reason: str) -> "dict[str, Any]":
    """The container's own file first: a kill in between leaves the run to be settled once more, as does a full disk, which
    must keep nobody from listing and removing what fills it.  Returns what could not be written."""
    if not container.remove:
        if not reason:
            reason = "memory" if seen.out_of_memory and seen.signal == SIGKILL else "signal" if seen.signal else "exit"
        fields = {
            "format": store.FORMAT, "exit_code": seen.exit_code, "signal": seen.signal, "reason": reason, "started": started,
            "finished": finished, "out_of_memory": seen.out_of_memory, "peak_memory": seen.peak_memory,
            "cpu_seconds": seen.cpu_seconds}  # fmt: skip
        try:
            store.write(f"{container.path}/ended.json", fields)
        except OSError as error:
            if error.errno not in (ENOSPC, EROFS, EDQUOT):
                raise
            return fields
    else:
        store.remove(container)
    _forget_run(container)
    return {}


def _forget_run(container: "Container") -> None:
    for suffix in ("end", "json"):
        try:
            os.unlink(f"{running_directory()}/{container.id}.{suffix}")
        except FileNotFoundError:
            pass


def end_of_detached(argv: "list[str]") -> int:
    """`dolium _ended ID LEASE`: the last act of the dolium-keep of a detached container, which has become this program."""
    identity, held = argv
    container = store.load(identity)
    if container:
        with store.hold(container):
            settle(container, int(held))
    return 0


def first_process(container: "Container", wanted: str) -> "tuple[int, dict[str, Any]]":
    """A pidfd of the first process of a running container, and what is written about the run.

    A number counts only with the boot and the start time it was written with, checked after the pidfd is open.
    Raises StateError, which says what is `wanted`.
    """
    now = state(container)
    if now["status"] == "running":
        try:
            fd = os.pidfd_open(now["pid"])
            if start_time(now["pid"]) == now["start_time"] and boot_id() == now["boot_id"]:
                return fd, now
            os.close(fd)
        except ProcessLookupError:
            pass
        now = {"status": "exited"}
    raise StateError(container.name, now["status"], wanted, hint=f"dolium start {container.name}")


def kill(container: "Container", number: int) -> None:
    """Send a signal to its first process.  Raises StateError."""
    from signal import pidfd_send_signal

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
    from signal import pidfd_send_signal

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
    """Until it has ended and that is written down; its exit code.  Of one that has never run 0, as docker says."""
    now = _running(container)
    while now and lease.held(now["lease"], container.id):
        try:
            fd = os.pidfd_open(now["pid"])
        except ProcessLookupError:
            fd = -1
        if fd >= 0:
            if start_time(now["pid"]) == now["start_time"]:
                has_ended(fd, None)
            os.close(fd)
        sleep(0.002)  # dolium-keep, then its last command, are still at it
        now = _running(container)
    try:
        found = state(container)
    except NotFound:
        found = {}
    code: int = found.get("exit_code", 0)
    return code


def remove(container: "Container", force: bool = False) -> None:
    """Forget it and what it wrote.  Raises StateError for one that runs, unless it is to be killed first."""
    if state(container)["status"] == "running":
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
            _forget_run(container)


def must_not_run(container: "Container") -> None:
    """Raises StateError if a locked container runs."""
    if state_of_locked(container) == "running":
        raise StateError(container.name, "running", "stopped", hint=f"dolium stop {container.name}")


def state_of_locked(container: "Container") -> str:
    """Running or not, for whoever holds its lock."""
    now = _running(container)
    if now and lease.held(now["lease"], container.id):
        return "running"
    settle(container)
    return "stopped"
