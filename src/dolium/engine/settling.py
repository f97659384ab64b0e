"""What is written about a container's run, and how its end comes to be written down, whoever is left to do it.

    running/ID.json            who runs, in the state directory, which a reboot empties
    running/ID.end             dolium-keep's record of the end
    containers/ID/began.json   since when it runs or ran last: that a reboot has ended it can be told by this alone
    containers/ID/ended.json   how that ended

Each step can be the last before a kill: who comes next finds all that it needs to do the rest.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from time import monotonic, sleep, time

from dolium.engine import store
from dolium.errors import DoliumError, NotFound
from dolium.runtime import cgroup, ending, lease, places, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.store import Container
    from dolium.runtime.ending import Ending
    from dolium.runtime.launch import Running

SIGKILL = 9
EXITED, KILLED = 1, 2
FULL = (28, 30, 122)
"""ENOSPC, EROFS, EDQUOT: nothing can be written any more."""
HOST_WENT_DOWN = 255
"""What docker, too, says of a container that a reboot has ended."""
PATIENCE = 2.0
"""Seconds: so long it is waited for who starts a container, for `cp` holds the lock of one that has ended as long as it takes."""
LOOKS = 500
"""How often, two milliseconds apart, it is looked whether those who wait for an end have read of it."""


def directory() -> str:
    """Where it is written who runs."""
    return places.below(places.state(), "running")


def _file(container: "Container", suffix: str) -> str:
    return f"{directory()}/{container.id}.{suffix}"


def running(container: "Container") -> "dict[str, Any]":
    """What is written about its run; that it still runs is said by its lease.  Empty where there is none."""
    return store.read(_file(container, "json"))


def begun(container: "Container") -> "dict[str, Any]":
    """As `running`, but of one that somebody is starting once that is done: its program is heard before it can be written that
    it runs, for its number is told only then.  Who starts it holds its lock for so long."""
    now = running(container)
    if now:
        return now
    deadline = monotonic() + PATIENCE
    while (held := store.hold_unless_busy(container)) is None and os.path.exists(container.path) and monotonic() < deadline:
        sleep(0.002)
    if held is None:
        return running(container)
    with held:
        return running(container)


def note(container: "Container", begun: "Running", number: int, pidfd: int, since: float, said: str) -> None:
    """Write down that it runs, under the lease with that number; `said` is what there is to say of its users."""
    with open(f"/proc/self/fdinfo/{pidfd}") as file:
        pid = next(max(0, int(line.split()[1])) for line in file if line.startswith("Pid:"))  # -1: it has gone by now
    facts = begun.facts
    memory = facts.controllers.get("memory")
    boot = process.boot_id()
    if not container.remove:
        try:
            store.write(f"{container.path}/began.json", {"format": store.FORMAT, "started": since, "boot_id": boot}, durable=False)
        except OSError as error:  # it runs, and has filled the disk by now: only that a reboot ended it would not be told
            if error.errno not in FULL:
                raise
    store.write(_file(container, "json"), {
        "format": store.FORMAT, "pid": pid, "start_time": process.start_time(pid), "boot_id": boot, "lease": number,
        "started": since, "id_base": facts.id_base, "groups": begun.controllers, "version": memory.version if memory else 0,
        "cable": begun.spec["dolium"]["network"], "note": said,
    }, durable=False)  # fmt: skip


def forget_record(container: "Container") -> None:
    """Of an end that nobody has settled because its owner was killed before it was written that it ran."""
    try:
        os.unlink(_file(container, "end"))
    except FileNotFoundError:
        pass


def last_end(container: "Container") -> "dict[str, Any]":
    """How it ended last, of one that does not run; empty where it never ran.  A run that a reboot has ended is written down."""
    ended, began = _ended(container), store.read(f"{container.path}/began.json")
    if not began or began["started"] == ended.get("started"):
        return ended
    with store.hold(container):
        ended = _ended(container)
        if running(container) or began["started"] == ended.get("started"):  # somebody else was quicker
            return ended
        rebooted = began["boot_id"] != process.boot_id()
        reason = "the host went down" if rebooted else f"what was written in {directory()} is gone"
        seen = ending.Ending(EXITED, HOST_WENT_DOWN, False, 0, 0)
        return _write_end(container, seen, began["started"], time(), reason) or _ended(container)


def _ended(container: "Container") -> "dict[str, Any]":
    try:
        return store.read(f"{container.path}/ended.json")
    except DoliumError:
        return _fields(ending.Ending(EXITED, HOST_WENT_DOWN, False, 0, 0), 0.0, container.created, "how is not readable any more")


def settle(container: "Container", held: int = -1) -> "dict[str, Any]":
    """Write down how a locked container ended, unless that is done, and remove what is left of its run; itself, if it was
    to be removed.  `held` is its lease, where the caller has it.  Returns what a full disk kept from being written."""
    now = running(container)
    if not now:
        if held >= 0:  # its owner was killed before it was written that it ran
            os.close(held)
            forget_record(container)
            lease.mend()
        return {}
    if held < 0 and lease.held(now["lease"], container.id):
        return {}
    unwritten: dict[str, Any] = {}
    if container.remove or _ended(container).get("started") != now["started"]:  # else somebody was killed in the middle of this
        seen, finished, reason = _seen(container, now)
        unwritten = _write_end(container, seen, now["started"], finished, reason)
    for group in {*now["groups"].values()}:
        if os.path.isdir(group):
            cgroup.kill(group)
            cgroup.remove(group)
    if not unwritten:
        forget(container)
    if held >= 0:
        lease.Lease(f"{lease.directory()}/{now['lease']}", held, now["lease"]).release()
    else:
        lease.mend()
    return unwritten


def _seen(container: "Container", now: "dict[str, Any]") -> "tuple[Ending, float, str]":
    """How it ended, when, and why, if that is not to be seen."""
    found = recorded(container)
    if found is None:
        if now["boot_id"] != process.boot_id():
            return ending.Ending(EXITED, HOST_WENT_DOWN, False, 0, 0), time(), "the host went down"
        return ending.Ending(KILLED, SIGKILL, False, 0, 0), time(), "dolium-keep was killed"
    try:
        found[0].count(now["groups"], now["version"])
    except OSError:  # removed already
        pass
    return (*found, "")


def recorded(container: "Container") -> "tuple[Ending, float] | None":
    """What dolium-keep has left about its end, and when that was."""
    try:
        with open(_file(container, "end")) as file:
            return ending.recorded(file.read())
    except (OSError, ValueError):
        return None


def ended(container: "Container", since: float, seen: "Ending", reason: str = "") -> bool:
    """Write down what the owner knows of the end of a container that it has watched itself, unless it is removed by now; False
    where the disk is full."""
    try:
        held = store.hold(container)
    except NotFound:
        return True
    with held:
        if _write_end(container, seen, since, time(), reason):
            return False
        forget(container)
        return True


def _write_end(container: "Container", seen: "Ending", started: float, finished: float, reason: str) -> "dict[str, Any]":
    """A full disk must keep nobody from listing and removing what fills it.  Returns what could not be written."""
    if container.remove:
        store.remove(container)
        return {}
    fields = _fields(seen, started, finished, reason)
    try:
        store.write(f"{container.path}/ended.json", fields)
    except OSError as error:
        if error.errno not in FULL:
            raise
        return fields
    return {}


def _fields(seen: "Ending", started: float, finished: float, reason: str) -> "dict[str, Any]":
    if not reason:
        reason = "memory" if seen.out_of_memory and seen.signal == SIGKILL else "signal" if seen.signal else "exit"
    return {"format": store.FORMAT, "exit_code": seen.exit_code, "signal": seen.signal, "reason": reason, "started": started,
            "finished": finished, "out_of_memory": seen.out_of_memory, "peak_memory": seen.peak_memory,
            "cpu_seconds": seen.cpu_seconds}  # fmt: skip


def forget(container: "Container") -> None:
    """Remove what is written about a run that is settled.  The record goes last: without it, a kill in between would make
    the next settle guess.  One that is removed now is read of by those who wait for it first."""
    if container.remove:
        held = hold_record(container, LOCK_EX | LOCK_NB, LOOKS)
        if held >= 0:
            os.close(held)
    for suffix in ("json", "end"):
        try:
            os.unlink(_file(container, suffix))
        except FileNotFoundError:
            pass


def sweep() -> None:
    """Remove what is written about runs of containers that are there no more: somebody was killed between the two."""
    where = directory()
    for name in os.listdir(where):
        if not store.is_there(name.partition(".")[0]):
            try:
                os.unlink(f"{where}/{name}")
            except OSError:  # somebody else was quicker, or it is nothing of ours
                pass


def hold_record(container: "Container", kind: int = LOCK_SH, looks: int = 1) -> int:
    """A lock on what is written about its run, which keeps that there; -1 where it is gone, or others have it for long."""
    try:
        fd = os.open(_file(container, "json"), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return -1
    for _ in range(looks):
        try:
            flock(fd, kind)
            return fd
        except BlockingIOError:
            sleep(0.002)
    os.close(fd)
    return -1


def end_of_detached(argv: "list[str]") -> int:
    """`dolium _ended ID LEASE`: the last act of the dolium-keep of a detached container, which has become this program."""
    identity, held = argv
    container = store.load(identity)
    if container:
        with store.hold(container):
            settle(container, int(held))
    return 0
