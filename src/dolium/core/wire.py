"""A plan as bytes and back: what dolium-init reads from and reports into one memfd (init/wire.h, init/steps.def)."""

from _struct import Struct

from dolium.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

HOST, OUTSIDE, INSIDE, BOTH = 0, 1, 2, 3
"""Who acts: Python in the caller's namespaces, dolium-init beside the container, its child, or both at a meeting."""

OPERATIONS: "dict[str, tuple[str, ...]]" = {
    "open": ("openat2",), "open_tree": ("open_tree",), "set_attr": ("mount_setattr",),
    "new_mount": ("fsopen", "fsconfig", "fsmount"), "move_mount": ("openat2", "mkdirat", "move_mount"),
    "mkdir": ("openat2", "mkdirat", "fchownat"), "symlink": ("openat2", "symlinkat", "fchownat"),
    "mknod": ("openat2", "mknodat", "fchmodat", "fchownat"), "write_file": ("openat2", "unlinkat", "openat", "write", "fchownat"),
    "read_file": ("openat2", "fstat", "read"), "write": ("openat2", "write"), "write_fd": ("write",),
    "clone": ("clone3",), "unshare": ("unshare",), "map_ids": ("open", "write"), "open_ns": ("open",),
    "sync": ("sendmsg", "recvmsg"), "reset": ("sigprocmask", "setsid"),
    "become": ("setgroups", "setresgid", "setresuid"), "undumpable": ("prctl",), "keyring": ("keyctl",),
    "hostname": ("sethostname",), "loopback": ("socket", "ioctl"),
    "mask": ("openat2", "fstat", "open_tree", "move_mount"),
    "read_only": ("openat2", "open_tree", "mount_setattr", "move_mount"), "pivot_root": ("fchdir", "pivot_root"),
    "drop_old": ("umount2", "chdir"), "own_pipes": ("fchown",), "rlimit": ("prlimit",), "bounds": ("prctl",),
    "caps": ("capset", "prctl"), "no_new_privs": ("prctl",), "seccomp": ("seccomp", "sendmsg"), "chdir": ("openat2", "getcwd"),
    "umask": ("umask",), "die_with": ("prctl", "recv"), "reap": ("fork",), "exec": ("execve",), "keep": ("execve",),
    "enter_net": ("setns",), "netlink": ("open", "setns", "socket", "ioctl", "sendto", "recvfrom"),
    "join": ("setns",), "born": ("mmap", "clone", "waitid", "pidfd_open", "setsid"),
    "device_filter": ("bpf", "bpf"),
    "idle": ("sigprocmask",), "offer": ("sendmsg",),
    "ptmx": ("openat2", "fstatfs", "ioctl"), "pts": ("ioctl", "fchown"), "stdio": ("dup2",), "ctty": ("ioctl",),
    "ask": ("send", "recv"), "call": ("the system call",), "probe": ("access",), "wait_start": ("accept4", "recv"),
    "leave": ("execve",), "copy_up": ("openat2", "the copy"),
    "wait_command": ("recvmsg", "dup2"),
}  # fmt: skip
"""Name -> the system calls it makes, in the order in which a report counts them."""
_NUMBER = {name: number for number, name in enumerate(OPERATIONS)}

MAGIC = 0x326C6F64
SLOTS = 250
MESSAGE = 164
HEADER = Struct(f"=IIIIiiii{SLOTS}h{MESSAGE}s")
RECORD = Struct("=HBB4hhhhhIIIIiqqqIHHHh4x")
ACCEPTED = 4
"""Errnos that a record has room for."""
REPORT = Struct("=IIIIiiii")
NONE = -1


