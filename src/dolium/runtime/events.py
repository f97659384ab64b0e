"""`events`: what a container of an engine uses, and when the kernel killed in it for want of memory, by the names of runc."""

import os
from select import POLLIN, POLLPRI, poll
from time import monotonic

from dolium.runtime import cgroup
from dolium.runtime.state import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any


def stream(container: Container, every: float) -> "Iterator[dict[str, Any]]":
    """One event after the other until it ends: statistics at once and every so many seconds, and `oom`."""
    pid = container.pid()
    if not pid:
        return
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    memory = Memory(container)
    watched = poll()
    watched.register(process, POLLIN)
    if memory.fd >= 0:
        watched.register(memory.fd, memory.sign)
    try:
        while True:
            yield {"type": "stats", "id": container.id, "data": statistics(container)}
            due = monotonic() + every
            while (left := due - monotonic()) > 0:
                ready = watched.poll(left * 1000)
                if memory.has_killed():  # before the end is looked at: it may be that of the first process
                    yield {"type": "oom", "id": container.id}
                if any(fd == process for fd, _ in ready):
                    return
    finally:
        os.close(process)
        memory.close()


class Memory:
    """The group's, where it has one: `fd` shows `sign` to poll(2) when the kernel has killed in it, or is about to."""

    __slots__ = ("fd", "sign", "_group", "_kills")

    def __init__(self, container: Container) -> None:
        self._group: str = container.fields["groups"].get("memory", "")
        version = container.fields["versions"].get("memory")
        self.fd, self.sign, self._kills = -1, POLLIN if version == 1 else POLLPRI, 0  # a file of v2 that changes, cgroups(7)
        try:
            if version == 1:
                self.fd = cgroup.watch_oom(self._group)
            elif version == 2:
                self.fd = os.open(f"{self._group}/memory.events", os.O_RDONLY | os.O_CLOEXEC)
                self._kills = self._counted()
        except FileNotFoundError:  # it has ended, and is being deleted
            pass

    def has_killed(self) -> bool:
        """Since the last time."""
        if self.fd < 0:
            return False
        if self.sign == POLLIN:
            try:
                os.eventfd_read(self.fd)
            except BlockingIOError:
                return False
            return os.path.exists(self._group)  # its removal is a sign, too
        try:
            before, self._kills = self._kills, self._counted()
        except OSError:  # ENODEV: it is gone
            return False
        return self._kills > before

    def _counted(self) -> int:
        """By this descriptor: poll(2) is silent until something has changed since it was read."""
        lines = os.pread(self.fd, 4096, 0).splitlines()
        return sum(int(line[9:]) for line in lines if line.startswith(b"oom_kill "))

    def close(self) -> None:
        """No more."""
        if self.fd >= 0:
            os.close(self.fd)


def statistics(container: Container) -> "dict[str, Any]":
    """What its groups have counted, by the names that runc gives."""
    groups, versions = container.fields["groups"], container.fields["versions"]

    def value(controller: str, name: str) -> int:
        try:
            text = cgroup.read(f"{groups[controller]}/{name}").strip()
            return (1 << 63) - 1 if text == "max" else int(text)
        except (OSError, KeyError, ValueError):
            return 0

    def table(controller: str, name: str) -> "dict[str, int]":
        try:
            lines = cgroup.read(f"{groups[controller]}/{name}").splitlines()
        except (OSError, KeyError):
            return {}
        return {key: int(count) for key, _, count in (line.partition(" ") for line in lines) if count.isdecimal()}

    v2, raw = versions.get("memory") == 2, table("memory", "memory.stat")
    usage, limit = ("memory.current", "memory.max") if v2 else ("memory.usage_in_bytes", "memory.limit_in_bytes")
    peak, failures = ("memory.peak", "") if v2 else ("memory.max_usage_in_bytes", "memory.failcnt")
    memory = {"usage": value("memory", usage), "limit": value("memory", limit), "max": value("memory", peak),
              "failcnt": value("memory", failures) if failures else 0}  # fmt: skip
    if v2:  # as v1 counts it, with what is in memory
        swap = {"usage": memory["usage"] + value("memory", "memory.swap.current"),
                "limit": min(memory["limit"] + value("memory", "memory.swap.max"), (1 << 63) - 1), "failcnt": 0}  # fmt: skip
    else:
        names = (("usage", "usage_in_bytes"), ("limit", "limit_in_bytes"), ("max", "max_usage_in_bytes"), ("failcnt", "failcnt"))
        swap = {key: value("memory", f"memory.memsw.{name}") for key, name in names}
    if versions.get("cpuacct") == 1:
        total = value("cpuacct", "cpuacct.usage")
        halves = {key: count * 10_000_000 for key, count in table("cpuacct", "cpuacct.stat").items()}
    else:
        counted = table("unified", "cpu.stat")
        total = counted.get("usage_usec", 0) * 1000
        halves = {"user": counted.get("user_usec", 0) * 1000, "system": counted.get("system_usec", 0) * 1000}
    throttled = table("cpu", "cpu.stat")
    return {
        "cpu": {"usage": {"total": total, "kernel": halves.get("system", 0), "user": halves.get("user", 0)},
                "throttling": {"periods": throttled.get("nr_periods", 0), "throttledPeriods": throttled.get("nr_throttled", 0),
                               "throttledTime": throttled.get("throttled_time", throttled.get("throttled_usec", 0) * 1000)}},
        "memory": {"cache": raw.get("file" if v2 else "cache", 0), "usage": memory, "swap": swap, "raw": raw},
        "pids": {"current": value("pids", "pids.current"), "limit": value("pids", "pids.max")},
        "blkio": {}, "hugetlb": {}, "intel_rdt": {}, "network_interfaces": None,
    }  # fmt: skip


