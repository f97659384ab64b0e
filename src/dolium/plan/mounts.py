"""Steps that make `/`: the rootfs, what is mounted in it, what is covered or read-only, and the pivot."""

from dolium.core.wire import BOTH, INSIDE, OUTSIDE, Step, one, part, strings
from dolium.errors import SpecError, Unsupported
from dolium.plan import devices, slots
from dolium.plan.attributes import NODEV, NOEXEC, NOSUID, RDONLY, split
from dolium.plan.namespaces import MS_PRIVATE, joined
from dolium.plan.onecall import Slot, call
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from dolium.plan.facts import Facts

O_NOFOLLOW, O_DIRECTORY, O_PATH = 0o400000, 0o200000, 0o10000000
LONGEST = 255
"""Bytes of a string that fsconfig(2) takes."""
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
DIRECTORY, PLAIN_FILE, LIKE_SOURCE = 1, 2, 3
EACCES, ENOTDIR, ELOOP, EOVERFLOW = 13, 20, 40, 75
KERNEL_PATHS = ("/proc", "/sys", "/dev")
LAYERS, VOLUMES = "root.layers", "image.volumes"
"""Keys of what only an image asks for."""


def place(why: str, mount: int, path: str, what: str, note: str, *, kernel_path: bool = False, kind: int = DIRECTORY) -> Step:
    """Attach a mount at a path of the rootfs.  The places of /proc, /sys and /dev may be no symlinks (CVE-2019-19921,
    CVE-2023-27561)."""
    flags = O_NOFOLLOW | O_DIRECTORY if kernel_path else 0
    return Step("move_mount", INSIDE, why, fd=mount, fd2=slots.ROOT, path=path, n1=kind, n2=flags, what=what, note=note)


