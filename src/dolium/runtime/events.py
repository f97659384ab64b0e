"""`events`: what a container of an engine uses, and when the kernel killed in it for want of memory, by the names of runc."""

import os
from select import POLLIN, POLLPRI, poll
from time import monotonic

from dolium.runtime import cgroup
from dolium.runtime.state import Container
from dolium.runtime.statistics import statistics

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
