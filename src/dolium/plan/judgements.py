"""What a difference between two plans means for who is inside: weaker, tighter or neither, and a word why.  Pure.

A difference is of two groups, a step with its parts each, one of which may be missing.  The table at the end says by the
key of the step's lesson (plan/lessons) what it means that the step is new, that it is gone, and that it is another.
"""

from dolium.core.wire import items
from dolium.plan import calls, denied
from dolium.plan.attributes import RDONLY
from dolium.plan.capabilities import NUMBERS
from dolium.plan.namespaces import FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dolium.core.wire import Step

    Group = list[Step]
    Verdict = tuple[str, str]
    Judge = Callable[[Group, Group], Verdict]

WEAKER, TIGHTER, NEUTRAL, UNCLEAR, FOLLOWS = "weaker", "tighter", "neutral", "unclear", "follows"
"""UNCLEAR: somebody must look; FOLLOWS: it comes with another difference, which says what it means."""
INFINITY = 1 << 63

PRICES = {
    **denied.PRICES,
    "CAP_SYS_ADMIN": "mount, setns, most of root",
    "CAP_CHOWN": "any file to anybody", "CAP_DAC_OVERRIDE": "past all permissions of files",
    "CAP_FOWNER": "modes of others' files",
    "CAP_FSETID": "setuid bits stay", "CAP_KILL": "signals to anybody inside", "CAP_SETGID": "any group", "CAP_SETUID": "any user",
    "CAP_SETPCAP": "dropping capabilities for its children", "CAP_LINUX_IMMUTABLE": "files that even root may not change",
    "CAP_NET_BIND_SERVICE": "ports below 1024", "CAP_NET_BROADCAST": "nothing, in Linux as it is",
    "CAP_NET_ADMIN": "addresses, routes and firewall of its network", "CAP_NET_RAW": "packets of any kind, also forged",
    "CAP_IPC_LOCK": "memory that is never swapped out", "CAP_IPC_OWNER": "past all permissions of shared memory",
    "CAP_SYS_RESOURCE": "past resource limits", "CAP_MKNOD": "device nodes", "CAP_LEASE": "leases on any file",
    "CAP_AUDIT_WRITE": "lines in the audit log", "CAP_AUDIT_CONTROL": "the audit system", "CAP_AUDIT_READ": "the audit log",
    "CAP_SETFCAP": "capabilities on files", "CAP_MAC_OVERRIDE": "past security labels", "CAP_MAC_ADMIN": "security labels",
    "CAP_WAKE_ALARM": "waking the machine up", "CAP_BLOCK_SUSPEND": "keeping the machine awake",
    "CAP_CHECKPOINT_RESTORE": "choosing its process numbers",
}  # fmt: skip
"""What each capability gives."""
SHARED = {"mount": "list of mounts", "pid": "processes", "network": "network", "ipc": "shared memory and queues",
          "uts": "host name", "cgroup": "view of cgroups", "user": "users", "time": "clocks since boot"}  # fmt: skip


def judge(key: str, before: "Group", after: "Group", others: "set[str]") -> "Verdict":
    """(verdict, why) for a step that was `before` and is `after`, one of them empty where it is new or gone; `others` are the
    keys of all the steps that differ."""
    added, removed, changed = TABLE.get(key) or TABLE.get(key.split()[0]) or (UNKNOWN, UNKNOWN, _unknown)
    if key == "caps" and "bounds" in others:
        return FOLLOWS, ""
    if not before or not after:
        found = added if after else removed
        return found(before, after) if callable(found) else found
    return changed(before, after)


def _listed(names: "list[str]", most: int = 6) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _unknown(_: "Group", after: "Group") -> "Verdict":
    return UNCLEAR, "compare the two by --step"


def _is(verdict: "Verdict") -> "Judge":
    return lambda before, after: verdict


def _more(before: float, after: float, what: str) -> "Verdict":
    """A limit: more of it is weaker."""
    if after == before:
        return NEUTRAL, f"as much {what}"
    return (WEAKER, f"more {what}") if after > before else (TIGHTER, f"less {what}")


