"""What systemd is told of a container's scope: the limits as properties of the unit, so that it keeps to them when it writes
the groups' files anew, as `systemctl daemon-reload` makes it do.  Pure.

Sources: systemd.resource-control(5), systemd.scope(5), org.freedesktop.systemd1(5); which limit is which property is as with
runc and crun.  What no property can say stands in the files of the group alone.
"""

from dolium.errors import SpecError
from dolium.plan import gvariant
from dolium.plan.limits import PERIOD, shares_to_weight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Property = tuple[str, str, Any]
    """Its name, the type of its value as D-Bus has it, the value."""

INFINITY = (1 << 64) - 1
PERCENT = 10_000
"""Microseconds of a second: systemd keeps quotas in these steps."""
ANNOTATION = "org.systemd.property."
OURS = ("Delegate", "PIDs", "Slice")
"""Without these the group would not be the container's."""
MEMORY = {"memory.min": "MemoryMin", "memory.low": "MemoryLow", "memory.high": "MemoryHigh", "memory.max": "MemoryMax",
          "memory.swap.max": "MemorySwapMax"}  # fmt: skip
CPUSET = {"cpuset.cpus": "AllowedCPUs", "cpuset.mems": "AllowedMemoryNodes"}
SINCE = {"CPUQuotaPeriodUSec": 242, "AllowedCPUs": 244, "AllowedMemoryNodes": 244, "OOMPolicy": 253}
"""Before these versions of systemd there is no such property of a scope."""
IDLE, BY_NUMBER = 252, 240
"""Since when a weight of 0 means cpu.idle, and a group of devices can be named by its number."""


def scope(spec: "dict[str, Any]", v2: bool, devices: bool) -> "list[Property]":
    """All that the unit is begun with, but for the process; `v2`: the host has no other cgroups; `devices`: systemd may limit
    those, too.  Raises SpecError."""
    unit, resources = spec["dolium"]["unit"], spec["linux"]["resources"]
    found: list[Property] = [("Description", "s", unit["description"]), ("Slice", "s", unit["slice"]), ("Delegate", "b", True),
                             ("DefaultDependencies", "b", False)]  # fmt: skip
    for name in ("MemoryAccounting", "CPUAccounting", "IOAccounting" if v2 else "BlockIOAccounting", "TasksAccounting"):
        found.append((name, "b", True))
    found += limits(resources, v2, unit["version"])
    together = resources.get("unified", {}).get("memory.oom.group", "").strip()
    if v2 and together in ("0", "1") and unit["version"] >= SINCE["OOMPolicy"]:  # of a scope that is there it cannot be changed
        found.append(("OOMPolicy", "s", "kill" if together == "1" else "continue"))
    if devices and resources.get("devices"):
        found += _devices(resources["devices"], v2, unit["version"])
    return found + asked(spec["annotations"])


def limits(resources: "dict[str, Any]", v2: bool, version: int) -> "list[Property]":
    """Those of linux.resources that can be changed while it lives, for that version of systemd.  Raises SpecError."""
    found = _memory(resources.get("memory", {}), v2) + _cpu(resources.get("cpu", {}), v2, version)
    most = resources.get("pids", {}).get("limit")
    if most is not None:
        found.append(("TasksMax", "t", INFINITY if most < 0 else max(1, most)))  # of no process at all there is no unit
    if weight := resources.get("blockIO", {}).get("weight"):
        found.append(("IOWeight", "t", _io_weight(weight)) if v2 else ("BlockIOWeight", "t", weight))
    if v2:
        found += _unified(resources.get("unified", {}), version)
    return [each for each in found if version >= SINCE.get(each[0], 0)]


def show(each: "Property") -> str:
    """One property as `systemctl show` would begin to have it."""
    name, kind, value = each
    if value == INFINITY:
        return f"{name}=infinity"
    if kind == "b":
        return f"{name}={'yes' if value else 'no'}"
    if kind == "ay":
        return f"{name}={_numbers(value)}"
    if kind == "a(ss)":
        return f"{name}={', '.join(' '.join(pair) for pair in value)}"
    return f"{name}={' '.join(map(str, value)) if isinstance(value, list) else value}"


def _memory(memory: "dict[str, Any]", v2: bool) -> "list[Property]":
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    found: list[Property] = []
    if limit:
        found.append(("MemoryMax" if v2 else "MemoryLimit", "t", INFINITY if limit < 0 else limit))
    if memory.get("reservation") and v2:
        found.append(("MemoryLow", "t", INFINITY if memory["reservation"] < 0 else memory["reservation"]))
    if swap and v2:
        found.append(("MemorySwapMax", "t", INFINITY if swap < 0 else swap - max(limit, 0)))
    return found


def _cpu(cpu: "dict[str, Any]", v2: bool, version: int) -> "list[Property]":
    found: list[Property] = []
    if v2 and cpu.get("idle") == 1 and version >= IDLE:
        found.append(("CPUWeight", "t", 0))
    elif shares := cpu.get("shares"):
        found.append(("CPUWeight", "t", shares_to_weight(shares)) if v2 else ("CPUShares", "t", shares))
    found += _quota(cpu.get("quota", 0), cpu.get("period", 0))
    for key, name in (("cpus", "AllowedCPUs"), ("mems", "AllowedMemoryNodes")):
        if cpu.get(key):
            found.append((name, "ay", _bits(cpu[key], f"linux.resources.cpu.{key}")))
    return found


