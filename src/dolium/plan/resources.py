"""What linux.resources of an engine's config writes into which files of which groups, cgroups(7), cgroup-v1, cgroup-v2."""

from dolium.core.wire import HOST, Step, one
from dolium.errors import SpecError, Unsupported
from dolium.plan.limits import shares_to_weight

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

ENOENT, EINVAL = 2, 22
MAX = "max"
NOT_YOURS = "or not yours: name a group below one of cgroup v2 that is delegated to you (linux.cgroupsPath, or --cgroup-parent)"
THROTTLES = {"throttleReadBpsDevice": ("read_bps", "rbps"), "throttleWriteBpsDevice": ("write_bps", "wbps"),
             "throttleReadIOPSDevice": ("read_iops", "riops"), "throttleWriteIOPSDevice": ("write_iops", "wiops")}  # fmt: skip


def groups(spec: "dict[str, Any]", facts: "Facts") -> "dict[str, str]":
    """The container's directories, by controller: exactly linux.cgroupsPath below where each hierarchy is mounted."""
    if not spec["dolium"]["groups"]:
        return {}
    path = spec["linux"]["cgroupsPath"]
    return {controller: hierarchy.parent + path for controller, hierarchy in facts.hierarchies.items()}


class Writing:
    """Collects the writes of one config."""

    def __init__(self, where: "dict[str, str]", facts: "Facts") -> None:
        self.where = where
        self.facts = facts
        self.steps: list[Step] = []

    def version(self, controller: str, why: str) -> int:
        """Which version this host has the controller in.  Raises Unsupported where it has none."""
        if controller not in self.where:
            raise Unsupported(f"linux.resources.{why}", f"the `{controller}` cgroup controller is not there",
                              hint=NOT_YOURS if self.facts.rootless else "")  # fmt: skip
        return self.facts.hierarchies[controller].version

    def put(self, controller: str, why: str, v2: "tuple[str, object] | None", v1: "tuple[str, object] | None",
            accept: "tuple[int, ...]" = (), other: "tuple[str, object] | None" = None) -> None:  # fmt: skip
        """One value into one file; `other` where the kernel has not that file.  Raises Unsupported where this version has
        no file for it."""
        version = self.version(controller, why)
        chosen = v2 if version == 2 else v1
        if chosen is None:
            raise Unsupported(f"linux.resources.{why}", f"cgroup v{version} has nothing like it")
        step = self._step(controller, why, *chosen)
        step.accept = accept
        if other is not None:
            step.on, step.other = ENOENT, self._step(controller, why, *other)
        self.steps.append(step)

    def _step(self, controller: str, why: str, name: str, value: object) -> Step:
        return Step("set_limit", HOST, f"linux.resources.{why}", path=f"{self.where[controller]}/{name}",
                    data=str(value).encode("utf-8", "surrogateescape"), what=f"{name.removesuffix('_in_bytes')} = {value}",
                    note="as the config has it")  # fmt: skip


def writes(resources: "dict[str, Any]", where: "dict[str, str]", facts: "Facts", *, first: bool = True) -> "list[Step]":
    """All of them, in the order in which they can be made; zero leaves things as they are, where no more is said of it.
    `first`: of a container that is made; else it lives, and is changed.  Raises SpecError and Unsupported."""
    to = Writing(where, facts)
    _cpuset(resources.get("cpu", {}), to)
    _memory(resources.get("memory", {}), to, first)
    _cpu(resources.get("cpu", {}), to, first)
    pids = resources.get("pids", {}).get("limit")
    if pids or pids == 0 and not first:  # none at all (0) would not let the container be born: `late` writes it
        to.put("pids", "pids.limit", ("pids.max", _max(pids)), ("pids.max", _max(pids)))
    _block(resources.get("blockIO", {}), to)
    _others(resources, to)
    _unified(resources.get("unified", {}), to)
    return to.steps


def completed(given: "dict[str, Any]", before: "dict[str, Any]") -> "dict[str, Any]":
    """The resources of an update without what is left as it is (0), and with what is written together with them: cpu.max of v2 has
    quota and period, a property of systemd's their quotient, memory.swap.max the difference of memory.swap and memory.limit."""
    found = dict(given)
    for group, keys in (("memory", ("limit", "swap", "reservation")), ("cpu", ("shares", "quota", "period"))):
        if group in given:
            found[group] = {key: value for key, value in given[group].items() if value or key not in keys}
    memory, cpu = found.get("memory", {}), found.get("cpu", {})
    if memory.get("limit") == -1:  # an old one of swap would stay, on v1 be in the way
        memory.setdefault("swap", -1)
    old = before.get("cpu", {})
    for key, other in (("period", "quota"), ("quota", "period")):
        if key in cpu and other in old:
            cpu.setdefault(other, old[other])
    if memory.get("swap", -1) > 0 and "limit" in (old := before.get("memory", {})):
        memory.setdefault("limit", old["limit"])
    return found