def _figure(group: "Group") -> float:
    """The first number in what is written."""
    word = group[0].data.split()[0] if group[0].data.split() else b"0"
    return INFINITY if word in (b"max", b"-1") else float(int(word))


def _by_figure(what: str) -> "Judge":
    return lambda before, after: _more(_figure(before), _figure(after), what)


def _swap(before: "Group", after: "Group") -> "Verdict":
    both = "memory and swap together" if "memsw" in after[0].path else "swap"
    return _more(_figure(before), _figure(after), both)


def _share(group: "Group") -> float:
    """CPU time in each microsecond; of cgroup v1 the period stands in another file, and is the usual one."""
    words = group[0].data.split()
    return INFINITY if words[0] in (b"max", b"-1") else int(words[0]) / (int(words[1]) if len(words) > 1 else 100_000)


def _cpus(group: "Group") -> "set[int]":
    found: set[int] = set()
    for span in group[0].data.decode().split(","):
        low, _, high = span.partition("-")
        found |= {*range(int(low), int(high or low) + 1)}
    return found


def _cpuset(before: "Group", after: "Group") -> "Verdict":
    return _more(len(_cpus(before)), len(_cpus(after)), "CPUs") if _cpus(before) != _cpus(after) else (NEUTRAL, "the same CPUs")


def _sets(gone: "list[str]", new: "list[str]", lost: str, won: str, weaker_if_new: bool = True) -> "Verdict":
    """Of two sets: what is new and what is gone, one of which makes it weaker."""
    worse, better = (new, gone) if weaker_if_new else (gone, new)
    why = "; ".join(([f"{won} {_listed(new)}"] if new else []) + ([f"{lost} {_listed(gone)}"] if gone else []))
    if not worse and not better:
        return NEUTRAL, "the same in another form"
    return (WEAKER if worse else TIGHTER), why


def _capabilities(before: int, after: int) -> "Verdict":
    gone, new = (calls.capabilities(each) for each in (before & ~after, after & ~before))
    priced = [f"{each[4:]}: {PRICES[each]}" for each in new]
    if priced:
        why = "adds " + "; ".join(priced[:3]) + (f"; and {len(priced) - 3} more" if priced[3:] else "")
        return WEAKER, why + (f"; takes {_listed([each[4:] for each in gone])}" if gone else "")
    return (TIGHTER, f"takes {_listed([each[4:] for each in gone])}") if gone else (NEUTRAL, "the same capabilities")


def _caps(before: "Group", after: "Group") -> "Verdict":
    old, new = ((each[0].n1 | each[0].n2 | each[0].n3) if each else 0 for each in (before, after))
    return _capabilities(old, new)


def _namespaces(before: "Group", after: "Group") -> "Verdict":
    old, new = (each[0].n1 if each else 0 for each in (before, after))
    gone = [SHARED[name] for name, bit in FLAGS.items() if old & ~new & bit]
    fresh = [SHARED[name] for name, bit in FLAGS.items() if new & ~old & bit]
    if gone:
        return WEAKER, f"it shares the host's {_listed(gone)}"
    return (TIGHTER, f"its own {_listed(fresh)}") if fresh else (FOLLOWS, "")


def _paths(what: str) -> "Judge":
    """Masked or read-only paths: one less is weaker."""
    def judge_paths(before: "Group", after: "Group") -> "Verdict":
        old, new = ({*items(each[0])} if each else set() for each in (before, after))
        return _sets(sorted(old - new), sorted(new - old), f"no longer {what}:", f"{what}:", weaker_if_new=False)
    return judge_paths


def _filter(before: "Group", after: "Group") -> "Verdict":
    old, new = (denied.allowed(each[0].data) for each in (before, after))
    if old == new:
        return UNCLEAR, "the same calls, but with other conditions on their arguments or other answers"
    return _sets(sorted(old - new), sorted(new - old), "refuses", "allows")


