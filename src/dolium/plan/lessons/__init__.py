"""What there is to learn of each operation: one lesson for each, and for one that serves several ends one for each end.  Pure.

The texts are in the chapters beside this file, in a form that reads as prose:

    OPERATION [END]
      what      what the step does
      why       why a container needs it
      here      why it stands here in the order
      without   what an attacker gains, or what breaks, where it is left out
      man       pages of the manual
      see       files that show it; PID is the container's first process, as the host counts it
"""

from dolium.plan import slots
from dolium.plan.lessons import engines, files, limits, mounts, namespaces, network, rights, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dolium.core.wire import Step

FIELDS = ("what", "why", "here", "without", "man", "see")
MS_SLAVE, MS_PRIVATE = 1 << 19, 1 << 18


class Lesson:
    """What is to be said of a step; each field is text without line breaks, `man` and `see` lists."""

    __slots__ = ("key", *FIELDS)

    def __init__(self, key: str, said: "dict[str, str]") -> None:
        self.key = key
        self.what = said.get("what", "")
        self.why = said.get("why", "")
        self.here = said.get("here", "")
        self.without = said.get("without", "")
        self.man = said.get("man", "").split()
        self.see = said.get("see", "").split()


def of(step: "Step") -> Lesson:
    """The lesson for that step; raises KeyError for an operation that nobody has written one for."""
    found = every()
    return found.get(f"{step.op} {_END[step.op](step)}" if step.op in _END else step.op) or found[step.op]


_every: "dict[str, Lesson]" = {}


def every() -> "dict[str, Lesson]":
    """All of them, by key."""
    if not _every:
        for chapter in (limits, namespaces, mounts, files, network, terminal, rights, engines):
            for lesson in _read(chapter.TEXT):
                assert lesson.key not in _every, lesson.key
                _every[lesson.key] = lesson
    return _every


def _read(text: str) -> "Iterator[Lesson]":
    key, field = "", ""
    said: dict[str, str] = {}
    for line in [*text.splitlines(), "-"]:
        if line[:1].strip():
            if key:
                yield Lesson(key, said)
            key, said = line.strip(), {}
        elif line.strip():
            word, _, rest = line.strip().partition(" ")
            if line[2:3].strip():
                field, line = word, rest
            said[field] = f"{said.get(field, '')} {line.strip()}".strip()


def _end_of_limit(step: "Step") -> str:
    name = step.path.rpartition("/")[2]
    return {"memory.limit_in_bytes": "memory.max", "memory.memsw.limit_in_bytes": "memory.swap.max", "cpu.cfs_quota_us": "cpu.max",
            "cpu.shares": "cpu.weight", "devices.allow": "devices", "devices.deny": "devices"}.get(name, name)  # fmt: skip


def _end_of_open(step: "Step") -> str:
    if step.why.startswith("linux.namespaces["):
        return "namespace"
    return "tasks" if step.path.endswith("/tasks") else step.path


def _end_of_open_tree(step: "Step") -> str:
    if step.why.startswith("mounts["):
        return "bind"
    if step.why == "process.terminal":
        return "console"
    if step.path.startswith("/dev/"):
        return "device"
    if step.why == "root.path" and step.note == "the rootfs, as it is":
        return "rootfs"
    return "image" if step.why == "root.path" else "file" if step.fd >= 0 else "kept"


def _end_of_set_attr(step: "Step") -> str:
    if step.n2 and (step.why.startswith("mounts[") or step.path == "/" and step.n2 not in (MS_SLAVE, MS_PRIVATE)):
        return "propagation"
    if step.n2:
        return "slave" if step.n2 == MS_SLAVE else "private"
    if step.why.startswith("mounts[") and step.actor == 1:
        return "bind"
    if step.fd2 >= 0:
        return "idmap"
    return "root" if step.why == "root.readonly" else ""


def _end_of_new_mount(step: "Step") -> str:
    if step.path != "tmpfs":
        return step.path
    if step.why.startswith("mounts[") and b"size=4k" in step.data:
        return "groups"
    if step.out == slots.LOWER:
        return "lower"
    return {"linux.devices": "dev", "linux.maskedPaths": "empty", "root": "store" if b"upper" not in step.data else ""}.get(
        step.why, "mounted")  # fmt: skip


def _end_of_move_mount(step: "Step") -> str:
    if step.why in ("linux.maskedPaths", "process.terminal"):
        return "empty" if step.why == "linux.maskedPaths" else "console"
    if step.fd2 < 0:
        return "rootfs" if step.why == "root.path" else "attach"
    if step.why == "root":
        return "file"
    if step.path in ("/proc", "/sys", "/dev"):
        return "kernel"
    return "device" if step.path.startswith("/dev/") and step.why.startswith("linux.devices") else "bind" if step.n1 == 3 else ""


def _end_of_sync(step: "Step") -> str:
    if step.why == "network":
        return "made" if step.n1 else "connected"
    return {"linux.uidMappings": "ids", "mounts": "mounts", "process.terminal": "terminal"}.get(step.why, "")


def _end_of_netlink(step: "Step") -> str:
    return "cable" if step.fd2 >= 0 else "address" if step.fd >= 0 else "wait"


_END: "dict[str, Callable[[Step], str]]" = {
    "set_limit": _end_of_limit, "open": _end_of_open, "open_tree": _end_of_open_tree, "set_attr": _end_of_set_attr,
    "new_mount": _end_of_new_mount, "move_mount": _end_of_move_mount, "sync": _end_of_sync, "netlink": _end_of_netlink,
    "open_ns": lambda step: step.path,
    "join": lambda step: "namespace" if step.why.startswith("linux.namespaces[") else "",
    "unshare": lambda step: "time" if step.n1 == 0x80
    else "inside" if step.actor != 1 else "user" if step.n1 & 0x10000000 else "mount",
    "map_ids": lambda step: "" if step.n1 else "self",
    "become": lambda step: "root" if step.why == "linux.uidMappings" else "",
    "write": lambda step: "oom_score_adj" if step.path.endswith("/oom_score_adj") else "sysctl",
    "mknod": lambda step: "asked" if step.why != "linux.devices" else "",
    "clone": lambda step: "join" if not step.n1 else "",
    "rlimit": lambda step: "processes" if step.why == "linux.resources.pids.limit" else "",
    "seccomp": lambda step: "asking" if step.fd >= 0 else "",
    "enter_net": lambda step: "back" if step.is_part else "",
}  # fmt: skip
