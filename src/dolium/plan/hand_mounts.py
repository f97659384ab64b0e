"""Steps on mounts and files, by hand; a part of plan/by_hand.py.  Pure."""

from dolium.core.wire import items
from dolium.plan import calls, slots
from dolium.plan.attributes import NODEV, NOEXEC, NOSUID, RDONLY
from dolium.plan.namespaces import MS_SLAVE
from dolium.plan.quoting import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from dolium.core.wire import Step

WORDS = ((RDONLY, "ro"), (NOSUID, "nosuid"), (NODEV, "nodev"), (NOEXEC, "noexec"))


def lines(step: "Step", outside: "set[int]", own_users: bool, moved: "dict[int, str]") -> "list[str] | None":
    """What one would type; None for a step that is not about files.  `outside`: the slots that outside has filled; `moved`:
    where mounts are that are no longer at the place of their slot."""
    if step.op == "move_mount":
        return _move_mount(step, outside, moved)
    if step.op == "set_attr":
        return _set_attr(step, own_users, moved.get(step.fd) or _at(step.fd))
    moved.pop(step.out, None)
    return _LINES[step.op](step) if step.op in _LINES else None


def _at(slot: int, path: str = "") -> str:
    path = path.lstrip("/")
    if slot < 0:
        return "/"
    return f'"$W/{calls.name(slot)}"' + (f"/{quote(path)}" if path else "")


def _attributes(bits: int) -> "list[str]":
    return [word for bit, word in WORDS if bits & bit]


def _set_attr(step: "Step", own_users: bool, where: str) -> "list[str]":
    if step.n2:
        if step.n2 == MS_SLAVE:
            return ["mount --make-rslave /", 'mount --bind "$W" "$W"; mount --make-shared "$W"   # as the way to hand over']
        return ["mount --make-rprivate /"]
    found = []
    if step.fd2 >= 0 and own_users:
        # A file system that cannot has its owners shown as nobody; so does mount(8) before 2.39, which passes it over.
        found.append(f"mount --rbind -o X-mount.idmap=/proc/$users/ns/user {where} {where} || true   # since util-linux 2.39")
    if step.n1:
        found.append(f"mount -o remount,bind,{','.join(_attributes(step.n1))} {where}")
    return found


def _new_mount(step: "Step") -> "list[str]":
    options = _attributes(step.n1)
    for option in step.data.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        for slot in (slots.LOWER, slots.STORE):
            option = option.replace(f"/proc/self/fd/{{{slot}}}", f"$W/{calls.name(slot)}")
        options.append(option)
    where = _at(step.out)
    return [f'mount -t {step.path} -o "{",".join(options) or "defaults"}" {step.path} {where}']


def _move_mount(step: "Step", outside: "set[int]", moved: "dict[int, str]") -> "list[str]":
    source = _at(step.fd)
    if step.fd2 < 0:
        return ["# (it is at its place below $W)"]
    target = _at(step.fd2, step.path)
    if step.fd not in outside:
        moved[step.fd] = target
    # What outside has mounted cannot be moved by who has users of its own; a bind of it can be made.
    return [f"like {source} {target}", f"mount {'--rbind' if step.fd in outside else '--move'} {source} {target}"]


def _open_tree(step: "Step") -> "list[str]":
    source = quote(step.path) if step.fd < 0 else _at(step.fd, step.path)
    return [f"like {source} {_at(step.out)}", f"mount --rbind {source} {_at(step.out)}"]


def _pairs(step: "Step") -> "list[tuple[str, str]]":
    parts = step.data.decode("utf-8", "surrogateescape").split("\0")[:-1]
    return [*zip(parts[::2], parts[1::2], strict=True)]


def _owned(step: "Step", place: str) -> "list[str]":
    return [f"chown -h {step.n2}:{step.n2} {place}"] if step.n2 > 0 else []


def _mkdir(step: "Step") -> "list[str]":
    found = []
    for path, mode in _pairs(step):
        place = _at(step.fd, path)
        found += [f"mkdir -p {place}; chmod {mode} {place}", *_owned(step, place)]
    return found


def _symlink(step: "Step") -> "list[str]":
    found = []
    for path, target in _pairs(step):
        found += [f"ln -s {quote(target)} {_at(step.fd, path)}", *_owned(step, _at(step.fd, path))]
    return found


def _mknod(step: "Step") -> "list[str]":
    kind, found = "b" if step.n1 & 0o170000 == 0o060000 else "c", []
    for path, number in _pairs(step):
        device, place = int(number), _at(step.fd, path)
        major, minor = device >> 8 & 0xFFF | device >> 32 & ~0xFFF, device & 0xFF | device >> 12 & ~0xFF
        found += [f"mknod -m {step.n1 & 0o7777:o} {place} {kind} {major} {minor}", *_owned(step, place)]
    return found


def _write_file(step: "Step") -> "list[str]":
    found = []
    for path, text in _pairs(step):
        place = _at(step.fd, path)
        parent = _at(step.fd, path.rpartition("/")[0])
        found += [f"mkdir -p {parent}; rm -f {place}; printf %s {quote(text)} > {place}; chmod {step.n1:o} {place}",
                  *_owned(step, place)]  # fmt: skip
    return found


def _write(step: "Step") -> "list[str]":
    path = quote(step.path) if step.fd < 0 else _at(slots.ROOT, f"proc/{step.path}")
    return [f"echo {quote(step.data.decode('utf-8', 'surrogateescape'))} > {path}"]


def _pivot_root(step: "Step") -> "list[str]":
    return [f"cd {_at(step.fd)}", "pivot_root . ."]


_LINES: "dict[str, Callable[[Step], list[str]]]" = {
    "new_mount": _new_mount, "open_tree": _open_tree, "mkdir": _mkdir, "symlink": _symlink, "mknod": _mknod,
    "write_file": _write_file, "write": _write, "pivot_root": _pivot_root,
    "mask": lambda step: [f"hide {quote(each)}" for each in items(step)],
    "read_only": lambda step: [f"protect {quote(each)}" for each in items(step)],
    "drop_old": lambda step: ["umount -l .      # from here on all programs are the container's own", "cd /"],
}  # fmt: skip
