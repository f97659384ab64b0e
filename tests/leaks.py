"""What a test could leave behind on the host, and whether it did.

This process becomes the reaper of all its descendants, prctl(2), so that whatever loses its parent in a test still is one
of ours: other people's containers on the same machine are told apart and do not count.
"""

import ctypes
import os
import time
from fcntl import LOCK_EX, LOCK_NB, flock

from containers import NOBODY, SLOW

PR_SET_CHILD_SUBREAPER = 36
GRACE = 2.0
CACHED = ("/memfd:dolium-init (deleted)", "/memfd:dolium-keep (deleted)")
"""Made once per process that uses the library, and kept."""


def adopt_orphans() -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap() -> None:
    """Bury the dead that were left to us."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def family() -> dict[int, str]:
    """Every descendant of this process, dead or alive: pid -> a name that no later process can have."""
    parents, names = {}, {}
    for each in os.listdir("/proc"):
        if each.isdigit() and (stat := _read(f"/proc/{each}/stat")):
            rest = stat.rpartition(")")[2].split()
            parents[int(each)] = int(rest[1])
            names[int(each)] = f"process {each} {_read(f'/proc/{each}/comm').strip()} state {rest[0]} started {rest[19]}"
    own = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in own} - own:
        own |= more
    own.discard(os.getpid())
    return {pid: names[pid] for pid in own}


def groups(own: set[int]) -> set[str]:
    """Directories below any cgroup named `dolium`, but not those in which somebody else's process lives."""
    found = set()
    for line in _read("/proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        if after.split()[0] not in ("cgroup", "cgroup2"):
            continue
        for directory, _, _ in os.walk(before.split()[4]):
            if "/dolium/" in directory:
                members = {int(each) for each in _read(f"{directory}/cgroup.procs").split()}
                if not members - own:
                    found.add(f"cgroup {directory}")
    return found


def lease_directories() -> list[str]:
    found = ["/run/dolium/leases", f"/tmp/dolium-{NOBODY}/leases", f"/tmp/dolium-{os.geteuid()}/leases"]
    if "XDG_RUNTIME_DIR" in os.environ:
        found.append(f"{os.environ['XDG_RUNTIME_DIR']}/dolium/leases")
    return found


def leases() -> set[str]:
    """Leases that nobody holds: a living container's is locked."""
    found = set()
    for directory in lease_directories():
        try:
            names = os.listdir(directory)
        except (FileNotFoundError, PermissionError):
            continue
        for name in names:
            try:
                fd = os.open(f"{directory}/{name}", os.O_RDONLY | os.O_CLOEXEC)
            except (FileNotFoundError, PermissionError):
                continue
            try:
                flock(fd, LOCK_EX | LOCK_NB)
                found.add(f"lease {directory}/{name}")
            except BlockingIOError:
                pass
            finally:
                os.close(fd)
    return found


def descriptors() -> set[str]:
    counted: dict[str, int] = {}
    found = set()
    for each in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{each}")
        except FileNotFoundError:  # the one that listed them
            continue
        counted[target] = counted.get(target, 0) + 1
        if target not in CACHED or counted[target] > 1:
            found.add(f"descriptor {each} {target}")
    return found


def _namespaces(own: set[int]) -> set[str]:
    found = set()
    for pid in own:
        try:
            found.add("network namespace " + os.readlink(f"/proc/{pid}/ns/net"))
        except OSError:
            pass
    return found


def world() -> set[str]:
    """A name for everything that there is and that a test could have left."""
    reap()
    own = family()
    mounts = {f"mount {line}" for line in _read("/proc/self/mountinfo").splitlines()}
    return {*own.values(), *groups({*own}), *leases(), *mounts, *descriptors(), *_namespaces({*own})}


def left(before: set[str]) -> list[str]:
    """What is there now, was not before, and does not go away within the period of grace."""
    remaining = world() - before
    deadline = time.monotonic() + GRACE * SLOW
    while remaining and time.monotonic() < deadline:
        time.sleep(0.01)
        remaining &= world()
    return sorted(remaining)
