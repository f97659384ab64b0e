"""Steps for the file system of an engine's config: its rootfs as it is, its mounts with all their options, its devices."""

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE, Step, part, strings
from dolium.errors import SpecError, Unsupported
from dolium.plan import cgroupmount, devices, slots
from dolium.plan.attributes import NODEV, NOEXEC, NOSUID, PROPAGATION, RDONLY, Options
from dolium.plan.mounts import KERNEL_PATHS, LIKE_SOURCE, PLAIN_FILE, place
from dolium.plan.onecall import Slot, call

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

EPERM, EACCES, EEXIST, ENOTDIR, EINVAL, EROFS, ELOOP = 1, 13, 17, 20, 22, 30, 40
BELOW_PROC = ("cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps", "sys/crypto/fips_enabled",
              "sys/kernel/ns_last_pid", "uptime")  # fmt: skip
"""The files of /proc that may be replaced, as by lxcfs; runc and crun have this list (CVE-2019-16884)."""
OF_CRUN = ("idmap", "ridmap", "copy-symlink", "src-nofollow", "dest-nofollow")
"""Options that only crun has, as `idmap=uids=...`; passed over they would show other files than are meant, or to others."""
MOST = 180
"""Mounts whose descriptors have slots."""


def rootfs(spec: "dict[str, Any]") -> "list[Step]":
    """Outside: the rootfs, a copy of the mounts at that path."""
    path = spec["root"]["path"]
    steps = [
        Step("open_tree", OUTSIDE, "root.path", path=path, out=slots.ROOT, what=f"open_tree {path}", note="the rootfs, as it is")
    ]
    if "shared" in (spec["linux"].get("rootfsPropagation") or ""):  # pivot_root(2) takes none that is; it becomes so after that
        steps.append(part(Step("set_attr", OUTSIDE, "linux.rootfsPropagation", fd=slots.ROOT, n2=PROPAGATION["private"],
                               what="make it private", note="as pivot_root(2) wants it")))  # fmt: skip
    return steps


def binds(spec: "dict[str, Any]") -> "dict[int, int]":
    """Slots of the bind mounts, by their index among the mounts."""
    found: dict[int, int] = {}
    for index, mount in enumerate(spec["mounts"]):
        if mount["type"] == "bind":
            found[index] = slots.FIRST_MOUNT + len(found)
    return found


