"""What the groups of an OCI container have counted, by the names that runc gives it in `events`."""

import os

from dolium.runtime import cgroup, state

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ENDLESS = (1 << 63) - 1
OF_CPUSET = ("cpu_exclusive", "mem_hardwall", "mem_exclusive", "memory_migrate", "memory_spread_page", "memory_spread_slab",
             "memory_pressure", "sched_load_balance", "sched_relax_domain_level")  # fmt: skip
IO = {"rbytes": ("ioServiceBytesRecursive", "Read"), "wbytes": ("ioServiceBytesRecursive", "Write"),
      "rios": ("ioServicedRecursive", "Read"), "wios": ("ioServicedRecursive", "Write")}  # fmt: skip


class Groups:
    """The container's groups, read: what is not there is empty, or 0."""

    def __init__(self, container: state.Container) -> None:
        self.paths: dict[str, str] = container.fields["groups"]
        self.versions: dict[str, int] = container.fields["versions"]

    def text(self, controller: str, name: str) -> str:
        """What is in that file."""
        try:
            return cgroup.read(f"{self.paths[controller]}/{name}").strip()
        except (OSError, KeyError):
            return ""

    def value(self, controller: str, name: str) -> int:
        """A number; `max` is the largest."""
        text = self.text(controller, name)
        return ENDLESS if text == "max" else int(text) if text.removeprefix("-").isdecimal() else 0

    def table(self, controller: str, name: str) -> "dict[str, int]":
        """Lines of a word and a number."""
        lines = (line.partition(" ") for line in self.text(controller, name).splitlines())
        return {key: int(count) for key, _, count in lines if count.isdecimal()}

    def usage(self, controller: str, name: str) -> "dict[str, int]":
        """Of `memory` or one of its parts, or of pages of a size."""
        if self.versions.get(controller) == 2:
            found = {"usage": "current", "limit": "max", "max": "peak"}
            return {key: self.value(controller, f"{name}.{file}") for key, file in found.items()} | {"failcnt": 0}
        found = {"usage": "usage_in_bytes", "limit": "limit_in_bytes", "max": "max_usage_in_bytes", "failcnt": "failcnt"}
        return {key: self.value(controller, f"{name}.{file}") for key, file in found.items()}


def statistics(container: state.Container) -> "dict[str, Any]":
    """All of it."""
    groups = Groups(container)
    return {
        "cpu": _cpu(groups),
        "cpuset": _cpuset(groups),
        "memory": _memory(groups),
        "pids": {"current": groups.value("pids", "pids.current"), "limit": groups.value("pids", "pids.max")},
        "blkio": _block(groups),
        "hugetlb": {size: groups.usage("hugetlb", f"hugetlb.{size}") for size in _sizes(groups)},
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _cpu(groups: Groups) -> "dict[str, Any]":
    if groups.versions.get("cpuacct") == 1:
        halves = {key: count * 10_000_000 for key, count in groups.table("cpuacct", "cpuacct.stat").items()}
        usage: dict[str, Any] = {"total": groups.value("cpuacct", "cpuacct.usage")}
        rows = [line.split() for line in groups.text("cpuacct", "cpuacct.usage_all").splitlines()[1:]]
        usage["percpu"] = [int(each) for each in groups.text("cpuacct", "cpuacct.usage_percpu").split()]
        usage |= {f"percpu_{name}": [int(row[column]) for row in rows] for name, column in (("user", 1), ("kernel", 2))}
    else:
        counted = groups.table("unified", "cpu.stat")
        halves = {key: counted.get(f"{key}_usec", 0) * 1000 for key in ("user", "system")}
        usage = {"total": counted.get("usage_usec", 0) * 1000}
    usage |= {"kernel": halves.get("system", 0), "user": halves.get("user", 0)}
    throttled = groups.table("cpu", "cpu.stat")
    time = throttled.get("throttled_time", throttled.get("throttled_usec", 0) * 1000)
    return {"usage": usage, "throttling": {"periods": throttled.get("nr_periods", 0), "throttledTime": time,
                                           "throttledPeriods": throttled.get("nr_throttled", 0)}}  # fmt: skip


def _cpuset(groups: Groups) -> "dict[str, Any]":
    v2 = groups.versions.get("cpuset") == 2
    lists = {name: _numbers(groups.text("cpuset", f"cpuset.{name}{'.effective' if v2 else ''}")) for name in ("cpus", "mems")}
    if v2:
        return lists
    return {**lists, **{name: groups.value("cpuset", f"cpuset.{name}") for name in OF_CPUSET}}


def _numbers(text: str) -> "list[int]":
    """`0-2,4` one by one."""
    spans = (part.partition("-") for part in text.split(",") if part)
    return [number for first, _, last in spans for number in range(int(first), int(last or first) + 1)]


def _memory(groups: Groups) -> "dict[str, Any]":
    """Of both versions `swap` is memory and swap together."""
    counted, usage = groups.table("memory", "memory.stat"), groups.usage("memory", "memory")
    if groups.versions.get("memory") == 2:
        swap = groups.usage("memory", "memory.swap")
        swap |= {key: min(swap[key] + usage[key], ENDLESS) for key in ("usage", "limit")}
        return {"cache": counted.get("file", 0), "usage": usage, "swap": swap, "raw": counted}
    parts = {"swap": "memsw", "kernel": "kmem", "kernelTCP": "kmem.tcp"}
    return {"cache": counted.get("cache", 0), "usage": usage,
            **{key: groups.usage("memory", f"memory.{name}") for key, name in parts.items()}, "raw": counted}  # fmt: skip


def _block(groups: Groups) -> "dict[str, Any]":
    found: dict[str, Any] = {}

    def count(key: str, device: str, op: str, value: str) -> None:
        major, _, minor = device.partition(":")
        found.setdefault(key, []).append({"major": int(major), "minor": int(minor), "op": op, "value": int(value)})

    if groups.versions.get("io") == 2:
        for line in groups.text("io", "io.stat").splitlines():
            device, *pairs = line.split()
            for name, _, value in (each.partition("=") for each in pairs):
                if name in IO:
                    count(IO[name][0], device, IO[name][1], value)
        return found
    for key, name in (("ioServiceBytesRecursive", "io_service_bytes"), ("ioServicedRecursive", "io_serviced")):
        text = groups.text("blkio", f"blkio.throttle.{name}_recursive")
        for device, op, value in (line.split() for line in text.splitlines() if line.count(" ") == 2):
            count(key, device, op, value)
    return found


def _sizes(groups: Groups) -> "list[str]":
    """Of pages, as the files of the group name them."""
    try:
        names = os.listdir(groups.paths["hugetlb"])
    except (OSError, KeyError):
        return []
    return sorted({name.split(".")[1] for name in names if name.startswith("hugetlb.") and not name.startswith("hugetlb.*")})