def layers(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Outside: the rootfs of a container whose image must not change is an overlay.  What it writes goes to a tmpfs, or to
    a directory that is kept (`dolium.root.store`)."""
    if is_bundle(spec):
        from dolium.plan import bundle

        return bundle.rootfs(spec)
    if not is_overlay(spec):
        return []
    below, above = spec["dolium"]["root"].get("layers") or [], spec["dolium"]["root"].get("above") or []
    links = len(below) > 2 and facts.kernel < (6, 5)
    if links and facts.machine != "x86_64":  # of which alone plan.onecall knows the numbers of calls
        raise Unsupported(f"an image of {len(below)} layers", f"on {facts.machine} it takes Linux 6.5", hint="use a newer kernel")
    lower, attached, snapshots = _lower(spec, facts), _attached(slots.LOWER, facts), _snapshots(spec, facts)
    # All are attached at one place, each over the one before; the way from a short name to a layer leads over the root of its own.
    lower = [*lower, *snapshots] if links else [*lower, *attached, *snapshots]
    steps = [*lower, *_store(spec, facts), *(attached if links else [])]
    store = f"/proc/self/fd/{{{slots.STORE}}}"
    if links:
        steps += _by_short_names(spec["dolium"]["root"]["links"])
    options = [*_lowerdirs(below, above, links, facts), f"upperdir={store}/upper", f"workdir={store}/work"]
    if facts.rootless:
        options.append("userxattr")
    kept = spec["dolium"]["root"]["store"]
    count = max(len(below), 1) + len(above)
    what, note = ("kept files", "the image stays as it is") if kept else ("the tmpfs", "a private copy that costs nothing")
    why = LAYERS if below else "root"
    steps.append(Step("new_mount", OUTSIDE, why, path="overlay", data=strings(*options), n1=NODEV, out=slots.ROOT,
                      n2=facts.id_base if kept else 0, what=f"overlay of {_count(count)} + {what}", note=note))  # fmt: skip
    if links:
        steps.append(part(call("root", "chdir", (b"/\0",), actor=OUTSIDE, what="chdir /", note="and back")))
    return steps


def _lowerdirs(below: "list[str]", above: "list[str]", links: bool, facts: "Facts") -> "list[str]":
    """The image's directory, or those of its layers in it; snapshots come above them.  One option each, for what fsconfig(2) takes
    ends at 255 bytes; or all in one, where the kernel takes one only, the layers by `links` to them.

    Raises Unsupported for what does not fit into one.
    """
    where = f"/proc/self/fd/{{{slots.LOWER}}}"
    snapshots = [f"/proc/self/fd/{{{slots.SNAPSHOTS}}}/{each}" for each in reversed(above)]
    names = [*map(short_name, reversed(range(len(below))))] if links else [f"{where}/{each}" for each in reversed(below)] or [where]
    paths = snapshots + names
    if len(paths) > 1 and facts.kernel >= (6, 5):
        return [f"lowerdir+={each}" for each in paths]
    line = ":".join(paths)
    if len(line) > LONGEST:
        raise Unsupported(f"an image of {len(paths)} layers", f"Linux before 6.5 takes an overlay's in one line of {LONGEST} bytes",
                          hint="run it on a newer kernel, or make one layer of it: dolium export")  # fmt: skip
    return [f"lowerdir={line}"]


def _by_short_names(links: str) -> "list[Step]":
    """The directory in which the layers have names of a character or two: a working directory, for it is mounted nowhere."""
    return [part(Step("open", OUTSIDE, "root", fd=slots.LOWER, path=links, n1=O_PATH | O_DIRECTORY, out=slots.LINKS,
                      what="open short names", note="Linux before 6.5 takes one line")),
            part(call("root", "fchdir", (Slot(slots.LINKS),), actor=OUTSIDE, what="fchdir to them",
                      note="names in that line are relative"))]  # fmt: skip


def short_name(number: int) -> str:
    """Of a layer, counted from the lowest: 106 of them fit into one line."""
    most = len(ALPHABET)
    return ALPHABET[number] if number < most else ALPHABET[number // most - 1] + ALPHABET[number % most]


def _count(layers: int) -> str:
    return f"{layers} layers" if layers > 1 else "1 layer"


def is_overlay(spec: "dict[str, Any]") -> bool:
    """Whether the rootfs is an overlay; else it is a tmpfs that is filled."""
    kind: str = spec["dolium"]["root"]["kind"]
    return kind != "tmpfs"


def _idmap(slot: int, what: str, note: str) -> Step:
    return Step("set_attr", OUTSIDE, "linux.uidMappings", fd=slot, fd2=slots.USERS, n3=0, what=what, note=note)


def _lower(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The image; of a rootfs that is filled by us, what it is filled with."""
    own = spec["dolium"]
    if own["root"]["kind"] == "filled":
        options = strings("mode=755", f"uid={facts.id_base}", f"gid={facts.id_base}")
        steps = [Step("new_mount", OUTSIDE, "root", path="tmpfs", data=options, n1=NODEV, out=slots.LOWER,
                      what="tmpfs for all around /usr", note="what every program expects")]  # fmt: skip
        steps += [part(each) for each in _filling(own["files"], own, OUTSIDE, slots.LOWER, facts.id_base)]
        return steps
    path = spec["root"]["path"]
    steps = [Step("open_tree", OUTSIDE, "root.path", path=path, out=slots.LOWER, what=f"open_tree {path}",
                  note="the image, never written to")]  # fmt: skip
    if facts.id_base:
        steps.append(_idmap(slots.LOWER, "idmap it", "uid 0 on disk is root inside"))
    return steps


def _snapshots(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """What lies above the image, and under what is written."""
    path = spec["dolium"]["root"].get("above_path")
    if not path:
        return []
    steps = [Step("open_tree", OUTSIDE, "root.path", path=path, out=slots.SNAPSHOTS, what=f"open_tree {path}",
                  note="snapshots, above the image")]  # fmt: skip
    if facts.id_base:
        steps.append(_idmap(slots.SNAPSHOTS, "idmap it", "as the image"))
    steps += _attached(slots.SNAPSHOTS, facts)
    return steps


def _attached(slot: int, facts: "Facts") -> "list[Step]":
    """Before Linux 6.15 overlayfs takes no layer, and open_tree(2) copies nothing, that is attached nowhere.  Only after its
    ids are mapped, which takes a mount that is not attached yet, mount_setattr(2)."""
    if facts.kernel >= (6, 15):
        return []
    return [part(Step("move_mount", OUTSIDE, "root", fd=slot, path="/", what="attach it in our copy of /",
                      note="Linux before 6.15 wants it so"))]  # fmt: skip


def _store(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Where the overlay's upper and work directories are, and beside them our files for an image.  Those are bound over
    the image's: writing into an overlay would first copy the directory up, which takes longer and is refused to a plain
    user whose image belongs to others."""
    root, files = spec["dolium"]["root"], spec["dolium"]["bound"]
    kept, owner = root["store"], facts.id_base
    if kept:
        owner = 0  # the owner on disk, written before the ids are mapped
        steps = [Step("open_tree", OUTSIDE, "root", path=kept, out=slots.STORE, what="open_tree what it wrote before",
                      note="kept until `dolium rm`")]  # fmt: skip
    else:
        size = f"size={root['size']}" if root["size"] else "size=50%"
        steps = [Step("new_mount", OUTSIDE, "root", path="tmpfs", data=strings(size, "mode=755"), n1=NODEV, out=slots.STORE,
                      what="tmpfs for what it writes", note=_room(root["size"])),
                 part(Step("mkdir", OUTSIDE, "root", fd=slots.STORE, data=strings("upper", "755", "work", "755"), n2=owner,
                           what="directories in it", note="upper and work, of the overlay"))]  # fmt: skip
    pairs = [each for path, text in files for each in (path.removeprefix("/"), text)]
    steps.append(part(Step("write_file", OUTSIDE, "root", fd=slots.STORE, data=strings(*pairs), n1=0o644, n2=owner,
                           what=f"write {len(files)} files of our own", note=_names(path for path, _ in files))))  # fmt: skip
    if kept and facts.id_base:
        steps.append(part(_idmap(slots.STORE, "idmap it", "owners on disk never change")))
    steps += _attached(slots.STORE, facts)
    for slot, (path, _) in enumerate(files, slots.FIRST_FILE):
        steps.append(part(Step("open_tree", OUTSIDE, "root", fd=slots.STORE, path=path.removeprefix("/"), out=slot,
                               what=f"open_tree our {path}", note="to be bound over the image's")))  # fmt: skip
    return steps


def sources(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Outside: what is bound from the host is opened with the caller's rights, and its ids mapped; inside gets it by
    descriptor and never walks a path of the host's."""
    if is_bundle(spec):
        from dolium.plan import bundle, cgroupmount

        return bundle.sources(spec, facts) + cgroupmount.sources(spec, facts)
    steps: list[Step] = []
    ours: Step | None = None
    for slot, why, source, bits in _binds(spec, facts):
        steps.append(Step("open_tree", OUTSIDE, why, path=source, out=slot, what=f"open_tree {source}",
                          note="a copy of this part of the host"))  # fmt: skip
        if why not in spec["dolium"]["asked"]:
            if ours:
                part(steps[-1])
                ours.note = "and more of the host, read-only"
            ours = ours or steps[-1]
        users = slots.USERS if facts.id_base and not source.startswith("/dev/") and not source.startswith("/sys") else -1
        if bits or users >= 0:
            words = [word for word, given in (("idmap", users >= 0), ("ro", bits & RDONLY), ("nosuid", bits & NOSUID)) if given]
            steps.append(part(Step("set_attr", OUTSIDE, why, fd=slot, fd2=users, n1=bits, n3=1,
                                      what=f"make it {' '.join(words) or 'restricted'}", note="with all below it")))  # fmt: skip
    return steps


def hand_over(spec: "dict[str, Any]", facts: "Facts") -> Step:
    """The meeting at which inside gets the descriptors of what outside has prepared."""
    if is_bundle(spec):
        from dolium.plan import bundle

        return bundle.hand_over(spec, facts)
    numbers = [slots.DEV]
    if is_overlay(spec):
        numbers.append(slots.ROOT)
        numbers += range(slots.FIRST_FILE, slots.FIRST_FILE + len(spec["dolium"]["bound"]))
    numbers += [slot for slot, *_ in _binds(spec, facts)]
    if _is_lent_sys(spec, facts):
        numbers.append(slots.SYS)
    if len(numbers) > 200:
        raise SpecError("mounts", "more than 190 bind mounts")
    return Step("sync", BOTH, "mounts", data=bytes(numbers), what=f"meet: {len(numbers)} mounts change hands",
                note="inside never opens a host path")  # fmt: skip


def root(spec: "dict[str, Any]") -> "list[Step]":
    """Inside: the rootfs is attached on top of our copy of the host's /, below which it will go with the pivot."""
    mode = "mode=555" if is_bundle(spec) else "mode=000"  # empty, as engines know it, or closed
    steps = [Step("set_attr", INSIDE, "linux.rootfsPropagation", path="/", n2=MS_PRIVATE, n3=1, what="make / private",
                  note="no mount below can reach the host"),
             Step("new_mount", INSIDE, "linux.maskedPaths", path="tmpfs", data=strings(mode, "size=4k", "nr_inodes=2"),
                  n1=RDONLY | NOSUID | NODEV | NOEXEC, out=slots.EMPTY, what="an empty tmpfs, read-only",
                  note="to cover directories with"),
             Step("move_mount", INSIDE, "linux.maskedPaths", fd=slots.EMPTY, path="/dev", what="attach it on the old /dev",
                  note="it goes with the old /")]  # fmt: skip
    for step in steps[1:]:
        part(step)
    own = spec["dolium"]["root"]
    if own["kind"] == "tmpfs":
        size = own["size"]
        options = ["mode=755", f"size={size}" if size else "size=50%"]
        note = _room(size)
        steps.append(Step("new_mount", INSIDE, "root", path="tmpfs", data=strings(*options), n1=NODEV, out=slots.ROOT,
                          what="an empty tmpfs as rootfs", note=note))  # fmt: skip
    if "shared" in (spec["linux"].get("rootfsPropagation") or ""):  # our copy of the host's mounts is no slave of them then
        steps.append(Step("set_attr", INSIDE, "linux.rootfsPropagation", fd=slots.ROOT, n2=MS_PRIVATE, n3=1,
                          what="make the rootfs private", note="no mount in it reaches the host"))  # fmt: skip
    steps.append(Step("move_mount", INSIDE, "root.path", fd=slots.ROOT, path="/", what="attach the rootfs",
                      note="on the old /, until the pivot"))  # fmt: skip
    return steps


def contents(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Inside: the directories, links and files of ours in the rootfs, such as /etc/hosts.  Never through a symlink that
    leads out of it (CVE-2025-24965)."""
    own = spec["dolium"]
    if is_bundle(spec):
        return []
    if not is_overlay(spec):
        return _filling([*own["files"], *own["bound"]], own, INSIDE, slots.ROOT, -1)
    # A plain user cannot make a missing one in a directory of ids that its namespace has not got; then it stays so.
    foreign = (EOVERFLOW, EACCES) if facts.rootless else ()
    steps: list[Step] = []
    for path in own.get("places") or ():
        why = "process.cwd" if path == spec["process"]["cwd"] else VOLUMES
        steps.append(Step("mkdir", INSIDE, why, fd=slots.ROOT, data=strings(path, "755"), n2=-1,
                          accept=(*foreign, ENOTDIR, ELOOP), what=f"mkdir {path}", note="where it is not there"))  # fmt: skip
    bound = len(steps)
    for slot, (path, _) in enumerate(own["bound"], slots.FIRST_FILE):
        step = place("root", slot, path, f"bind our {path}", "over the image's", kind=PLAIN_FILE)
        step.accept = foreign
        steps.append(step)
    return steps[:bound] + one(steps[bound:], f"and {len(steps) - bound - 1} more, over the image's")


def _filling(files: "list[tuple[str, str]]", own: "dict[str, Any]", actor: int, slot: int, owner: int) -> "list[Step]":
    """The directories, links and files of a rootfs that is no image."""
    steps = []
    for op, what, pairs in (
        ("mkdir", "directories", [(path, f"{mode:o}") for path, mode in own["directories"]]),
        ("symlink", "links", own["links"]),
        ("write_file", "files of our own", files),
    ):
        if pairs:
            data = strings(*(each for pair in pairs for each in pair))
            steps.append(Step(op, actor, "root", fd=slot, data=data, n1=0o644, n2=owner, what=f"make {len(pairs)} {what}",
                              note=_names(path for path, _ in pairs)))  # fmt: skip
    return steps


def all_of(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Inside: every mount of the specification, in its order."""
    if is_bundle(spec):
        from dolium.plan import bundle

        return bundle.all_of(spec, facts) + bundle.own_proc(spec)
    steps: list[Step] = []
    ours: Step | None = None
    binds = {why: slot for slot, why, _, _ in _binds(spec, facts)}
    for index, mount in enumerate(spec["mounts"]):
        why, path, kind = f"mounts[{index}]", mount["destination"], mount["type"]
        if why in binds:
            read_only = " ro" if "ro" in mount["options"] else ""
            steps.append(place(why, binds[why], path, f"bind {mount['source']}", f"on {path}{read_only}", kind=LIKE_SOURCE,
                               kernel_path=path in KERNEL_PATHS))  # fmt: skip
            if why not in spec["dolium"]["asked"]:
                if ours:
                    part(steps[-1])
                    ours.note = "and more of the host, read-only"
                ours = ours or steps[-1]
            continue
        if path == "/dev":
            steps += devices.attach()
            for why, source, path in devices.bound(spec, facts):
                steps.append(part(place(why, binds[path], path, f"bind {source}", "may not be made without root", kind=PLAIN_FILE)))
            continue
        if kind == "cgroup":
            steps += _cgroups(why, path, spec, facts)
            continue
        bits, options = split(mount["options"])
        if kind == "devpts" and facts.rootless:
            options = [each for each in options if not each.startswith("gid=")]  # only one group exists
        if kind == "sysfs" and _is_lent_sys(spec, facts):
            steps.append(place(why, slots.SYS, path, "mount that sysfs on /sys", "read-only", kernel_path=True))
            continue
        slot = slots.PROC if path == "/proc" else slots.MOUNT
        shown = ", ".join(word for word in mount["options"] if word in ("ro", "nosuid", "noexec", "nodev"))
        steps.append(Step("new_mount", INSIDE, why, path=kind, data=strings(*options), n1=bits, out=slot,
                          what=f"{kind} for {path}", note=_NOTES.get(path, shown or "a file system of its own")))  # fmt: skip
        steps.append(part(place(why, slot, path, f"mount {kind} on {path}", shown or "as it is", kernel_path=path in KERNEL_PATHS)))
    return steps


def _is_lent_sys(spec: "dict[str, Any]", facts: "Facts") -> bool:
    """Whether outside has mounted sysfs: only the owner of a network namespace may, and here that is another container."""
    return "network" in joined(spec) and facts.own_users


_NOTES = {"/proc": "its own process list, not the host's", "/sys": "read-only: devices, kernel objects",
          "/dev/pts": "terminals of its own", "/dev/shm": "shared memory of its own",
          "/dev/mqueue": "message queues of its own"}  # fmt: skip


def _names(paths: "Iterable[str]") -> str:
    """As many of the paths as explain has room for."""
    text = ""
    for path in paths:
        if len(text) + len(path) > 32:
            return f"{text}, ..." if text else "..."
        text += f", {path}" if text else path
    return text


def _room(size: int) -> str:
    if not size:
        return "at most half of the host's memory"
    from dolium.plan.quantities import show_size

    return f"at most {show_size(size)}, counted as memory"


def _cgroups(why: str, path: str, spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """The container's own groups, read-only: v2 as one mount, v1 hierarchies as directories of a tmpfs."""
    bits = RDONLY | NOSUID | NODEV | NOEXEC
    slot = slots.MOUNT
    if facts.cgroup2_mounted:
        return [Step("new_mount", INSIDE, why, path="cgroup2", n1=bits, out=slot, what=f"cgroup2 for {path}",
                     note="its own group, read-only"),
                part(place(why, slot, path, f"mount cgroup2 on {path}", "read-only"))]  # fmt: skip
    from dolium.plan.limits import groups

    mine = groups(spec, facts)
    if not mine:
        return []
    steps = [Step("new_mount", INSIDE, why, path="tmpfs", data=strings("mode=755", "size=4k"), n1=bits & ~RDONLY, out=slot,
                  what=f"cgroups for {path}", note="its own groups, read-only"),
             part(place(why, slot, path, f"mount tmpfs on {path}", "a directory for each hierarchy"))]  # fmt: skip
    for controller in sorted(mine):
        unified = controller == "unified"
        kind, options = ("cgroup2", b"") if unified else ("cgroup", strings(controller))
        if facts.controllers[controller].version == 2 and not unified:
            continue
        steps.append(part(Step("new_mount", INSIDE, why, path=kind, data=options, n1=bits, out=slots.NESTED,
                                  what=f"{kind} {controller}", note="read-only")))  # fmt: skip
        steps.append(part(place(why, slots.NESTED, f"{path}/{controller}", f"mount {kind} on {path}/{controller}", "read-only")))
    steps.append(part(Step("set_attr", INSIDE, why, fd=slot, n1=RDONLY, what=f"make {path} read-only",
                           note="no more directories are needed")))  # fmt: skip
    return steps


def cover(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Inside: masked and read-only paths; one that this kernel has not is passed over."""
    masked, read_only = spec["linux"].get("maskedPaths", ()), spec["linux"].get("readonlyPaths", ())
    null = slots.NULL if facts.rootless else slots.DEV
    steps: list[Step] = []
    if masked:
        if is_bundle(spec):
            from dolium.plan import bundle

            steps += bundle.keep_null(spec, facts)
        steps.append(Step("mask", INSIDE, "linux.maskedPaths", fd=slots.ROOT, data=strings(*masked), n1=slots.EMPTY, fd2=null,
                          path="" if facts.rootless else "null", what=f"mask {len(masked)} paths",
                          note=_names(masked)))  # fmt: skip
    if read_only:
        steps.append(Step("read_only", INSIDE, "linux.readonlyPaths", fd=slots.ROOT, data=strings(*read_only),
                          what=f"make {len(read_only)} paths read-only", note=_names(read_only)))  # fmt: skip
    if spec["root"].get("readonly"):
        steps.append(Step("set_attr", INSIDE, "root.readonly", fd=slots.ROOT, n1=RDONLY, what="make the rootfs read-only",
                          note="mounts in it stay as they are"))  # fmt: skip
    return steps


def pivot(spec: "dict[str, Any]") -> "list[Step]":
    """Inside: the rootfs becomes `/`, the host's leaves this namespace."""
    after: list[Step] = []
    if is_bundle(spec):
        from dolium.plan import bundle

        after = bundle.propagation(spec)
        if not spec["dolium"]["pivot"]:
            return bundle.pivot(spec) + after
    return [
        Step("pivot_root", INSIDE, "root.path", fd=slots.ROOT, what="pivot_root", note="the rootfs becomes /"),
        Step("drop_old", INSIDE, "root.path", what="umount2 the old /", note="the host's files are out of reach"),
        *after,
    ]


def _binds(spec: "dict[str, Any]", facts: "Facts") -> "list[tuple[int, str, str, int]]":
    """(slot, why, source, attributes) of every bind mount."""
    found, slot = [], slots.FIRST_MOUNT
    for index, mount in enumerate(spec["mounts"]):
        if mount["type"] == "bind":
            found.append((slot, f"mounts[{index}]", mount["source"], split(mount["options"])[0]))
            slot += 1
    for _, source, path in devices.bound(spec, facts):
        found.append((slots.NULL if path == "/dev/null" else slot, path, source, 0))
        slot += 1
    return found
