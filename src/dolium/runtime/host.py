"""What this host is and what this caller may do on it: collected once per process, without changing anything."""

import os
from marshal import loads

from dolium.core import PROGRAMS
from dolium.errors import Unsupported
from dolium.plan.facts import Facts, Hierarchy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

CAP_SYS_ADMIN = 21
CONTROLLERS = ("memory", "cpu", "cpuset", "pids")
V1 = ("blkio", "cpu", "cpuacct", "cpuset", "devices", "freezer", "hugetlb", "memory", "misc", "net_cls", "net_prio", "perf_event",
      "pids", "rdma")  # fmt: skip
"""Every controller that a v1 hierarchy can have, cgroups(7)."""
_facts: "dict[int, Facts]" = {}


def facts() -> Facts:
    """The facts; they are collected once for each user id that this process has had."""
    uid = os.geteuid()
    found = _facts.get(uid)
    if found is None:
        found = _facts[uid] = _collect(uid)
    return found


def _collect(uid: int) -> Facts:
    name = os.uname()
    status = read("/proc/self/status")
    seen = mounts()
    if not status or not seen:
        raise Unsupported("containers", "/proc is not mounted, or not that of this process", hint="mount -t proc proc /proc")
    ids = read("/proc/self/uid_map").split()
    in_first = ids[-1:] == ["4294967295"]  # root of another user namespace makes no nodes
    is_root = uid == 0 and bool(capabilities(status, "CapEff") >> CAP_SYS_ADMIN & 1)
    rootless = not in_first or not is_root
    found = Facts(uid=uid, gid=os.getegid(), kernel=_version(name.release), machine=name.machine,
                  capabilities=capabilities(status, "CapBnd"), rootless=rootless,
                  exempt=uid == 0 and ids[:2] == ["0", "0"])  # fmt: skip
    found.is_root = is_root
    found.memory_nodes = read("/sys/devices/system/node/online").strip() or "0"
    found.throttles = _throttles()
    found.filters = _filters()
    _find_cgroups(found, seen)
    found.labels = tuple(each for each in ("apparmor", "selinux") if _labels(each))
    return found


def _labels(module: str) -> bool:
    """Whether that security module is at work."""
    if module == "apparmor":
        return read("/sys/module/apparmor/parameters/enabled").strip() == "Y"
    return os.path.exists("/sys/fs/selinux/enforce")


def read(path: str) -> str:
    """The text of a file of the kernel's; empty where there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _filters() -> "dict[bytes, bytes]":
    """What the build has compiled; without it filters are compiled when they are needed."""
    try:
        with open(f"{PROGRAMS}/filters", "rb") as file:
            filters: dict[bytes, bytes] = loads(file.read())
            return filters
    except (OSError, ValueError, EOFError, TypeError):
        return {}


def _version(release: str) -> "tuple[int, int]":
    major, _, rest = release.partition(".")
    minor = "".join(each for each in rest.partition(".")[0] if each.isdigit())
    return int(major), int(minor or 0)


def capabilities(status: str, name: str) -> int:
    """A set as a number; `status` is the text of /proc/PID/status, `name` the set's in it."""
    for line in status.splitlines():
        if line.startswith(name):
            return int(line.split()[1], 16)
    return 0


def _throttles() -> "tuple[str, ...]":
    """Files that tell of other tenants' load by the heat they make (moby's list of masked paths)."""
    base = "/sys/devices/system/cpu"
    if not os.path.isdir(f"{base}/cpu0/thermal_throttle"):
        return ()
    found = [f"{base}/{each}/thermal_throttle" for each in os.listdir(base) if each[3:].isdigit() and each[:3] == "cpu"]
    return tuple(sorted(each for each in found if os.path.isdir(each)))


class Mount:
    """A line of /proc/self/mountinfo, proc_pid_mountinfo(5)."""

    __slots__ = ("number", "root", "point", "options", "kind", "super_options")

    def __init__(self, line: str) -> None:
        fields = line.split()
        dash = fields.index("-", 6)
        self.number = fields[0]
        self.root = _unescape(fields[3])
        self.point = _unescape(fields[4])
        self.options = fields[5].split(",")
        self.kind = fields[dash + 1]
        self.super_options = fields[dash + 3].split(",")


def _unescape(text: str) -> str:
    for code, character in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, character)
    return text


def mounts() -> "list[Mount]":
    """All of this process's mount namespace."""
    return [Mount(line) for line in read("/proc/self/mountinfo").splitlines()]


IDMAPPABLE = {"ext2": (5, 12), "ext3": (5, 12), "ext4": (5, 12), "xfs": (5, 12), "vfat": (5, 12), "btrfs": (5, 15),
              "ntfs3": (5, 15), "f2fs": (5, 18), "erofs": (5, 19), "squashfs": (6, 2), "tmpfs": (6, 3), "ceph": (6, 7),
              "bcachefs": (6, 7), "hugetlbfs": (6, 9)}  # fmt: skip
"""File systems whose mounts can have their ids mapped, and since which Linux, mount_setattr(2)."""
OVERLAY_OF_IDMAPPED = (5, 19)


