"""Steps that bound what a container may use: cgroup v2 where it is, v1 controllers where those are, rlimits."""

from dolium.core.wire import HOST, INSIDE, OUTSIDE, Step, one
from dolium.errors import SpecError, Unsupported
from dolium.plan import slots
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

O_WRONLY, O_PATH, O_DIRECTORY = 0o1, 0o10000000, 0o200000
UNLIMITED = -1
PERIOD = 100_000
"""Microseconds; the kernel's own default for cpu.max, and Docker's."""

RESOURCES = {"RLIMIT_CPU": 0, "RLIMIT_FSIZE": 1, "RLIMIT_DATA": 2, "RLIMIT_STACK": 3, "RLIMIT_CORE": 4,
             "RLIMIT_RSS": 5, "RLIMIT_NPROC": 6, "RLIMIT_NOFILE": 7, "RLIMIT_MEMLOCK": 8, "RLIMIT_AS": 9,
             "RLIMIT_LOCKS": 10, "RLIMIT_SIGPENDING": 11, "RLIMIT_MSGQUEUE": 12, "RLIMIT_NICE": 13,
             "RLIMIT_RTPRIO": 14, "RLIMIT_RTTIME": 15}  # fmt: skip
"""getrlimit(2)"""


def groups(spec: "dict[str, Any]", facts: "Facts") -> "dict[str, str]":
    """The container's cgroup directories, by controller.

    Raises Unsupported where a limit was asked for that this host, or this user on it, cannot enforce.
    """
    if is_bundle(spec):
        from dolium.plan import resources as every

        return every.groups(spec, facts)
    resources = spec["linux"]["resources"]
    name = spec["linux"]["cgroupsPath"].rpartition("/")[2]
    part = spec["dolium"].get("part", "")  # of cgroup v2 groups: one of its own for a process that joins
    memory, cpu = resources.get("memory", {}), resources.get("cpu", {})
    wanted = {
        "memory": memory.get("limit", UNLIMITED) > 0,
        "cpu": any(key in cpu for key in ("quota", "shares", "weight")),
        "cpuset": "cpus" in cpu,
        "pids": resources.get("pids", {}).get("limit", 0) > 0 and not facts.rootless,
        "devices": _filters_devices(spec),
    }
    found = {}
    for controller, asked in wanted.items():
        hierarchy = facts.controllers.get(controller)
        if hierarchy and (asked or hierarchy.version == 2):
            found[controller] = f"{hierarchy.parent}/{name}{part if hierarchy.version == 2 else ''}"
        elif asked:
            share = "--cpu-weight" if "weight" in cpu else "--cpu-shares"
            flag = {"memory": "--memory", "cpu": "--cpus" if "quota" in cpu else share, "cpuset": "--cpuset-cpus",
                    "pids": "--pids-limit", "devices": "linux.resources.devices"}[controller]  # fmt: skip
            why, mend = facts.no_devices if controller == "devices" else facts.no_controllers
            known = facts.hierarchies.get(controller)
            if facts.rootless and facts.uid and known and known.version == 1:
                why, mend = "this host has it on cgroup v1, which only root may use", "run it as root"
            more = f"`dolium doctor cgroup-{controller}` says more"
            raise Unsupported(flag, f"the `{controller}` cgroup controller is not available: {why}",
                              hint=f"{mend}; {more}" if mend else more)  # fmt: skip
    if "unified" in facts.controllers:
        found["unified"] = f"{facts.controllers['unified'].parent}/{name}{part}"
    return found