def _quota(quota: int, period: int) -> "list[Property]":
    """In whole percents, upwards: what is written into the group after it is what was asked for."""
    found: list[Property] = [("CPUQuotaPeriodUSec", "t", period)] if period else []
    if quota or period:
        each = -(-quota * 1_000_000 // (period or PERIOD) // PERCENT) * PERCENT if quota > 0 else INFINITY
        found.append(("CPUQuotaPerSecUSec", "t", each))
    return found


def _io_weight(weight: int) -> int:
    """blockIO.weight (10 to 1000) as IOWeight= (1 to 10000), so that systemd, which goes the way back, comes to the same."""
    return weight if weight <= 100 else 100 + (weight - 100) * 9900 // 900


def _unified(unified: "dict[str, str]", version: int) -> "list[Property]":
    found: list[Property] = []
    idle = unified.get("cpu.idle", "").strip() == "1" and version >= IDLE
    if idle:
        found.append(("CPUWeight", "t", 0))
    for name, text in unified.items():
        why, value = f"linux.resources.unified.{name}", text.strip()
        if name in MEMORY:
            found.append((MEMORY[name], "t", _size(value, why)))
        elif name in CPUSET:
            found.append((CPUSET[name], "ay", _bits(value, why)))
        elif name == "pids.max":
            found.append(("TasksMax", "t", max(1, _size(value, why))))
        elif name == "cpu.weight" and not idle:
            found.append(("CPUWeight", "t", _size(value, why)))
        elif name == "cpu.max":
            quota, _, period = value.partition(" ")
            numbers = -1 if quota == "max" else _size(quota, why), _size(period.strip() or str(PERIOD), why)
            found += _quota(*numbers)
    return found


def _size(text: str, why: str) -> int:
    """As the kernel reads it: a number, with a unit after it or none, or `max`.  Raises SpecError."""
    if text == "max":
        return INFINITY
    shift = {"k": 10, "m": 20, "g": 30, "t": 40}.get(text[-1:].lower(), 0)
    digits = text[:-1] if shift else text
    if not (digits.isascii() and digits.isdecimal()) or int(digits) << shift > INFINITY:
        raise SpecError(why, f"`{text[:40]}` is neither a number nor `max`")
    return int(digits) << shift


def _bits(text: str, why: str) -> bytes:
    """A list such as `0-3,7` as a set of bits, the lowest in the first byte.  Raises SpecError."""
    found = 0
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not part.strip():
            continue
        if not first.isdecimal() or dash and not last.isdecimal() or len(first) > 5 or len(last) > 5:
            raise SpecError(why, f"`{text[:40]}` is no list of numbers such as 0-3,7")
        low, high = int(first), int(last or first)
        if low > high:
            raise SpecError(why, f"`{part[:40]}` is no range")
        found |= (1 << high + 1) - (1 << low)
    return found.to_bytes((found.bit_length() + 7) // 8, "little")


def _numbers(bits: bytes) -> str:
    whole = int.from_bytes(bits, "little")
    return ",".join(str(number) for number in range(whole.bit_length()) if whole >> number & 1)


def _devices(rules: "list[dict[str, Any]]", v2: bool, version: int) -> "list[Property]":
    """DeviceAllow= knows no exceptions from what it allows.  Where a config has some, on cgroup v2 the container's own filter does
    without systemd's; on v1, where systemd would write over ours, it allows less than was asked for rather than more."""
    from dolium.plan import device_filter as filters

    allowed: list[tuple[str, str]] = []
    whole, can_be_said = 0, version >= BY_NUMBER
    for kind, word in (("b", "block"), ("c", "char")):
        mine = [each for each in filters.read(rules) if each.kind == kind]
        begun = max((index + 1 for index, each in enumerate(mine) if not each.is_narrow and not each.allow), default=0)
        whole += any(each.allow and not each.is_narrow for each in mine[begun:])
        for each in mine[begun:]:
            if not each.allow or each.major == filters.ANY != each.minor:
                can_be_said = False
                continue
            group = "*" if each.major == filters.ANY else each.major
            path = f"{word}-{group}" if each.minor == filters.ANY else f"/dev/{word}/{each.major}:{each.minor}"
            allowed.append((path, "".join(letter for letter, bit in filters.LETTERS if each.access & bit)))
    if can_be_said and whole == len(filters.KINDS) or v2 and not can_be_said:
        return [("DevicePolicy", "s", "auto"), ("DeviceAllow", "a(ss)", [])]
    return [("DevicePolicy", "s", "strict"), ("DeviceAllow", "a(ss)", allowed)]


def asked(annotations: "dict[str, str]") -> "list[Property]":
    """Properties that a config asks for by annotations, `org.systemd.property.TimeoutStopUSec: "uint64 5000000"`, as runc and crun
    have them; a name in seconds (TimeoutStopSec) becomes the one in microseconds that systemd has.  Raises SpecError."""
    found: list[Property] = []
    for key in sorted(annotations):
        name, why = key.removeprefix(ANNOTATION), f"annotations.{key[:80]}"
        if name == key:
            continue
        if len(name) < 3 or not (name.isascii() and name.isalpha()):
            raise SpecError(why, "names no property of a unit")
        if name in OURS:
            raise SpecError(why, f"{name}= is set by Dolium, and only so is the group the container's")
        kind, value = gvariant.read(annotations[key], why)
        if name.endswith("Sec") and name[-4:-3].islower():
            if kind not in "nqiuxtd" or value < 0:
                raise SpecError(why, "is no number of seconds")
            name, kind, value = f"{name[:-3]}USec", "t", round(value * 1_000_000)
        found.append((name, kind, value))
    return found