def late(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """What is written when the container's first process is there."""
    if spec["linux"]["resources"].get("pids", {}).get("limit") != 0:
        return []
    to = Writing(groups(spec, facts), facts)
    to.put("pids", "pids.limit", ("pids.max", 0), ("pids.max", 0))
    return to.steps


def owned(spec: "dict[str, Any]", where: "dict[str, str]", facts: "Facts") -> "list[Step]":
    """The container may divide its own group among its processes: where it has a cgroup namespace and a writable mount of it,
    cgroup v2 only (runtime-spec, config-linux.md "Cgroup ownership")."""
    linux = spec["linux"]
    mounted = [each for each in spec["mounts"] if each["destination"] == "/sys/fs/cgroup" and each["type"] in ("cgroup", "cgroup2")]
    namespaced = any(each["type"] == "cgroup" and "path" not in each for each in linux["namespaces"])
    uid = spec["process"]["user"]["uid"]
    for each in linux["uidMappings"]:
        if each["containerID"] <= uid < each["containerID"] + each["size"]:
            uid += each["hostID"] - each["containerID"]
            break
    if facts.rootless or not uid or not namespaced or not mounted or "ro" in mounted[-1]["options"]:
        return []
    return [Step("own_group", HOST, "linux.cgroupsPath", path=path, n1=uid, what=f"give its group to uid {uid}",
                 note="to divide, not to widen")
            for path in sorted({path for name, path in where.items() if facts.hierarchies[name].version == 2})]  # fmt: skip


def _max(value: int) -> "int | str":
    """Other negative numbers are the kernel's to refuse."""
    return MAX if value == -1 else value


def _memory(memory: "dict[str, Any]", to: Writing, first: bool) -> None:
    limit, swap = memory.get("limit", 0), memory.get("swap", 0)
    v1 = (limit or swap) and to.version("memory", "memory.limit") == 1
    if swap > 0 and limit <= 0 and (first or limit or not v1):  # v1 has a file for both together
        raise SpecError("linux.resources.memory.swap", "is memory and swap together, so it needs memory.limit")
    if 0 < swap < limit:
        raise SpecError("linux.resources.memory.swap", "is memory and swap together, so it cannot be less than memory.limit")
    both = ("memory.memsw.limit_in_bytes", swap)
    unlimited = (ENOENT,) if swap == -1 else ()  # where the kernel does not count swap nothing limits it
    if swap and v1 and not first:  # whichever is in the way of the other comes second; the kernel says EINVAL then
        to.put("memory", "memory.swap", None, both, accept=(EINVAL, *unlimited))
    if limit:
        to.put("memory", "memory.limit", ("memory.max", _max(limit)), ("memory.limit_in_bytes", limit))
    if swap:
        to.put("memory", "memory.swap", ("memory.swap.max", _max(swap - limit if swap > 0 else swap)), both, accept=unlimited)
    if memory.get("reservation"):
        value = memory["reservation"]
        to.put("memory", "memory.reservation", ("memory.low", _max(value)), ("memory.soft_limit_in_bytes", value))
    for key, name in (("kernel", "kmem"), ("kernelTCP", "kmem.tcp")):
        if memory.get(key):
            if key == "kernel" and to.facts.kernel >= (5, 16):  # what is written there is passed over
                raise Unsupported("linux.resources.memory.kernel", "Linux since 5.16 limits no kernel memory by itself")
            to.put("memory", f"memory.{key}", None, (f"memory.{name}.limit_in_bytes", memory[key]))
    if "swappiness" in memory:
        to.put("memory", "memory.swappiness", None, ("memory.swappiness", memory["swappiness"]))
    if memory.get("disableOOMKiller"):
        to.put("memory", "memory.disableOOMKiller", None, ("memory.oom_control", 1))
    if memory.get("useHierarchy") and to.version("memory", "memory.useHierarchy") == 1:  # on v2 there is nothing else
        to.put("memory", "memory.useHierarchy", None, ("memory.use_hierarchy", 1))


def _cpu(cpu: "dict[str, Any]", to: Writing, first: bool) -> None:
    quota, period, burst = cpu.get("quota", 0), cpu.get("period", 0), cpu.get("burst")
    twice = bool(quota) and not first  # period and burst fit the old quota or the new one; the kernel says EINVAL to the other
    of_burst = "cpu.burst", ("cpu.max.burst", burst), ("cpu.cfs_burst_us", burst)
    of_period = "cpu.period", None, ("cpu.cfs_period_us", period)
    idle = ("cpu.idle", cpu.get("idle"))
    if cpu.get("idle") == 0:  # while it is idle the kernel takes no weight (sched_group_set_shares)
        to.put("cpu", "cpu.idle", idle, idle)
    if cpu.get("shares"):
        shares = cpu["shares"]
        if not 2 <= shares <= 262144 and to.version("cpu", "cpu.shares") == 1:  # the kernel would take the nearest, and say nothing
            raise SpecError("linux.resources.cpu.shares", f"is from 2 to 262144, not {shares}")
        to.put("cpu", "cpu.shares", ("cpu.weight", shares_to_weight(shares)), ("cpu.shares", shares))
    if cpu.get("idle"):
        to.put("cpu", "cpu.idle", idle, idle)
    if burst is not None and twice:
        to.put("cpu", *of_burst, accept=(EINVAL,))
    if (quota or period) and to.version("cpu", "cpu.quota") == 2:
        value = (MAX if quota < 0 else str(quota)) if quota else MAX
        to.put("cpu", "cpu.quota", ("cpu.max", f"{value} {period}" if period else value), None)
    else:
        if period:
            to.put("cpu", *of_period, accept=(EINVAL,) if twice else ())
        if quota:
            to.put("cpu", "cpu.quota", None, ("cpu.cfs_quota_us", quota))
        if period and twice:
            to.put("cpu", *of_period)
    if burst is not None:
        to.put("cpu", *of_burst)
    for key, name in (("realtimePeriod", "cpu.rt_period_us"), ("realtimeRuntime", "cpu.rt_runtime_us")):
        if cpu.get(key):
            to.put("cpu", f"cpu.{key}", None, (name, cpu[key]))


def _cpuset(cpu: "dict[str, Any]", to: Writing) -> None:
    for key in ("cpus", "mems"):
        if cpu.get(key):
            if not {*cpu[key]} <= {*"0123456789,-:/ \n"}:
                raise SpecError(f"linux.resources.cpu.{key}", f"is no list of numbers such as 0-3,7: {cpu[key][:40]!a}")
            to.put("cpuset", f"cpu.{key}", (f"cpuset.{key}", cpu[key]), (f"cpuset.{key}", cpu[key]))


def _block(block: "dict[str, Any]", to: Writing) -> None:
    def on_v2() -> bool:
        name = "io" if "io" in to.where else "blkio"
        return to.version(name, "blockIO") == 2

    def scaled(weight: int) -> int:
        """As io.weight has it, from 1 to 10000."""
        return 1 + (weight - 10) * 9999 // 990

    controller = "io" if "io" in to.where else "blkio"
    if weight := block.get("weight"):
        if not 10 <= weight <= 1000:
            raise SpecError("linux.resources.blockIO.weight", f"is from 10 to 1000, not {weight}")
        if on_v2():
            to.put(controller, "blockIO.weight", ("io.bfq.weight", weight), None, other=("io.weight", f"default {scaled(weight)}"))
        else:
            to.put(controller, "blockIO.weight", None, ("blkio.weight", weight), other=("blkio.bfq.weight", weight))
    if leaf := block.get("leafWeight"):
        to.put(controller, "blockIO.leafWeight", None, ("blkio.leaf_weight", leaf))
    for index, each in enumerate(block.get("weightDevice", ())):
        why = f"blockIO.weightDevice[{index}]"
        for key, name in (("weight", "weight"), ("leafWeight", "leaf_weight")):
            if each.get(key):
                device = f"{each['major']}:{each['minor']}"
                value = f"{device} {each[key]}"
                if key == "weight" and on_v2():
                    to.put(controller, why, ("io.bfq.weight", value), None, other=("io.weight", f"{device} {scaled(each[key])}"))
                else:
                    bfq = ("blkio.bfq.weight_device", value) if key == "weight" else None
                    to.put(controller, why, None, (f"blkio.{name}_device", value), other=bfq)
    for key, (old, new) in THROTTLES.items():
        for index, each in enumerate(block.get(key, ())):
            number = f"{each['major']}:{each['minor']}"
            to.put(controller, f"blockIO.{key}[{index}]", ("io.max", f"{number} {new}={each['rate'] or MAX}"),
                   (f"blkio.throttle.{old}_device", f"{number} {each['rate']}"))  # fmt: skip


def _others(resources: "dict[str, Any]", to: Writing) -> None:
    for index, each in enumerate(resources.get("hugepageLimits", ())):
        why, size, limit = f"hugepageLimits[{index}]", each["pageSize"], each["limit"]
        if not size.isalnum():
            raise SpecError(f"linux.resources.{why}.pageSize", "is no size of a page, such as 2MB")
        to.put("hugetlb", why, (f"hugetlb.{size}.max", limit), (f"hugetlb.{size}.limit_in_bytes", limit))
        to.put(
            "hugetlb", why, (f"hugetlb.{size}.rsvd.max", limit), (f"hugetlb.{size}.rsvd.limit_in_bytes", limit), accept=(ENOENT,)
        )
    network = resources.get("network", {})
    if network.get("classID"):
        to.put("net_cls", "network.classID", None, ("net_cls.classid", network["classID"]))
    for index, each in enumerate(network.get("priorities", ())):
        to.put("net_prio", f"network.priorities[{index}]", None, ("net_prio.ifpriomap", f"{each['name']} {each['priority']}"))
    for device, most in resources.get("rdma", {}).items():
        value = " ".join(
            [
                device,
                *(
                    f"{name}={most[key]}"
                    for key, name in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
                    if key in most
                ),
            ]
        )
        to.put("rdma", f"rdma.{device}", ("rdma.max", value), ("rdma.max", value))


def _unified(unified: "dict[str, str]", to: Writing) -> None:
    for name, value in unified.items():
        why = f"unified.{name}"
        if "/" in name or name in ("", ".", "..") or "." not in name:
            raise SpecError(f"linux.resources.{why}", "is no name of a file of a cgroup")
        controller = name.partition(".")[0]
        if "unified" not in to.where:
            raise Unsupported(f"linux.resources.{why}", "cgroup v2 is not mounted on this host")
        if (
            controller not in ("cgroup", "memory.swap")
            and to.facts.hierarchies.get(controller, to.facts.hierarchies["unified"]).version != 2
        ):
            raise Unsupported(f"linux.resources.{why}", f"the `{controller}` controller of this host is one of cgroup v1")
        for line in value.splitlines() or [value]:
            to.put("unified", why, (name, line), None)


def device_entries(spec: "dict[str, Any]", where: "dict[str, str]") -> "list[Step]":
    """linux.resources.devices where the controller is one of cgroup v1.  What the config allows stands first and as it is
    written, as runc and crun have it, if it refuses nothing in between; else as plan/device_filter.py says it."""
    rules = spec["linux"]["resources"].get("devices")
    if not rules or "devices" not in where:
        return []
    from dolium.plan import device_filter as filters

    read = filters.read(rules)
    own = [each for each in read[:-len(filters.KINDS)] if (each.major, each.minor) not in filters.USUAL]
    begun = max((index + 1 for index, each in enumerate(own) if not each.is_narrow and not each.allow), default=0)
    if not all(each.allow and each.is_narrow for each in own[begun:]):
        return filters.entries(rules, where["devices"])
    last = [each for each in read if each not in own]
    steps = [_device(where["devices"], False, "a")]
    for rule in (*own[begun:], *last):
        access = "".join(letter for letter, bit in filters.LETTERS if rule.access & bit)
        numbers = ":".join("*" if each == filters.ANY else str(each) for each in (rule.major, rule.minor))
        steps.append(_device(where["devices"], True, f"{rule.kind} {numbers} {access}"))
    return one(steps, f"then {len(steps) - 1} rules")


def _device(directory: str, allow: bool, text: str) -> Step:
    file = "devices.allow" if allow else "devices.deny"
    return Step("set_limit", HOST, "linux.resources.devices", path=f"{directory}/{file}", data=text.encode(),
                what=f"{file} = {text}", note="as the config has it")  # fmt: skip


def device_filter(spec: "dict[str, Any]", where: "dict[str, str]", facts: "Facts") -> "list[Step]":
    """The same on cgroup v2.  Who is not root can make no nodes and load no filter: the host's modes of those there are
    keep him out, as with runc and crun."""
    rules = spec["linux"]["resources"].get("devices")
    if not rules or "devices" in where or "unified" not in where or facts.rootless:
        return []
    from dolium.plan import device_filter as filters

    return filters.attach(rules)
