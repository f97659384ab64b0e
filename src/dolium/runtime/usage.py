"""What a container's cgroups allow and have counted, read while it lives: cgroup v2 and v1 say the same in different files.

Nothing here fails because the container ends meanwhile: what can no longer be read is None, and the caller, who has a pidfd,
looks whether it still lived afterwards.
"""

import os

from dolium.runtime import cgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

UNLIMITED_V1 = 1 << 62
"""What v1 shows for no limit is near the largest signed number, rounded down to pages."""


def memory(group: str) -> "dict[str, Any]":
    """Bytes: `limit`, `swap_limit` (without memory), `usage`, `peak`; `events` as memory.events names them.  None: no limit,
    or not known."""
    if not _is_v1(group):
        return {"limit": _number(f"{group}/memory.max"), "swap_limit": _number(f"{group}/memory.swap.max"),
                "usage": _number(f"{group}/memory.current"), "peak": _number(f"{group}/memory.peak"),
                "events": _fields(f"{group}/memory.events")}  # fmt: skip
    limit, both = _below(f"{group}/memory.limit_in_bytes"), _below(f"{group}/memory.memsw.limit_in_bytes")
    hits = _number(f"{group}/memory.failcnt")
    kills = _fields(f"{group}/memory.oom_control").get("oom_kill")
    return {"limit": limit, "swap_limit": both - limit if both is not None and limit is not None else None,
            "usage": _number(f"{group}/memory.usage_in_bytes"), "peak": _number(f"{group}/memory.max_usage_in_bytes"),
            "events": {name: value for name, value in (("max", hits), ("oom_kill", kills)) if value is not None}}  # fmt: skip


def cpu_limit(group: str) -> "dict[str, Any]":
    """Microseconds: `quota` in each `period`, None without one; how many periods were `throttled`, `throttled_seconds`."""
    counted = _fields(f"{group}/cpu.stat")
    if _is_v1(group):
        quota = _number(f"{group}/cpu.cfs_quota_us")
        found: dict[str, Any] = {"quota": None if quota == -1 else quota, "period": _number(f"{group}/cpu.cfs_period_us")}
        stopped = counted.get("throttled_time", 0) / 1e9
    else:
        words = _read(f"{group}/cpu.max").split()
        found = {"quota": None if words[:1] in ([], ["max"]) else int(words[0]), "period": int(words[1]) if words[1:] else None}
        stopped = counted.get("throttled_usec", 0) / 1e6
    return found | {"throttled": counted.get("nr_throttled", 0), "throttled_seconds": stopped}


def cpu_seconds(groups: "dict[str, str]") -> "float | None":
    """CPU time of all that ever ran in it: of cgroup v2, which counts without the controller, else of cpuacct, where it is
    mounted together with cpu."""
    if "unified" in groups:
        used = _fields(f"{groups['unified']}/cpu.stat").get("usage_usec")
        return None if used is None else used / 1e6
    used = _number(f"{groups['cpu']}/cpuacct.usage") if "cpu" in groups else None
    return None if used is None else used / 1e9


def pids(group: str) -> "dict[str, Any]":
    """Processes and threads: `limit` or None, `current`."""
    return {"limit": _number(f"{group}/pids.max"), "current": _number(f"{group}/pids.current")}


def members(groups: "dict[str, str]") -> "list[int] | None":
    """The processes in it and in groups below it, in order; None where there is no group at all (a plain user's, on a host
    that has delegated none)."""
    group = next((groups[each] for each in ("unified", "pids", "memory", "cpu", "cpuset") if each in groups), "")
    if not group:
        return None
    found: set[int] = set()
    for directory, _, _ in os.walk(group):
        found.update(int(each) for each in _read(f"{directory}/cgroup.procs").split())
    return sorted(found - {0})  # 0: of a PID namespace that we do not see


def _is_v1(group: str) -> bool:
    return os.path.exists(f"{group}/tasks")


def _read(path: str) -> str:
    """Empty where there is no such file, or the group has gone (ENODEV) or is of the threaded kind (EOPNOTSUPP)."""
    try:
        return cgroup.read(path)
    except OSError:
        return ""


def _number(path: str) -> "int | None":
    text = _read(path).strip()
    return int(text) if text.removeprefix("-").isdigit() else None


def _below(path: str) -> "int | None":
    found = _number(path)
    return found if found is not None and found < UNLIMITED_V1 else None


def _fields(path: str) -> "dict[str, int]":
    lines = (line.split() for line in _read(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit()}
