"""Write a tar archive: ustar where that says it all, a PAX header where not, pax(1).  The same entries give the same bytes.

What engine/tar.py reads; GNU tar, bsdtar, Python and Go, in which docker and podman are written, read it too.
"""

from dolium.engine import tar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Buffer = bytes | memoryview

BLOCK = tar.BLOCK
MOST_OCTAL, MOST_SIZE = 0o7777777, 0o77777777777
"""What the fields of a header hold: ids and device numbers have 7 digits, sizes and times 11."""
TOGETHER = 1 << 17
"""Bytes that are collected before they are written; what is longer goes at once."""
SECOND = 1_000_000_000


class Writer:
    """Entries in, bytes out: `write` takes them, all that it is given.  Names are as in tar.Entry; of a directory without the
    slash at its end, and empty for the one that all the others are in."""

    def __init__(self, write: "Callable[[Buffer], object]") -> None:
        self._write = write
        self._waiting: list[bytes] = []
        self._size = 0

    def add(self, entry: tar.Entry, content: "Iterable[Buffer]" = ()) -> None:
        """One entry; of a file `content` is exactly `entry.size` bytes, or of a sparse one those that are in its `pieces`.
        Raises ValueError for another number, and what `write` does."""
        name, records, size = _full_name(entry), _records(entry), entry.size
        listed = b""
        if entry.pieces is not None:  # GNU's sparse form 1.0: what is where comes before the content
            records |= {b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0", b"GNU.sparse.name": name,
                        b"GNU.sparse.realsize": b"%d" % size}  # fmt: skip
            records.pop(b"path", None)
            name = b"GNUSparseFile.0/" + _short(name)
            listed = b"".join(b"%d\n" % number for number in (len(entry.pieces), *(part for each in entry.pieces for part in each)))
            listed += bytes(-len(listed) % BLOCK)
            size = len(listed) + sum(length for _, length in entry.pieces)
        if size > MOST_SIZE:
            records[b"size"] = b"%d" % size
        if records:
            text = b"".join(_record(key, records[key]) for key in sorted(records))
            self._out(_header(b"PaxHeaders/" + _short(name), b"x", size=len(text)) + text + bytes(-len(text) % BLOCK))
        front, name = _split(name)
        self._out(_header(
            name, entry.kind.encode(), entry.mode, entry.uid, entry.gid, size, entry.mtime // SECOND,
            entry.target, entry.device, front,
        ) + listed)  # fmt: skip
        left = size - len(listed)
        for piece in content:
            left -= len(piece)
            self._out(piece)
        if left:
            raise ValueError(f"{entry.shown()}: {abs(left)} bytes too {'few' if left > 0 else 'many'}")
        if size % BLOCK:
            self._out(bytes(-size % BLOCK))

    def close(self) -> None:
        """The end of the archive.  Raises what `write` does."""
        self._out(bytes(2 * BLOCK))
        self._flush()

    def _out(self, piece: "Buffer") -> None:
        if len(piece) >= TOGETHER:
            self._flush()
            self._write(piece)
            return
        self._waiting.append(bytes(piece))  # the piece is another after this
        self._size += len(piece)
        if self._size >= TOGETHER:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._write(b"".join(self._waiting))
            self._waiting, self._size = [], 0


def _full_name(entry: tar.Entry) -> bytes:
    return (entry.name or b".") + b"/" if entry.kind == tar.DIRECTORY else entry.name


def _short(name: bytes) -> bytes:
    """For a header whose own name nobody needs."""
    return name.rstrip(b"/").rpartition(b"/")[2][-80:]


def _split(name: bytes) -> "tuple[bytes, bytes]":
    """Into what the two fields of a header hold; cut short where a PAX header has it all."""
    if len(name) <= 100:
        return b"", name
    at = name.find(b"/", len(name) - 101, 156)
    return (name[:at], name[at + 1 :]) if 0 < at < len(name) - 1 else (b"", name[:100])


def _records(entry: tar.Entry) -> "dict[bytes, bytes]":
    """What a header has no room for."""
    found = {}
    name = _full_name(entry)
    if len(name) > 100 and not _split(name)[0]:
        found[b"path"] = name
    if len(entry.target) > 100:
        found[b"linkpath"] = entry.target
    for key, number in ((b"uid", entry.uid), (b"gid", entry.gid)):
        if number > MOST_OCTAL:
            found[key] = b"%d" % number
    seconds, part = divmod(abs(entry.mtime), SECOND)
    if part or not 0 <= entry.mtime // SECOND <= MOST_SIZE:
        sign = b"-" if entry.mtime < 0 else b""
        found[b"mtime"] = sign + (b"%d.%09d" % (seconds, part)).rstrip(b"0").rstrip(b".")
    for key, value in entry.xattrs.items():
        if b"=" in key:  # else the name would end there; as GNU tar does it
            key = key.replace(b"%", b"%25").replace(b"=", b"%3D")
        found[b"SCHILY.xattr." + key] = value
    return found


def _record(key: bytes, value: bytes) -> bytes:
    """`LENGTH KEY=VALUE` and a newline, where the length counts itself."""
    rest = len(key) + len(value) + 3
    length = rest + len(str(rest))
    length = rest + len(str(length))
    return b"%d %b=%b\n" % (length, key, value)


def _header(name: bytes, flag: bytes, mode: int = 0o644, uid: int = 0, gid: int = 0, size: int = 0, seconds: int = 0,
            target: bytes = b"", device: "tuple[int, int]" = (0, 0), front: bytes = b"") -> bytes:  # fmt: skip
    """One block.  A number that has no room is 0: then a PAX header says it."""
    fields = tar.HEADER.pack(
        name[:100], b"%07o\0" % mode, _octal(uid), _octal(gid), b"%011o\0" % (size if size <= MOST_SIZE else 0),
        b"%011o\0" % (seconds if 0 <= seconds <= MOST_SIZE else 0), b" " * 8, flag, target[:100], b"ustar\0", b"00", b"", b"",
        _octal(device[0]), _octal(device[1]), front,
    )  # fmt: skip
    return fields[:148] + b"%06o\0 " % sum(fields) + fields[156:]


def _octal(number: int) -> bytes:
    return b"%07o\0" % (number if number <= MOST_OCTAL else 0)