def _bind(before: "Group", after: "Group") -> "Verdict":
    """A part of the host that is shown; its parts say how."""
    def writable(group: "Group") -> bool:
        return not any(step.n1 & RDONLY for step in group if step.op == "set_attr")
    if (after or before)[0].path == "/sys":  # instead of a sysfs of its own, where the network is not
        return FOLLOWS, ""
    if not before:
        return WEAKER, f"the host's {after[0].path} can be " + ("read and written" if writable(after) else "read")
    if not after:
        return TIGHTER, f"the host's {before[0].path} is not shown"
    if writable(before) != writable(after):
        return (WEAKER, "it can be written now") if writable(after) else (TIGHTER, "it can only be read now")
    return FOLLOWS, ""


def _rlimit(before: "Group", after: "Group") -> "Verdict":
    def bounds(group: "Group") -> "list[float]":
        return [INFINITY if each < 0 else each for each in (group[0].n3, group[0].n2)]
    if not before or not after:
        return NEUTRAL, "instead of what whoever starts dolium has"
    name = after[0].path.removeprefix("RLIMIT_").lower()
    for low, high in zip(bounds(before), bounds(after), strict=True):
        if low != high:
            return _more(low, high, name)
    return NEUTRAL, f"as much {name}"


def _user(before: "Group", after: "Group") -> "Verdict":
    old, new = before[0].n3, after[0].n3
    if (old == 0) == (new == 0):
        return NEUTRAL, f"user {new} instead of {old}" if old != new else "other groups"
    return (TIGHTER, "no longer root inside") if new else (WEAKER, "root inside")


def _device(before: "Group", after: "Group") -> "Verdict":
    name = (after or before)[0].what.removeprefix("mknod ").removeprefix("bind ")
    return (WEAKER, f"the host's device {name} can be used") if after else (TIGHTER, f"no {name}")


def _bound_devices(before: "Group", after: "Group") -> "Verdict":
    """/proc, /sys or /dev in its place, with the host's nodes that were asked for bound into the last."""
    old, new = ({each.path for each in group if each.why.startswith("linux.devices[")} for group in (before, after))
    if old == new:
        return FOLLOWS, ""
    gone, fresh = sorted(old - new), sorted(new - old)
    return (WEAKER, f"the host's device {_listed(fresh)} can be used") if fresh else (TIGHTER, f"no {_listed(gone)}")


def _limit(what: str) -> "tuple[Verdict, Verdict]":
    return (TIGHTER, f"{what} is bounded"), (WEAKER, f"{what} is not bounded any more")


UNKNOWN: "Verdict" = (UNCLEAR, "compare the two by --step")
_FOLLOWS: "Verdict" = (FOLLOWS, "")


def _neutral(why: str) -> "tuple[Verdict, Verdict, Judge]":
    return (NEUTRAL, why), (NEUTRAL, why), _is((NEUTRAL, why))


def _wall(name: str, reason: str) -> "tuple[Verdict, Verdict, Judge]":
    return (TIGHTER, name), (WEAKER, reason), _unknown


_CONSEQUENCES = (
    "make_group", "open", "open tasks", "write_fd", "watch_oom", "open_ns", "open_ns ns/user", "open_ns ns/mnt", "open_ns ns/net",
    "sync", "sync ids", "sync mounts", "sync made", "sync connected", "become root", "set_attr idmap", "loopback", "keep",
    "netlink address", "netlink wait", "enter_net back", "move_mount file", "move_mount bind", "move_mount rootfs",
    "move_mount attach", "move_mount empty", "new_mount store", "open_tree kept", "open_tree file",
    "set_limit cpuset.mems", "set_limit cpu.cfs_period_us",
    "own_pipes", "write_file", "mkdir", "symlink", "mknod", "open_tree device", "set_limit memory.oom.group",
    "new_mount empty",
    "new_mount sysfs", "new_mount dev", "new_mount groups",
    "pts", "stdio", "ctty", "open_tree console", "move_mount console",
)  # fmt: skip
"""What changes because something else does."""