def sources(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Outside: what is bound is opened with the caller's rights and given its attributes; inside gets it by descriptor."""
    steps: list[Step] = []
    for index, slot in binds(spec).items():
        mount, why = spec["mounts"][index], f"mounts[{index}]"
        options = _options(mount, why)
        steps.append(
            Step(
                "open_tree",
                OUTSIDE,
                why,
                path=mount["source"],
                n1=int(not mount["recursive"]),
                out=slot,
                what=f"open_tree {mount['source']}",
                note="with all below it" if mount["recursive"] else "without what is below",
            )
        )
        if options.idmap or mount.get("uidMappings") or mount.get("gidMappings"):
            steps += _idmap(spec, mount, why, slot, options.idmap == "ridmap")
        for below in (False, True):
            bits = options.attributes(below)
            if bits:
                steps.append(part(Step("set_attr", OUTSIDE, why, fd=slot, n1=bits, n3=int(below), what="its attributes",
                                       note="with all below it" if below else "its own")))  # fmt: skip
    for why, path, slot in _lent_nodes(spec, facts):
        steps.append(Step("open_tree", OUTSIDE, why, path=path, n1=1, out=slot, what=f"open_tree {path}",
                          note="may not be made without root"))  # fmt: skip
    return steps


def _options(mount: "dict[str, Any]", why: str) -> Options:
    options = Options(mount["options"])
    if mount["type"] in ("bind", "remount"):
        for each in options.data:
            if each.partition("=")[0] in OF_CRUN:
                raise Unsupported(f"{why}.options", f"`{each}` is an option of crun's alone",
                                  hint="a mount's uidMappings and gidMappings say the same" if "idmap" in each else "")  # fmt: skip
            if mount["type"] == "remount":  # on a bind they are passed over, as runc 1.1 and crun have it
                raise SpecError(f"{why}.options", f"`{each}` is of a file system, which a {mount['type']} mount does not make")
    if options.copy_up and mount["type"] != "tmpfs":
        raise SpecError(f"{why}.options", "`tmpcopyup` is for a tmpfs")
    if options.idmap and mount["type"] != "bind":
        raise Unsupported(f"{why}.options", "ids are mapped of bind mounts only")
    return options


def _idmap(spec: "dict[str, Any]", mount: "dict[str, Any]", why: str, slot: int, below: bool) -> "list[Step]":
    """Through the mapping of the mount, or that of the container."""
    own = mount.get("uidMappings"), mount.get("gidMappings")
    users = slots.USERS
    if any(own):
        if not all(own):
            raise SpecError(f"{why}.{'gidMappings' if own[0] else 'uidMappings'}", "is required where the other is")
        users = _mappings(spec).index(_mapping(mount)) + slots.FIRST_USERS
    elif not any(each["type"] == "user" for each in spec["linux"]["namespaces"]):
        raise SpecError(f"{why}.uidMappings", "is required: the container has no user namespace to take them from")
    return [part(Step("set_attr", OUTSIDE, why, fd=slot, fd2=users, n3=int(below), what="idmap it", note="owners are mapped"))]


def _mapping(mount: "dict[str, Any]") -> "tuple[str, str]":
    """As /proc/PID/uid_map and gid_map have it."""
    uids, gids = ("".join(f"{each['containerID']} {each['hostID']} {each['size']}\n" for each in mount.get(key) or ())
                  for key in ("uidMappings", "gidMappings"))  # fmt: skip
    return uids, gids


def _mappings(spec: "dict[str, Any]") -> "list[tuple[str, str]]":
    """The different ones of all mounts."""
    found = sorted({_mapping(mount) for mount in spec["mounts"]} - {("", "")})
    if len(found) > slots.FIRST_JOINED - slots.FIRST_USERS:
        raise SpecError("mounts", f"more than {slots.FIRST_JOINED - slots.FIRST_USERS} different mappings of ids")
    return found


def users(spec: "dict[str, Any]") -> "list[Step]":
    """On the host: a user namespace for each mapping of ids that a mount has of its own."""
    return [
        Step(
            "make_users",
            HOST,
            "mounts",
            path=uids,
            path2=gids,
            out=slots.FIRST_USERS + number,
            what="make a mapping of users",
            note="a user namespace, for a mount's ids",
        )
        for number, (uids, gids) in enumerate(_mappings(spec))
        if uids and gids
    ]


def hand_over(spec: "dict[str, Any]", facts: "Facts") -> Step:
    """The meeting at which inside gets what outside has prepared."""
    numbers = [slots.DEV, slots.ROOT, *binds(spec).values(), *(slot for _, _, slot in _lent_nodes(spec, facts)),
               *(slot for slot, *_ in cgroupmount.binds(spec, facts))]  # fmt: skip
    if len(numbers) > MOST:
        raise SpecError("mounts", f"more than {MOST} that take a descriptor")
    return Step("sync", BOTH, "mounts", data=bytes(numbers), what=f"meet: {len(numbers)} mounts change hands",
                note="inside never opens a host path")  # fmt: skip


def _kernel_place(path: str, why: str, mount: "dict[str, Any]") -> bool:
    """Whether the place of a mount may be no symlink.  Raises SpecError for what would stand in for the kernel's own files."""
    if path == "/":
        raise SpecError(f"{why}.destination", "is /, which is the rootfs")
    if path == "/proc" and mount["type"] not in ("proc", "remount") and mount["source"] != "/proc":
        raise SpecError(f"{why}.type", "only proc can be mounted on /proc")
    if path.startswith("/proc/") and path[6:] not in BELOW_PROC and mount["type"] != "remount" \
            and not (mount["type"] == "bind" and mount["source"].startswith("/proc/")):  # fmt: skip
        raise SpecError(f"{why}.destination", f"nothing may be mounted on {path}, which is the kernel's")
    return path in KERNEL_PATHS


def all_of(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Inside: every mount, in its order."""
    steps: list[Step] = []
    slots_of = binds(spec)
    own_dev = dev_index(spec)
    for index, mount in enumerate(spec["mounts"]):
        why, path, kind = f"mounts[{index}]", mount["destination"], mount["type"]
        kernel_path = _kernel_place(path, why, mount)
        options = _options(mount, why)
        if kind == "remount":
            steps += _remount(mount, why, options)
            continue
        slot = slots_of.get(index, slots.MOUNT)
        if index in slots_of:
            steps += _renewed(why, slot, mount["source"])
            steps.append(part(place(why, slot, path, f"bind {mount['source']}", f"on {path}", kind=LIKE_SOURCE,
                                    kernel_path=kernel_path)))  # fmt: skip
        elif index == own_dev:
            steps += _renewed(why, slots.DEV, path)
            steps.append(part(place(why, slots.DEV, path, "mount the tmpfs on /dev", "with its devices", kernel_path=True)))
            slot = slots.DEV
        elif kind == "cgroup":
            steps += cgroupmount.mount(why, mount, options, spec, facts)
        else:
            options.data += label(spec, kind, facts)
            steps += _fresh(why, mount, options, facts, kernel_path)
        for number, below in options.propagation:
            steps.append(part(Step("set_attr", INSIDE, why, fd=slot, n2=number, n3=int(below), what="its propagation",
                                   note=next(name for name, bit in PROPAGATION.items() if bit == number))))  # fmt: skip
    cwd = spec["process"]["cwd"]
    if cwd != "/":  # as runc has it
        steps.append(Step("mkdir", INSIDE, "process.cwd", fd=slots.ROOT, data=strings(cwd, "755", why="process.cwd"), n2=-1,
                          accept=(EROFS, ENOTDIR, ELOOP, EACCES), what=f"mkdir {cwd}", note="where it is not there"))  # fmt: skip
    return steps + _nodes(spec, facts)


def _renewed(why: str, slot: int, name: str) -> "list[Step]":
    """A copy, made now, of what outside has opened: since Linux 6.8 mountinfo shows mounts by their age, and their order is to be
    that of the config.  The kernel copies only what is attached in this mount namespace, so the first one is, to what goes with the
    old /: on a directory there, or a file."""
    on_file = Step("move_mount", INSIDE, why, fd=slot, path="/proc/version", what=f"attach {name} to the old /")
    return [Step("move_mount", INSIDE, why, fd=slot, path="/dev", on=EINVAL, other=on_file, what=on_file.what,
                 note="only what is attached can be copied"),
            part(Step("open_tree", INSIDE, why, fd=slot, out=slot, what=f"copy {name}",
                      note="mounts are listed by their age"))]  # fmt: skip


def label(spec: "dict[str, Any]", kind: str, facts: "Facts") -> "list[str]":
    """linux.mountLabel: what SELinux is to take the files of a new file system for, where it is at work.  Of the kernel's own
    they are labelled by its policy; the queues of an IPC namespace are mounted in the kernel already, without."""
    wanted = spec["linux"].get("mountLabel")
    if not wanted or "selinux" not in facts.labels or kind in ("proc", "sysfs", "mqueue"):
        return []
    return [f"context={wanted}"]


def _fresh(why: str, mount: "dict[str, Any]", options: Options, facts: "Facts", kernel_path: bool) -> "list[Step]":
    """A file system that is made for the container."""
    path, kind = mount["destination"], mount["type"]
    data = options.data
    if kind == "devpts" and facts.one_id:
        data = [each for each in data if not each.startswith("gid=")]  # only one group exists
    if any(each.startswith("source=") for each in data):
        raise SpecError(f"{why}.options", "has a `source=`, which has a field of its own")
    if options.set_below or options.clear_below:
        options.set |= options.set_below
    steps = [Step("new_mount", INSIDE, why, path=kind, path2=mount["source"], data=strings(*data, why=why), n1=options.set,
                  out=slots.MOUNT, what=f"{kind} for {path}", note="a file system of its own")]  # fmt: skip
    if options.copy_up:
        steps.append(part(Step("copy_up", INSIDE, why, fd=slots.MOUNT, fd2=slots.ROOT, path=path, what=f"copy what is in {path}",
                               note="tmpcopyup")))  # fmt: skip
    return [*steps, part(place(why, slots.MOUNT, path, f"mount {kind} on {path}", "as it is", kernel_path=kernel_path))]


def _remount(mount: "dict[str, Any]", why: str, options: Options) -> "list[Step]":
    """Other attributes for what is mounted there."""
    path = mount["destination"]
    steps = [Step("open", INSIDE, why, fd=slots.ROOT, path=path, n1=0o10000000, out=slots.MOUNT, what=f"open {path}",
                  note="to change what is mounted there")]  # fmt: skip
    for below in (False, True):
        if bits := options.attributes(below):
            steps.append(part(Step("set_attr", INSIDE, why, fd=slots.MOUNT, n1=bits, n3=int(below), what="its attributes",
                                   note="with all below it" if below else "its own")))  # fmt: skip
    for number, below in options.propagation:
        steps.append(
            part(Step("set_attr", INSIDE, why, fd=slots.MOUNT, n2=number, n3=int(below), what="its propagation", note="as asked"))
        )
    return steps


def dev_index(spec: "dict[str, Any]") -> int:
    """Which mount is the tmpfs on /dev that we fill; -1 for none."""
    return next((index for index, mount in enumerate(spec["mounts"])
                 if mount["destination"] == "/dev" and mount["type"] == "tmpfs"), -1)  # fmt: skip


def dev_options(spec: "dict[str, Any]", owner: int, facts: "Facts") -> "tuple[list[str], int]":
    """What that tmpfs is made with: its options and attributes."""
    index = dev_index(spec)
    if index < 0:
        return ["mode=755", "size=64k", f"uid={owner}", f"gid={owner}"], NOSUID | NOEXEC
    options = _options(spec["mounts"][index], f"mounts[{index}]")
    given = [each for each in options.data if not each.startswith(("uid=", "gid="))]
    return [*given, f"uid={owner}", f"gid={owner}", *label(spec, "tmpfs", facts)], options.set & ~(NODEV | RDONLY)


def seal_dev(spec: "dict[str, Any]") -> "list[Step]":
    """A /dev that is to be read-only becomes so when it has all its nodes."""
    index = dev_index(spec)
    if index < 0 or not Options(spec["mounts"][index]["options"]).set & RDONLY:
        return []
    return [Step("set_attr", INSIDE, f"mounts[{index}]", fd=slots.DEV, n1=RDONLY, what="make /dev read-only", note="as asked")]


def _has_dev(spec: "dict[str, Any]") -> bool:
    """Whether the container's /dev is another's, bound: then it has its nodes."""
    return any(mount["destination"] == "/dev" and mount["type"] == "bind" for mount in spec["mounts"])


def _lent_nodes(spec: "dict[str, Any]", facts: "Facts") -> "list[tuple[str, str, int]]":
    """(why, node of the host, slot) of what is bound because it cannot be made."""
    if not facts.rootless or _has_dev(spec):
        return []
    first = slots.FIRST_MOUNT + len(binds(spec))
    found = [
        ("linux.devices", f"/dev/{name}", slots.NULL if name == "null" else first + number)
        for number, (name, _, _) in enumerate(devices.NODES)
    ]
    if spec["linux"]["devices"]:
        raise Unsupported("linux.devices", "only root can make device nodes")
    return found


def keep_null(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Inside: where the tmpfs with the nodes is not /dev, it is attached to the old /.  What masks files is copied out of it, and
    before 6.15 the kernel copies only what is attached in this mount namespace (fs/namespace.c, __do_loopback)."""
    if facts.rootless or dev_index(spec) >= 0:
        return []
    return [Step("move_mount", INSIDE, "linux.maskedPaths", fd=slots.DEV, path="/dev", what="attach the nodes to the old /",
                 note="masks are copied out of it")]  # fmt: skip


def _nodes(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Inside: the nodes that are not in a /dev of ours: bound where they cannot be made, and those elsewhere in the rootfs."""
    steps: list[Step] = []
    for why, path, slot in _lent_nodes(spec, facts):
        steps.append(place(why, slot, path, f"bind {path}", "the host's", kind=PLAIN_FILE))
    if dev_index(spec) < 0 and not _has_dev(spec):
        if not facts.rootless:
            for name, major, minor in devices.NODES:
                steps.append(_make(spec, "linux.devices", f"/dev/{name}", devices.S_IFCHR | 0o666, major, minor, 0, 0, (EEXIST,)))
        for name, target in devices.LINKS:
            steps.append(Step("symlink", INSIDE, "linux.devices", fd=slots.ROOT, n2=-1, data=strings(f"/dev/{name}", target),
                              accept=(EEXIST,), what=f"link /dev/{name}", note="where there is none"))  # fmt: skip
    for index, device in enumerate(spec["linux"]["devices"]):
        if in_dev(spec, device["path"]) or _has_dev(spec) and device["path"].startswith("/dev/"):
            continue
        kind = {"b": devices.S_IFBLK, "p": devices.S_IFIFO}.get(device["type"], devices.S_IFCHR)
        steps.append(
            _make(
                spec,
                f"linux.devices[{index}]",
                device["path"],
                kind | device["fileMode"] & 0o7777,
                device.get("major", 0),
                device.get("minor", 0),
                device.get("uid", 0),
                device.get("gid", 0),
            )
        )
    for step in steps[1:]:
        part(step)
    return steps + seal_dev(spec)


def in_dev(spec: "dict[str, Any]", path: str) -> bool:
    """Whether a node has its place in the /dev that outside fills, and no other mount is to cover it there, as that on /dev/shm."""
    return dev_index(spec) >= 0 and path.startswith("/dev/") and not any(
        path.startswith(f"{mount['destination']}/") for mount in spec["mounts"] if mount["destination"].startswith("/dev/"))


def _make(spec: "dict[str, Any]", why: str, path: str, mode: int, major: int, minor: int, uid: int, gid: int,
          accept: "tuple[int, ...]" = ()) -> Step:  # fmt: skip
    if any(each["type"] == "user" for each in spec["linux"]["namespaces"]):
        raise Unsupported(why, f"{path}: in a user namespace nodes can be made only in a /dev of the container's own",
                          hint="mount a tmpfs on /dev")  # fmt: skip
    return Step(
        "mknod",
        INSIDE,
        why,
        fd=slots.ROOT,
        n1=mode,
        n2=uid,
        n3=gid + 1,
        accept=accept,
        what=f"mknod {path}",
        note="in the rootfs",
        data=strings(path, str(devices.number(major, minor)), why=why),
    )


def own_proc(spec: "dict[str, Any]") -> "list[Step]":
    """Inside: a /proc that nobody else has, for sysctls; one in the container may have things mounted over it (CVE-2025-52881)."""
    if not spec["linux"]["sysctl"]:
        return []
    return [
        Step(
            "new_mount",
            INSIDE,
            "linux.sysctl",
            path="proc",
            n1=NOSUID | NODEV | NOEXEC,
            out=slots.PROC,
            what="a proc of our own",
            note="to write sysctls in",
        )
    ]


def pivot(spec: "dict[str, Any]") -> "list[Step]":
    """Inside, without pivot_root(2) (--no-pivot, where the host's / is the initramfs): chroot(2) into the rootfs, which is attached
    on the old / by now (mounts.root), so that no `..` leads below it."""
    return [call("root.path", "fchdir", (Slot(slots.ROOT),), what="fchdir to the rootfs", note="--no-pivot"),
            part(call("root.path", "chroot", (b".\0",), what="chroot", note="the host's files stay below"))]  # fmt: skip


def propagation(spec: "dict[str, Any]") -> "list[Step]":
    """Inside: how the rootfs, by now `/`, passes mounts on."""
    kind = spec["linux"].get("rootfsPropagation")
    if not kind:
        return []
    return [
        Step(
            "set_attr",
            INSIDE,
            "linux.rootfsPropagation",
            path="/",
            n2=PROPAGATION[kind.removeprefix("r")],
            n3=int(kind[0] == "r"),
            what=f"make / {kind}",
            note="how mounts are passed on",
        )
    ]