class Step:
    """One thing that one actor does; a row of the plan.

    `op` names the operation (a key of OPERATIONS, or of the host's own), `why` the configuration key that asked for it.
    `fd`, `fd2` and `out` are slots; `accept` are errnos that count as done, `other` the step to run instead on the
    errno `on`.  `what` and `note` are for people; a part belongs to the step before it and has no number of its own.
    """

    __slots__ = ("op", "actor", "why", "path", "path2", "data", "fd", "fd2", "out", "n1", "n2", "n3", "accept", "on",
                 "other", "chapter", "what", "note", "is_part")  # fmt: skip

    def __init__(self, op: str, actor: int, why: str, *, path: str = "", path2: str = "", data: bytes = b"",
                 fd: int = NONE, fd2: int = NONE, out: int = NONE, n1: int = 0, n2: int = 0, n3: int = 0,
                 accept: "tuple[int, ...]" = (), on: int = 0, other: "Step | None" = None, what: str = "",
                 note: str = "") -> None:
        self.op: str = op
        self.actor: int = actor
        self.why: str = why
        self.path: str = path
        self.path2: str = path2
        self.data: bytes = data
        self.fd: int = fd
        self.fd2: int = fd2
        self.out: int = out
        self.n1: int = n1
        self.n2: int = n2
        self.n3: int = n3
        self.accept: tuple[int, ...] = accept
        self.on: int = on
        self.other: Step | None = other
        self.chapter: str = ""
        self.what: str = what
        self.note: str = note
        self.is_part: bool = False


def part(step: Step) -> Step:
    """The step as a part of the one before it."""
    step.is_part = True
    return step


def one(steps: "list[Step]", note: str) -> "list[Step]":
    """Several of a kind as one step: the first, with a note that speaks for all, and its parts."""
    for step in steps[1:]:
        step.is_part = True
    if len(steps) > 1:
        steps[0].note = note
    return steps


def strings(*parts: str, why: str = "mounts") -> bytes:
    """The parts, each ended by a NUL, as `data` holds them.  Raises SpecError, naming `why`, for what no system call takes."""
    if not parts:
        return b""
    joined = "\0".join(parts)
    if joined.count("\0") >= len(parts):
        raise SpecError(why, "holds a NUL character")
    return _utf8(joined, why) + b"\0"


def encoded(text: str, why: str) -> bytes:
    """The text as the kernel takes it.  Raises SpecError, naming `why`, for a NUL and for half a surrogate pair."""
    if "\0" in text:
        raise SpecError(why, "holds a NUL character")
    return _utf8(text, why)


