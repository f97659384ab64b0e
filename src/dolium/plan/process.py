"""Steps for what an engine may ask of the process besides who it is: how it is scheduled, where its memory lies."""

from _struct import Struct

from dolium.core.wire import Step
from dolium.errors import SpecError
from dolium.plan.onecall import call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHED_FLAGS = {"SCHED_FLAG_RESET_ON_FORK": 1, "SCHED_FLAG_RECLAIM": 2, "SCHED_FLAG_DL_OVERRUN": 4, "SCHED_FLAG_KEEP_POLICY": 8,
               "SCHED_FLAG_KEEP_PARAMS": 16, "SCHED_FLAG_UTIL_CLAMP_MIN": 32, "SCHED_FLAG_UTIL_CLAMP_MAX": 64}  # fmt: skip
_SCHED_ATTR = Struct("=IIQiIQQQ")
"""sched_setattr(2), the 48 bytes that every kernel takes."""
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
DOMAINS = {"LINUX": 0, "LINUX32": 8}
MEMORY = {"MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4, "MPOL_PREFERRED_MANY": 5,
          "MPOL_WEIGHTED_INTERLEAVE": 6}  # fmt: skip
MEMORY_FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
HIGHEST = 8191
"""The largest number of a CPU, and of a node, that a kernel can be built for."""


def numbers(text: str, why: str) -> bytes:
    """`0-3,7` as a bit mask of whole 64-bit words.  Raises SpecError."""
    mask = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        last = last if dash else first
        if not (first + last).isascii() or not first.isdecimal() or not last.isdecimal() or len(first + last) > 10:
            raise SpecError(why, f"is no list of numbers such as 0-3,7: {text[:40]!a}")
        low, high = int(first), int(last)
        if not low <= high <= HIGHEST:
            raise SpecError(why, f"has numbers that go down, or beyond {HIGHEST}: {text[:40]!a}")
        mask |= (1 << high + 1) - (1 << low)
    return mask.to_bytes(-(-max(mask.bit_length(), 1) // 64) * 8, "little")


def _bits(words: "list[str]", known: "dict[str, int]", why: str) -> int:
    total = 0
    for index, each in enumerate(words):
        if each not in known:
            raise SpecError(f"{why}[{index}]", f"expected one of {', '.join(known)}, got {each!a}")
        total |= known[each]
    return total


def _one(value: str, known: "dict[str, int]", why: str) -> int:
    return _bits([value], known, why) if value in known else _refuse(value, known, why)


def _refuse(value: str, known: "dict[str, int]", why: str) -> int:
    raise SpecError(why, f"expected one of {', '.join(known)}, got {value!a}")


def attributes(spec: "dict[str, Any]") -> "list[Step]":
    """While the process still may: some of it takes CAP_SYS_NICE.  Raises SpecError."""
    process, linux, steps = spec["process"], spec["linux"], []
    if personality := linux.get("personality"):
        if personality.get("flags"):
            raise SpecError("linux.personality.flags", "has flags, of which the specification knows none")
        steps.append(call("linux.personality", "personality", (DOMAINS[personality["domain"]],),
                          what=f"personality {personality['domain']}", note="what uname(2) says"))  # fmt: skip
    if policy := linux.get("memoryPolicy"):
        steps.append(_memory_policy(policy))
    if wanted := process.get("ioPriority"):
        kind = _one(wanted["class"], IO_CLASSES, "process.ioPriority.class")
        priority = wanted.get("priority", 0)
        steps.append(call("process.ioPriority", "ioprio_set", (1, 0, kind << 13 | priority), note="who reads and writes first",
                          what=f"{wanted['class']}, {priority}"))  # fmt: skip
    if wanted := process.get("scheduler"):
        policy_number = _one(wanted["policy"], POLICIES, "process.scheduler.policy")
        flags = _bits(wanted.get("flags", []), SCHED_FLAGS, "process.scheduler.flags")
        data = _SCHED_ATTR.pack(48, policy_number, flags, wanted.get("nice", 0), wanted.get("priority", 0) & 0xFFFFFFFF,
                                wanted.get("runtime", 0), wanted.get("deadline", 0), wanted.get("period", 0))  # fmt: skip
        steps.append(call("process.scheduler", "sched_setattr", (0, data, 0), what=wanted["policy"], note="when it runs"))
    return steps


def _memory_policy(policy: "dict[str, Any]") -> Step:
    mode = _one(policy["mode"], MEMORY, "linux.memoryPolicy.mode") | _bits(
        policy.get("flags", []), MEMORY_FLAGS, "linux.memoryPolicy.flags"
    )
    mask = numbers(policy["nodes"], "linux.memoryPolicy.nodes") if policy.get("nodes") else b""
    arguments: "tuple[int | bytes, ...]" = (mode, mask, len(mask) * 8 + 1) if mask else (mode, 0, 0)
    return call("linux.memoryPolicy", "set_mempolicy", arguments, what=policy["mode"], note="where its memory lies")


def affinity(spec: "dict[str, Any]", which: str) -> "list[Step]":
    """process.execCPUAffinity: the CPUs of a process that joins, before (`initial`) and after (`final`) it is in the groups."""
    cpus = spec["process"].get("execCPUAffinity", {}).get(which)
    if not cpus:
        return []
    mask = numbers(cpus, f"process.execCPUAffinity.{which}")
    return [call(f"process.execCPUAffinity.{which}", "sched_setaffinity", (0, len(mask), mask), what=f"CPUs {cpus}",
                 note="which it runs on")]  # fmt: skip


def preserve(spec: "dict[str, Any]") -> "list[Step]":
    """--preserve-fds: descriptors from 3 on that the program gets."""
    steps = [call("--preserve-fds", "fcntl", (3 + number, 2, 0), what=f"keep descriptor {3 + number}", note="--preserve-fds")
             for number in range(spec["dolium"].get("preserve", 0))]  # fmt: skip
    for step in steps[1:]:
        step.is_part = True
    return steps