def not_idmappable(paths: "Iterable[str]", found: Facts) -> str:
    """Why the ids of one of these paths cannot be mapped on this kernel; empty where all can."""
    if found.kernel < OVERLAY_OF_IDMAPPED:
        return f"Linux {found.kernel[0]}.{found.kernel[1]} cannot map the ids of an image, 5.19 can"
    for path in paths:
        device = os.stat(path).st_dev
        known = _kinds.get(device)
        if known is None:
            known = _kinds[device] = kind(path)
        if found.kernel < IDMAPPABLE.get(known, (99, 0)):
            return f"the ids of `{path}` cannot be mapped: it is on {known}"
    return ""


_kinds: "dict[int, str]" = {}
"""File system types by device.  Should a device number be used again for another type, the kernel says so at the step."""


def kind(path: str) -> str:
    """The type of the file system that a path is on, found by the number of its mount (proc_pid_fdinfo(5))."""
    fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        number = next(line.split()[1] for line in read(f"/proc/self/fdinfo/{fd}").splitlines() if line[:6] == "mnt_id")
    finally:
        os.close(fd)
    return next((each.kind for each in mounts() if each.number == number), "unknown")


def _find_cgroups(found: Facts, mounts: "list[Mount]") -> None:
    """Fill in which controller is where, and why others are not."""
    own = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in read("/proc/self/cgroup").splitlines()}
    every = found.hierarchies
    for mount in mounts:
        writable = "rw" in mount.options and "rw" in mount.super_options
        if mount.kind == "cgroup":
            for option in mount.super_options:
                if option in V1 or option.startswith("name="):
                    every.setdefault(option, Hierarchy(1, mount.point))
        elif mount.kind == "cgroup2" and "unified" not in every:
            every["unified"] = Hierarchy(2, mount.point)
            for controller in read(f"{mount.point}/cgroup.controllers").split():
                every.setdefault(controller, every["unified"])
        if mount.kind == "cgroup" and not found.rootless:
            for controller in (*CONTROLLERS, "devices"):
                if controller in mount.super_options and writable and controller not in found.controllers:
                    found.controllers[controller] = Hierarchy(1, f"{mount.point}/dolium")
        elif mount.kind == "cgroup2" and "unified" not in found.controllers:
            found.cgroup2_mounted = mount.point == "/sys/fs/cgroup"
            base, why = _usable(mount.point, own.get("", "/"), found) if writable else ("", _read_only(mount))
            if not base:
                found.no_controllers = why
                continue
            found.controllers["unified"] = Hierarchy(2, f"{base}/dolium")
            for controller in read(f"{base}/cgroup.controllers").split():
                if controller in CONTROLLERS:
                    found.controllers[controller] = Hierarchy(2, f"{base}/dolium")
    owner = "it belongs to root on this host"
    if found.rootless:
        found.no_devices = (owner, "run it as root of the host" if found.uid else _delegated(found))
    elif "devices" not in found.controllers and "unified" in found.controllers:
        found.controllers["devices"] = found.controllers["unified"]
    elif "devices" not in found.controllers:
        found.no_devices = ("neither cgroup v1's `devices` nor cgroup v2 can be used", found.no_controllers[1])
    if not found.no_controllers[0]:
        if found.rootless:
            found.no_controllers = (owner, _delegated(found))
        elif closed := [each.point for each in mounts if each.kind == "cgroup" and "ro" in (*each.options, *each.super_options)]:
            found.no_controllers = (f"cgroup v1 is mounted read-only, at {closed[0]} for one", "")
        else:
            found.no_controllers = ("no cgroup hierarchy of this host has it (see /proc/cgroups)", "")


def _read_only(mount: Mount) -> "tuple[str, str]":
    from dolium.plan import mends

    return f"cgroup v2 is mounted read-only at {mount.point}", mends.writable(mount.point)


def _delegated(found: Facts) -> str:
    """Who is not root of the host, but could have groups: how."""
    if not found.uid:
        return f"you are {found.lesser}: what started this system, such as an outer container, can give it more"
    return "run it as root, or in a cgroup of your own: systemd-run --user --scope -p Delegate=yes -- dolium ..."


def _usable(mount: str, path: str, found: Facts) -> "tuple[str, tuple[str, str]]":
    """The nearest cgroup v2 directory, from this process's own upwards, in which this caller may make groups that have
    controllers: writable, and without processes of its own (cgroups(7), "no internal processes")."""
    if not found.rootless and not os.path.exists(f"{mount}/cgroup.type"):
        return mount, ("", "")  # the true root, which may hold processes
    own = os.path.normpath(f"{mount}/{path}")
    if not own.startswith(mount):
        own = mount
    busy, count = "", 0
    while own.startswith(mount):
        names = (f"{own}/cgroup.procs", f"{own}/cgroup.subtree_control", own)
        if not all(os.access(each, os.W_OK) for each in names):
            break
        members = read(f"{own}/cgroup.procs").split()
        if not members or members == [str(os.getpid())]:
            return own, ("", "")
        busy, count = own, len(members)
        own = os.path.dirname(own)
    if not busy:
        return "", ("this cgroup is not yours to divide", _delegated(found))
    return "", (f"{busy} is yours, but holds {count} processes besides, so that its controllers cannot be passed on",
                _delegated(found) if found.rootless else _move(busy))  # fmt: skip


def _move(group: str) -> str:
    from dolium.plan import mends

    return mends.empty_group(group)