def _utf8(text: str, why: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise SpecError(why, "holds half of a surrogate pair, which no name in Linux can") from None


PAIRS = frozenset(("mkdir", "symlink", "mknod", "write_file"))
LISTS = frozenset(("mask", "read_only", "start_unit"))


def items(step: Step) -> "list[str]":
    """The paths, or rules, that a step goes through one by one; none for a step on a single thing."""
    if step.op == "nft":
        return step.path.split(",")
    if step.op not in PAIRS and step.op not in LISTS:
        return []
    parts = step.data.decode("utf-8", "surrogateescape").split("\0")[:-1]
    return parts[::2] if step.op in PAIRS else parts


class Message:
    """A plan encoded: `data` for the memfd, and which step each of its records is."""

    __slots__ = ("data", "steps")

    def __init__(self, data: bytes, steps: "list[Step]") -> None:
        self.data: bytes = data
        self.steps: list[Step] = steps


def acting(steps: "Iterable[Step]") -> "list[Step]":
    """The steps of the two actors in C, then the alternatives of some of them: one record each."""
    rows = [step for step in steps if step.actor]
    return rows + [step.other for step in rows if step.other is not None]


def encode(steps: "Iterable[Step]", slots: "dict[int, int]") -> Message:
    """Encode the steps of the two actors in C; `slots` are the descriptors that the helper is started with.

    Raises SpecError for a string that no system call could take.
    """
    rows = acting(steps)
    first_other = others = len(rows) - sum(step.other is not None for step in rows)
    start = HEADER.size + len(rows) * RECORD.size
    blob = bytearray(b"\0")  # offset 0 of the mapping is the header, so 0 can mean "none"
    places: dict[bytes, int] = {}

    def put(text: bytes) -> int:
        place = places.get(text)
        if place is None:
            place = places[text] = start + len(blob)
            blob.extend(text)
            blob.append(0)
        return place

    records = bytearray()
    for index, step in enumerate(rows):
        if step.op == "read_file":  # room to write into, so never shared
            data = start + len(blob)
            blob.extend(step.data + b"\0")
        else:
            data = put(step.data) if step.data else 0
        other = 0
        if step.other is not None:
            other, others = others, others + 1
        path = put(encoded(step.path, step.why)) if step.path else 0
        path2 = put(encoded(step.path2, step.why)) if step.path2 else 0
        records += _record(step, step.actor if index < first_other else 0, other, path, path2, data)
    return Message(_header(slots, len(rows), start + len(blob)) + records + blob, rows)


def revise(message: Message, slots: "dict[int, int]", name: "tuple[bytes, bytes]", index: int, step: Step,
           room: int = 0) -> bytes:  # fmt: skip
    """The same plan for another container: `name` is (old, new) of the same length, `step` takes the place of record
    number `index`, which had no data.  `room` is how much the memfd will be longer, for what comes later."""
    end = HEADER.size + RECORD.size * len(message.steps)
    place = HEADER.size + RECORD.size * index
    changed = _record(step, step.actor, 0, 0, 0, len(message.data))
    size = len(message.data) + len(step.data) + 1
    return b"".join((_header(slots, len(message.steps), size + room), message.data[HEADER.size : place], changed,
                     message.data[place + RECORD.size : end], message.data[end:].replace(*name), step.data, b"\0"))  # fmt: skip


def late(message: Message, index: int, steps: "list[Step]") -> "tuple[tuple[int, bytes], tuple[int, bytes]]":
    """Steps that take the place of the records from number `index` on of a plan that `revise` made with room: two pieces of
    the memfd, each with its place.  Raises SpecError."""
    blob, start = bytearray(), len(message.data) + 1
    records = bytearray()
    for step in steps:
        path = step.path and encoded(step.path, step.why)
        at, data = start + len(blob), 0
        if path:
            blob += path + b"\0"
        if step.data:
            data = start + len(blob)
            blob += step.data + b"\0"
        records += _record(step, step.actor, 0, at if path else 0, 0, data)
    return (HEADER.size + RECORD.size * index, bytes(records)), (start, bytes(blob))


def _header(slots: "dict[int, int]", count: int, size: int) -> bytes:
    table = [NONE] * SLOTS
    for number, fd in slots.items():
        table[number] = fd
    return HEADER.pack(MAGIC, size, count, 0, -1, 0, 0, -1, *table, b"")


def _record(step: Step, actor: int, other: int, path: int, path2: int, data: int) -> bytes:
    room = ACCEPTED - len(step.accept)
    if room < 0:
        raise AssertionError(f"{step.op} of {step.why} accepts {len(step.accept)} errnos, a record holds {ACCEPTED}")
    return RECORD.pack(
        _NUMBER[step.op], actor, 0, *step.accept, *(0,) * room, step.on, step.out, step.fd, step.fd2,
        path, path2, data, len(step.data), 0, step.n1, step.n2, step.n3, 0, 0, 0, 0, other)  # fmt: skip


class Report:
    """What dolium-init left in the memfd.

    `child` is the pid of the first process, `failed` the index of the record that failed or -1, `errno` and `call` what it
    said, `item` where in its list, `status` the wait status of a child that died on the way or -1, `message` the file
    system's own words.
    """

    __slots__ = ("child", "failed", "errno", "call", "item", "status", "message", "rows")

    def __init__(self, data: bytes) -> None:
        self.failed: int
        self.child: int
        self.status: int
        _, _, count, length, self.failed, _, self.child, self.status = REPORT.unpack_from(data)
        words = data[HEADER.size - MESSAGE : HEADER.size - MESSAGE + length].decode("utf-8", "replace")
        self.message: str = words.strip().removeprefix("e ")  # an error, fsopen(2)
        rows = [RECORD.unpack_from(data, HEADER.size + RECORD.size * index) for index in range(count)]
        # errno, nanoseconds and the branch taken, of each record
        self.rows: list[tuple[int, int, int]] = [(row[15], row[19], row[20]) for row in rows]
        self.errno: int = rows[self.failed][15] if self.failed >= 0 else 0
        self.call: int = rows[self.failed][2] if self.failed >= 0 else 0
        self.item: int = rows[self.failed][22] if self.failed >= 0 else 0


def read_result(data: bytes, index: int) -> bytes:
    """What the `read_file` record number `index` has read."""
    row = RECORD.unpack_from(data, HEADER.size + RECORD.size * index)
    return data[row[13] : row[13] + row[18]]