TABLE: "dict[str, tuple[Verdict | Judge, Verdict | Judge, Judge]]" = {
    **{key: (_FOLLOWS, _FOLLOWS, _is(_FOLLOWS)) for key in _CONSEQUENCES},
    "set_limit memory.max": (*_limit("memory"), _by_figure("memory")),
    "set_limit memory.swap.max": (*_limit("swap"), _swap),
    "set_limit cpu.max": (*_limit("CPU time"), lambda before, after: _more(_share(before), _share(after), "CPU time")),
    "set_limit cpu.weight": _neutral("its share when CPUs are scarce"),
    "set_limit cpuset.cpus": (*_limit("the choice of CPUs"), _cpuset),
    "set_limit pids.max": (*_limit("the number of processes"), _by_figure("processes")),
    "rlimit processes": (*_limit("the number of processes"), _rlimit),
    "rlimit": (_rlimit, _rlimit, _rlimit),
    "set_limit devices": (*_limit("the use of devices"), _unknown),
    "device_filter": (*_limit("the use of devices"), _unknown),
    "clone": (_namespaces, _namespaces, _namespaces),
    "unshare inside": (_namespaces, _namespaces, _namespaces),
    "unshare mount": _neutral("how dolium-init gets its mounts"),
    "unshare user": _neutral("how dolium-init gets its mounts"),
    "map_ids": ((TIGHTER, "root inside is nobody outside"), (WEAKER, "root inside is root outside"),
                _is((NEUTRAL, "another range of ids outside"))),
    "map_ids self": _neutral("root inside is you"),
    "enter_net": ((WEAKER, "it shares somebody's network"), (TIGHTER, "it shares nobody's network"),
                  _is((NEUTRAL, "another network"))),
    "make_net": _neutral("a network with an egress policy"),
    "nft": _wall("it reaches only who is listed", "it may reach others than those that were listed"),
    "resolver": _wall("only listed names are found", "other names may be found"),
    "netlink cable": ((WEAKER, "it reaches this host, its neighbours and what is beyond"),
                      (TIGHTER, "it reaches nobody by a cable"), _is((NEUTRAL, "another cable"))),
    "open_tree image": _neutral("another image"),
    "open_tree bind": (_bind, _bind, _bind),
    "move_mount kernel": (_FOLLOWS, _FOLLOWS, _bound_devices),
    "mknod asked": (_device, _device, _device),
    "new_mount mounted": _neutral("files in memory, its own"),
    "new_mount": _neutral("a file system of its own"),
    "new_mount overlay": _neutral("where it writes"),
    "move_mount": _neutral("a mount at another place"),
    "mask": (_paths("hidden"), _paths("hidden"), _paths("hidden")),
    "read_only": (_paths("read-only"), _paths("read-only"), _paths("read-only")),
    "set_attr root": _wall("nothing can be written in its root", "its root can be written, though never the image"),
    "set_attr bind": _wall("a part of the host is restricted", "a part of the host is not restricted any more"),
    "set_attr": _wall("a mount is restricted", "a mount is not restricted any more"),
    "bounds": (_caps, _caps, _caps),
    "caps": (_caps, _caps, _caps),
    "become": ((NEUTRAL, "who it runs as"), (NEUTRAL, "who it runs as"), _user),
    "no_new_privs": _wall("setuid programs give nothing", "setuid programs give rights again"),
    "seccomp": ((TIGHTER, "system calls are filtered"), (WEAKER, "every system call of the kernel can be made"), _filter),
    "hostname": _neutral("its name"),
    "write sysctl": _neutral("a setting of its own namespaces only"),
    "write oom_score_adj": _neutral("who dies first for want of memory"),
    "reset": _neutral("what it has of the caller"),
    "umask": _neutral("who may use its new files"),
    "chdir": _neutral("where the program starts"),
    "reap": _neutral("who is process 1"),
    "ptmx": _neutral("whether it has a terminal of its own, and of which size"),
    "idle": _neutral("whether it has a program of its own"),
    "wait_command": _neutral("when its command comes"),
    "exec": _neutral("another program, or other words or variables"),
    "keyring": _wall("the caller's keys are out of reach", "it can use the caller's keys"),
    "undumpable": _wall("the helper cannot be traced", "the helper can be traced from inside"),
    "die_with": _wall("it dies with dolium-keep", "it can outlive dolium-keep"),
    "pivot_root": _wall("the host's files are out of reach", "the host's files can be reached"),
    "drop_old": _wall("the host's files are out of reach", "the host's files can be reached"),
}  # fmt: skip

assert {*NUMBERS} == {*PRICES}
