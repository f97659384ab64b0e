"""What is said to criu and by it: its rpc.proto, in the wire format of protocol buffers, as far as containers need it.  Pure.

A request is a dict of options by their names in rpc.proto.  How a value is written follows from what it is: numbers and truth
values, text, a list for a field that is repeated, a tuple for a message whose fields are numbered from 1.
"""

from dolium.errors import DoliumError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DUMP, RESTORE, NOTIFY, FEATURES, SINGLE_PRE_DUMP = 1, 2, 6, 9, 13
"""enum criu_req_type"""
OPTIONS = {
    "images_dir_fd": 1, "pid": 2, "leave_running": 3, "ext_unix_sk": 4, "tcp_established": 5, "evasive_devices": 6, "shell_job": 7,
    "file_locks": 8, "log_level": 9, "log_file": 10, "ps": 11, "notify_scripts": 12, "root": 13, "parent_img": 14, "track_mem": 15,
    "auto_dedup": 16, "work_dir_fd": 17, "link_remap": 18, "manage_cgroups": 24, "cg_root": 25, "rst_sibling": 26, "inherit_fd": 27,
    "manage_cgroups_mode": 34, "external": 37, "empty_ns": 38, "join_ns": 39, "freeze_cgroup": 44, "tcp_skip_in_flight": 46,
    "orphan_pts_master": 50, "config_file": 51, "tcp_close": 52, "network_lock": 64,
}  # fmt: skip
"""message criu_opts: name -> number of the field"""
CGROUP_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}
NETWORK_LOCKS = {"iptables": 1, "nftables": 2, "skip": 3}
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Answer:
    """What criu says: `kind` of what; `fine`; of a notification its `script` and, where there is one, the `pid` of the first
    process; of the features `tracks_memory`; `errno` and `words` of what went wrong."""

    __slots__ = ("kind", "fine", "script", "pid", "tracks_memory", "errno", "words")

    def __init__(self, data: bytes) -> None:
        found = read(data)
        notified, features = read(_bytes(found, 5)), read(_bytes(found, 8))
        self.kind, self.fine, self.errno = _number(found, 1), bool(_number(found, 2)), _number(found, 7)
        self.words = _bytes(found, 9).decode("utf-8", "replace")
        self.script, self.pid = _bytes(notified, 1).decode("utf-8", "replace"), _number(notified, 2)
        self.tracks_memory = bool(_number(features, 1))


def request(kind: int, options: "dict[str, Any] | None" = None) -> bytes:
    """A criu_req.  Names that rpc.proto has not are a KeyError."""
    found = field(1, kind)
    if kind == FEATURES:
        return found + field(5, (True,))
    return found + _tagged(2, b"".join(field(OPTIONS[name], value) for name, value in (options or {}).items()))


def heard() -> bytes:
    """The answer to a notification: go on."""
    return field(1, NOTIFY) + field(3, True)


def field(number: int, value: "Any") -> bytes:
    """One field, or all of a repeated one."""
    if isinstance(value, list):
        return b"".join(field(number, each) for each in value)
    if isinstance(value, tuple):
        return _tagged(number, b"".join(field(index, each) for index, each in enumerate(value, 1)))
    if isinstance(value, str):
        return _tagged(number, value.encode("utf-8", "surrogateescape"))
    return _varint(number << 3 | VARINT) + _varint(int(value) & (1 << 64) - 1)


def _tagged(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | BYTES) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def read(data: bytes) -> "dict[int, int | bytes]":
    """The fields of a message, of a repeated one the last.  Raises DoliumError for what is none."""
    return {number: value for number, value, _ in fields(data)}


def fields(data: bytes) -> "list[tuple[int, int | bytes, bytes]]":
    """(number, value, the field as it stands there) of each field.  Raises DoliumError for what is no message."""
    found: list[tuple[int, int | bytes, bytes]] = []
    at = 0
    while at < len(data):
        begin = at
        tag, at = _read_varint(data, at)
        value: int | bytes
        if tag & 7 == VARINT:
            value, at = _read_varint(data, at)
        else:
            if tag & 7 == BYTES:
                size, at = _read_varint(data, at)
            else:
                size = {FIXED64: 8, FIXED32: 4}.get(tag & 7, len(data) + 1)
            value, at = data[at : at + size], at + size
        if at > len(data):
            raise DoliumError("criu: a message of its that cannot be read")
        found.append((tag >> 3, value, data[begin:at]))
    return found


def _read_varint(data: bytes, at: int) -> "tuple[int, int]":
    value = shift = 0
    while at < len(data) and shift < 70:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at
    raise DoliumError("criu: a message of its that cannot be read")


def _number(found: "dict[int, int | bytes]", number: int) -> int:
    value = found.get(number, 0)
    return value if isinstance(value, int) else 0


def _bytes(found: "dict[int, int | bytes]", number: int) -> bytes:
    value = found.get(number, b"")
    return value if isinstance(value, bytes) else b""


def without_death_signal(image: bytes) -> bytes:
    """The image of a process (two magic numbers, its size, a core_entry), so that its parent's end is no longer its own.

    dolium-keep has bound the first process of a container of `run` to itself; restored it has another parent, and with
    --detach that ends at once.  Raises DoliumError."""
    head, size = image[:HEAD], int.from_bytes(image[HEAD : HEAD + 4], "little")
    body, rest = image[HEAD + 4 : HEAD + 4 + size], image[HEAD + 4 + size :]
    parts = []
    for number, value, raw in fields(body):
        if number == THREAD and isinstance(value, bytes):
            raw = _tagged(THREAD, b"".join(inner for each, _, inner in fields(value) if each != DEATH_SIGNAL))
        parts.append(raw)
    fresh = b"".join(parts)
    return head + len(fresh).to_bytes(4, "little") + fresh + rest


HEAD, THREAD, DEATH_SIGNAL = 8, 5, 8
"""Bytes before the size; core_entry.thread_core; thread_core_entry.pdeath_sig"""