def cgroup(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Make the groups and write the limits, before anything lives in them; open the way in."""
    where = groups(spec, facts)
    directories = sorted(set(where.values()))
    resources = spec["linux"]["resources"]
    if not directories:
        if is_bundle(spec) and spec["dolium"]["groups"]:  # else the caller has said that there are to be none
            from dolium.plan import resources as every

            every.writes(resources, where, facts)  # raises, if there is anything to write
        return []
    note = "to limit, count and kill as one"
    if is_bundle(spec):
        from dolium.plan import resources as every

        made = {path: facts.hierarchies[controller].parent for controller, path in where.items()}
        return one([Step("make_group", HOST, "linux.cgroupsPath", path=path, path2=top, what=f"mkdir {_short(path)}", note=note)
                    for path, top in sorted(made.items())], f"in {len(made)} hierarchies") \
            + every.writes(resources, where, facts) + every.device_entries(spec, where) \
            + every.owned(spec, where, facts)  # fmt: skip
    steps = one([Step("make_group", HOST, "linux.cgroupsPath", path=path, what=f"mkdir {_short(path)}", note=note)
                 for path in directories], f"in {len(directories)} hierarchies")  # fmt: skip

    def limit(controller: str, why: str, v2: "tuple[str, str] | None", v1: "tuple[str, str] | None", what: str,
              note: str, accept: "tuple[int, ...]" = ()) -> None:
        chosen = v2 if facts.controllers[controller].version == 2 else v1
        if chosen:
            steps.append(Step("set_limit", HOST, f"linux.resources.{why}", path=f"{where[controller]}/{chosen[0]}",
                              data=chosen[1].encode(), accept=accept, note=note,
                              what=f"{chosen[0].removesuffix('_in_bytes')} = {what}"))  # fmt: skip

    memory = resources.get("memory", {})
    if "limit" in memory and "memory" in where:
        from dolium.plan.quantities import show_size

        most = memory["limit"]
        limit("memory", "memory.limit", ("memory.max", str(most)), ("memory.limit_in_bytes", str(most)),
              show_size(most), "beyond it the whole container dies")  # fmt: skip
        swap = memory.get("swap", most)
        over = "max" if swap == UNLIMITED else str(swap - most)
        # ENOENT: a kernel that does not count swap; refused only where swap was asked for
        limit("memory", "memory.swap", ("memory.swap.max", over), ("memory.memsw.limit_in_bytes", str(swap)),
              over if over == "max" else show_size(swap - most if facts.controllers["memory"].version == 2 else swap),
              "no swap on top of it" if swap == most else "memory and swap together",
              () if "memory.swap" in spec["dolium"]["asked"] else (2,))  # fmt: skip
        limit("memory", "memory.limit", ("memory.oom.group", "1"), None, "1", "not one of the group dies, but all")
        if facts.controllers["memory"].version == 1:
            steps.append(Step("watch_oom", HOST, "linux.resources.memory.limit", path=where["memory"], out=slots.OOM,
                              what="watch memory.oom_control", note="dolium-keep ends the whole group"))  # fmt: skip
    cpu = resources.get("cpu", {})
    if cpu.get("quota", UNLIMITED) > 0:
        quota, period = cpu["quota"], cpu.get("period", PERIOD)
        note = f"{quota / 1000:g} ms of CPU in every {period / 1000:g} ms"
        if period != PERIOD:
            limit("cpu", "cpu.period", None, ("cpu.cfs_period_us", str(period)), str(period), "how often the quota begins anew")
        limit("cpu", "cpu.quota", ("cpu.max", f"{quota} {period}"), ("cpu.cfs_quota_us", str(quota)),
              f"{quota} {period}" if facts.controllers["cpu"].version == 2 else str(quota), note)  # fmt: skip
    if "weight" in cpu or "shares" in cpu:
        weight = cpu["weight"] if "weight" in cpu else shares_to_weight(cpu["shares"])
        shares = cpu["shares"] if "shares" in cpu else max(2, weight * 1024 // 100)
        v2 = facts.controllers["cpu"].version == 2
        limit("cpu", "cpu.shares", ("cpu.weight", str(weight)), ("cpu.shares", str(shares)),
              str(weight if v2 else shares), "its part when the CPUs are contended")  # fmt: skip
    if "cpus" in cpu:
        nodes = resources["cpu"].get("mems", facts.memory_nodes)
        limit("cpuset", "cpu.cpus", None, ("cpuset.mems", nodes), nodes, "memory of these nodes, v1 wants it")
        limit("cpuset", "cpu.cpus", ("cpuset.cpus", cpu["cpus"]), ("cpuset.cpus", cpu["cpus"]), cpu["cpus"],
              "runs on these CPUs only")  # fmt: skip
    pids = resources.get("pids", {}).get("limit", 0)
    if pids > 0 and "pids" in where:
        limit("pids", "pids.limit", ("pids.max", str(pids)), ("pids.max", str(pids)), str(pids), "a fork bomb stops here")
    if _filters_devices(spec) and facts.controllers["devices"].version == 1:
        from dolium.plan import device_filter

        steps += device_filter.entries(resources["devices"], where["devices"])
    return steps


def _filters_devices(spec: "dict[str, Any]") -> bool:
    """Whether there are rules for devices; an empty list are some, too."""
    return spec["linux"]["resources"].get("devices") is not None


def doors(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Open the groups, so that the child is born in its cgroup v2 directory and enters the v1 ones by descriptor."""
    where = groups(spec, facts)
    steps = []
    known = facts.hierarchies if is_bundle(spec) else facts.controllers
    v2 = {path for controller, path in where.items() if known[controller].version == 2}
    for path in sorted(v2):
        steps.append(Step("open", OUTSIDE, "linux.cgroupsPath", path=path, n1=O_PATH | O_DIRECTORY, out=slots.CGROUP,
                          what=f"open {_short(path)}", note="clone3 starts the child inside it"))  # fmt: skip
    v1 = [Step("open", OUTSIDE, "linux.cgroupsPath", path=path + "/tasks", n1=O_WRONLY, out=slot,
               what=f"open tasks of {_short(path)}", note="the child enters by descriptor")
          for slot, path in enumerate(sorted(set(where.values()) - v2), slots.FIRST_TASKS)]  # fmt: skip
    return steps + one(v1, f"{len(v1)} of v1, entered by descriptor")


def devices(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The device filter of cgroup v2, attached to the group before anything is born in it."""
    if is_bundle(spec):
        from dolium.plan import resources as every

        return every.device_filter(spec, groups(spec, facts), facts)
    if not _filters_devices(spec) or facts.controllers["devices"].version == 1:
        return []
    from dolium.plan import device_filter

    return device_filter.attach(spec["linux"]["resources"]["devices"])


def enter(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The child enters the v1 groups itself: moving another process costs the kernel a global lock, moving oneself does
    not, and dolium-init's own memory stays uncharged."""
    where = groups(spec, facts)
    known = facts.hierarchies if is_bundle(spec) else facts.controllers
    v1 = {path for controller, path in where.items() if known[controller].version == 1}
    steps = [Step("write_fd", INSIDE, "linux.cgroupsPath", fd=slot, data=b"0", what=f"enter {_short(path)}",
                  note="limited from here on") for slot, path in enumerate(sorted(v1), slots.FIRST_TASKS)]  # fmt: skip
    return one(steps, f"{len(steps)} groups; limited from here on")


def is_born_inside(spec: "dict[str, Any]", facts: "Facts") -> bool:
    """Whether clone3 can start the child in its cgroup (CLONE_INTO_CGROUP, Linux 5.7)."""
    known = facts.hierarchies if is_bundle(spec) else facts.controllers
    return any(known[controller].version == 2 for controller in groups(spec, facts))


def rlimits(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """setrlimit(2) for each of process.rlimits; without cgroups RLIMIT_NPROC stands in for pids.max, for since Linux 5.14
    it is counted per user namespace."""
    wanted = list(spec["process"].get("rlimits", ()))
    pids = spec["linux"]["resources"].get("pids", {}).get("limit", 0)
    steps = []
    if facts.rootless and pids > 0 and not is_bundle(spec) and "pids" not in groups(spec, facts):
        if facts.counts_processes:
            steps.append(_rlimit("linux.resources.pids.limit", "RLIMIT_NPROC", pids, pids, "a fork bomb stops here"))
        elif "pids.limit" in spec["dolium"]["asked"]:
            why, how = "before Linux 5.14 only root can limit processes", "run it as root"
            if facts.exempt:
                why, how = "without cgroups nothing limits the processes of root", "run it as a plain user, or with CAP_SYS_ADMIN"
            raise Unsupported("--pids-limit", why, hint=how)
    for index, each in enumerate(wanted):
        if each["type"] not in RESOURCES:
            raise SpecError(f"process.rlimits[{index}].type", f"no such resource: {each['type']}")
        steps.append(_rlimit(f"process.rlimits[{index}]", each["type"], each["soft"], each["hard"], "of each process"))
    return steps


def _rlimit(why: str, name: str, soft: int, hard: int, note: str) -> Step:
    def signed(value: int) -> int:
        return value - (1 << 64) if value >= 1 << 63 else value

    def show(value: int) -> str:
        return "unlimited" if signed(value) == -1 else str(value)

    text = show(soft) if soft == hard else f"{show(soft)}:{show(hard)}"
    return Step("rlimit", INSIDE, why, path=name, n1=RESOURCES[name], n2=signed(soft), n3=signed(hard),
                what=f"{name} = {text}", note=note)  # fmt: skip


def shares_to_weight(shares: int) -> int:
    """cpu.shares (2..262144) as cpu.weight (1..10000), by the formula that keeps 1024 at 100 (runtime-spec 1.3)."""
    from math import log2

    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    power = log2(shares)
    return int(-(-(10 ** ((power * power + 125 * power) / 612 - 7 / 34)) // 1))


def _short(path: str) -> str:
    return path.removeprefix("/sys/fs/cgroup/")
