"""How a container ended: what dolium-keep saw, and what its cgroups have counted."""

from _struct import Struct

from dolium.runtime import cgroup

MESSAGE = Struct("=cBBBIQQ")
"""init/keep.c, struct ending."""
CLD_EXITED = 1
SIGKILL = 9


class Ending:
    """How a container ended: `exit_code` as a shell would say it, `signal` that killed its first process or 0, `out_of_memory`,
    `cpu_seconds`, `peak_memory` and `tmpfs` in bytes (the latter only where memory ran out)."""

    __slots__ = ("exit_code", "signal", "out_of_memory", "cpu_seconds", "peak_memory", "tmpfs")

    def __init__(self, code: int, status: int, oom: bool, peak_kib: int, cpu_us: int) -> None:
        self.signal: int = 0 if code == CLD_EXITED else status
        self.exit_code: int = 128 + status if self.signal else status
        self.out_of_memory: bool = oom
        self.cpu_seconds: float = cpu_us / 1e6
        self.peak_memory: int = peak_kib * 1024
        self.tmpfs: int = 0

    def count(self, groups: "dict[str, str]", version: int, peak: "cgroup.Peak | None" = None) -> None:
        """Add what the container's cgroups (directories by controller) know; `version` of the memory controller's; `peak`, where
        memory is not to be counted from the beginning.

        Raises OSError.
        """
        if group := groups.get("memory"):
            self.peak_memory = (peak.read() if peak else cgroup.memory_peak(group, version)) or self.peak_memory
            self.out_of_memory |= self.signal == SIGKILL and cgroup.memory_kills(group, version) > 0
            self.tmpfs = cgroup.memory_of_files(group) if self.out_of_memory else 0
        if group := groups.get("unified"):
            self.cpu_seconds = max(self.cpu_seconds, cgroup.cpu_seconds(group))


def told(message: bytes) -> Ending:
    """From what dolium-keep sends to the owner."""
    _, oom, code, status, peak_kib, user_us, system_us = MESSAGE.unpack(message)
    return Ending(code, status, bool(oom), peak_kib, user_us + system_us)


def recorded(text: str) -> "tuple[Ending, float]":
    """From the record that it leaves, and when that was (seconds since 1970).  Raises ValueError."""
    *numbers, when = text.split()
    code, status, oom, peak_kib, user_us, system_us = map(int, numbers)
    return Ending(code, status, bool(oom), peak_kib, user_us + system_us), float(when)
