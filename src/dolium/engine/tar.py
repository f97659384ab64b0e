"""Read a tar archive: ustar, GNU and PAX, pax(1) and tar(5), as a stream of entries.  Nothing is written here, and no name is
trusted: that is engine/unpack.py's.

What two readers could understand differently is refused, or read as GNU tar does: a size in a PAX header counts (CVE-2025-62518),
links, directories and devices have no content.
"""

from struct import Struct

from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

    from dolium.engine.compression import Stream

BLOCK = 512
HEADER = Struct("100s8s8s8s12s12s8s1s100s6s2s32s32s8s8s155s12x")
FILE, HARDLINK, SYMLINK, CHARACTER, BLOCK_DEVICE, DIRECTORY, FIFO = "0", "1", "2", "3", "4", "5", "6"
KINDS = {b"0": FILE, b"\0": FILE, b"7": FILE, b"S": FILE, b"1": HARDLINK, b"2": SYMLINK, b"3": CHARACTER, b"4": BLOCK_DEVICE,
         b"5": DIRECTORY, b"D": DIRECTORY, b"6": FIFO}  # fmt: skip
"""Type flags; 7 is a contiguous file, S a sparse one, D a directory with a list of what was in it."""

MOST_EXTRA = 1 << 20
"""Bytes of one PAX header or long name.  A path has 4096 bytes at most, an extended attribute 64 KiB."""
MOST_SIZE = 1 << 62
MOST_ID = (1 << 32) - 2
MOST_TIME = 1 << 40
"""Seconds: further than any file system goes, and so far that nanoseconds still fit where they must."""
EMPTY = bytes(BLOCK)
WHAT = "wanted is a tar archive, which may be compressed; a rootfs may also be a directory"
AGAIN = "copy or download it again"


class Entry:
    """One of an archive: all names are bytes, ids as they are inside, `mtime` nanoseconds since 1970.

    kind    FILE, DIRECTORY ...;  target  of a link;  device  (major, minor);  xattrs  name -> value, PAX `SCHILY.xattr.`
    size    bytes of the file;  stored  those that come with Reader.content: of a sparse file, less
    pieces  where they go in a sparse file, (offset, bytes) each; None for any other
    """

    __slots__ = ("name", "kind", "mode", "uid", "gid", "size", "stored", "pieces", "mtime", "target", "device", "xattrs")

    def __init__(self, name: bytes, kind: str, mode: int = 0o644, uid: int = 0, gid: int = 0, size: int = 0, mtime: int = 0,
                 target: bytes = b"", device: "tuple[int, int]" = (0, 0)) -> None:  # fmt: skip
        self.name: bytes = name
        self.kind: str = kind
        self.mode: int = mode
        self.uid: int = uid
        self.gid: int = gid
        self.size: int = size
        self.stored: int = size
        self.pieces: list[tuple[int, int]] | None = None
        self.mtime: int = mtime
        self.target: bytes = target
        self.device: tuple[int, int] = device
        self.xattrs: dict[bytes, bytes] = {}

    def shown(self) -> str:
        """Its name for an error."""
        return show(self.name)


def show(name: bytes) -> str:
    """A name as an error may have it: on one line, whatever is in it."""
    return quoted(name.decode("utf-8", "surrogateescape"))


class Reader:
    """The entries of a stream.  What of an entry's content is not read is skipped.

    Iterating raises ImageError for what is no archive, damaged, cut short, or not to be read in one way only.
    """

    def __init__(self, stream: "Stream") -> None:
        self.stream = stream
        self._left = 0
        self._padding = 0
        self._defaults: dict[bytes, bytes] = {}
        self._first = True
        self._name = b""
        self._numbers: dict[bytes, int] = {}

    def _refuse(self, problem: str, hint: str = "") -> "NoReturn":
        self.stream.refuse(problem, entry=show(self._name) if self._name else "", hint=hint)

    def content(self) -> "Iterator[memoryview]":
        """Of the entry that was given last; each piece is valid until the next."""
        while self._left:
            piece = self.stream.some(self._left)
            if not piece:
                self._cut_short()
            self._left -= len(piece)
            yield piece

    def __iter__(self) -> "Iterator[Entry]":
        pax: dict[bytes, bytes] = {}
        while (block := self._next_header()) is not None:
            fields = HEADER.unpack(block)
            flag, self._name = fields[7], b""
            if flag in b"xgLKX" and flag:
                self._extra(flag, self._number(fields[4], "size"), pax)
                continue
            known = {**self._defaults, **pax} if self._defaults else pax
            entry = self._entry(fields, known)
            if pax:
                pax = {}
            if flag == b"V":  # the label of a volume
                continue
            self._left, self._padding = entry.size, -entry.size % BLOCK
            if entry.kind == FILE and (flag == b"S" or (known and any(each.startswith(b"GNU.sparse.") for each in known))):
                self._sparse(entry, b"" if flag != b"S" else block, known)
            yield entry
        if pax:
            self.stream.refuse("it ends after the header of an entry that never comes", hint=AGAIN)

    def _sparse(self, entry: Entry, header: bytes, pax: "dict[bytes, bytes]") -> None:
        """Of a file with holes: what is where (engine/sparse.py)."""
        from dolium.engine import sparse

        if header:
            pieces, size = sparse.old(header, self._block, lambda field: self._number(field, "map of holes"), self._refuse)
        else:
            version = (pax.get(b"GNU.sparse.major", b"0"), pax.get(b"GNU.sparse.minor", b"0"))
            key = b"GNU.sparse.realsize" if version == (b"1", b"0") or b"GNU.sparse.size" not in pax else b"GNU.sparse.size"
            if key not in pax or (version != (b"1", b"0") and version[0] != b"0"):
                self._refuse("a sparse file in a form that is not known", WITHOUT)
            size = self._decimal(pax, key)
            if version == (b"1", b"0"):
                pieces = sparse.leading(self._stored_block, self._refuse)
            else:
                pieces = sparse.listed(pax.get(b"GNU.sparse.map", b""), self._refuse)
        if not 0 <= size <= MOST_SIZE:
            self._refuse(f"its size is {size}", AGAIN)
        sparse.check(pieces, size, self._left, self._refuse)
        entry.size, entry.stored, entry.pieces = size, self._left, pieces

    def _block(self) -> bytes:
        block = self.stream.read(BLOCK)
        if len(block) < BLOCK:
            self._cut_short()
        return block

    def _stored_block(self) -> bytes:
        """One of the content; the last may be short, with its padding behind it."""
        if self._left < BLOCK:
            self._refuse("the map of a sparse file is cut short")
        self._left -= BLOCK
        return self._block()

    def _next_header(self) -> "bytes | None":
        for _ in self.content():
            pass
        if self._padding and len(self.stream.read(self._padding)) < self._padding:
            self._cut_short()
        self._padding = 0
        block = self.stream.read(BLOCK)
        first, self._first = self._first, False
        if len(block) < BLOCK:
            if first:
                self.stream.refuse("it is no tar archive" if block else "it is empty", hint=WHAT)
            self._cut_short()
        if block == EMPTY:
            return None
        if not self._is_sound(block):
            if first:
                self.stream.refuse("it is no tar archive", hint=WHAT)
            name = HEADER.unpack(block)[0].partition(b"\0")[0]
            self.stream.refuse("a header has the wrong checksum", entry=show(name), hint=AGAIN)
        return block

    def _cut_short(self) -> None:
        self.stream.refuse("it is cut short: what marks the end of an archive is missing", hint=AGAIN)

    def _is_sound(self, block: bytes) -> bool:
        text = block[148:156].strip(b" \0")
        if not text.isdigit() or b"8" in text or b"9" in text:
            return False
        expected, total = int(text, 8), sum(block) - sum(block[148:156]) + 8 * 32
        if expected == total:
            return True
        return expected == total - 256 * sum(each > 127 for each in block[:148] + block[156:])  # Sun's tar added signed bytes

    def _number(self, field: bytes, what: str) -> int:
        """Octal digits, or GNU's binary form.  Most owners, modes and times are those of the entry before."""
        found = self._numbers.get(field)
        if found is None:
            if len(self._numbers) > 256:
                self._numbers.clear()
            found = self._numbers[field] = self._parse(field, what)
        return found

    def _parse(self, field: bytes, what: str) -> int:
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        if field[0] == 0xFF:
            return int.from_bytes(field, "big", signed=True)
        text = field.partition(b"\0")[0].strip(b" ")
        if not text:
            return 0
        if not text.isdigit() or b"8" in text or b"9" in text:
            self._refuse(f"its {what} is {show(text)}, which is no octal number", AGAIN)
        return int(text, 8)

    def _extra(self, flag: bytes, size: int, pax: "dict[bytes, bytes]") -> None:
        """A header that says more of the entry after it, or (g) of all."""
        if not 0 <= size <= MOST_EXTRA:
            self.stream.refuse(f"a header of {size} bytes, where {MOST_EXTRA} are enough for any name or attribute")
        data = self.stream.read(size)
        if len(data) < size or len(self.stream.read(-size % BLOCK)) < -size % BLOCK:
            self._cut_short()
        if flag in b"LK":
            pax.setdefault(b"path" if flag == b"L" else b"linkpath", data.partition(b"\0")[0])
            return
        found: dict[bytes, bytes] = {}
        for key, value in self._records(data):
            if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):  # PAX 0.0: one of each for every piece
                key, value = b"GNU.sparse.map", found[b"GNU.sparse.map"] + b"," + value if b"GNU.sparse.map" in found else value
            found[key] = value
        if flag == b"g":
            if shared := found.keys() & {b"path", b"linkpath", b"size", b"GNU.sparse.name", b"GNU.sparse.map"}:
                self.stream.refuse(f"a global header gives every file the same {show(min(shared))}")
            self._defaults |= found
        else:
            pax |= found

    def _records(self, data: bytes) -> "Iterator[tuple[bytes, bytes]]":
        """`LENGTH KEY=VALUE` and a newline, pax(1)."""
        at = 0
        while at < len(data):
            digits, space, _ = data[at : at + 20].partition(b" ")
            if not space or not digits.isdigit():
                break
            end = at + int(digits)
            key, sign, value = data[at + len(digits) + 1 : end - 1].partition(b"=")
            if end > len(data) or end <= at + len(digits) + 1 or not sign or not key or data[end - 1 : end] != b"\n":
                break
            if value:  # an empty one takes a default back
                yield key, value
            at = end
        if data[at:].strip(b"\0"):
            self.stream.refuse(f"a malformed PAX header, at byte {at} of {len(data)}", hint=AGAIN)

    def _entry(self, fields: "tuple[bytes, ...]", pax: "dict[bytes, bytes]") -> Entry:
        name, flag = fields[0].partition(b"\0")[0], fields[7]
        if fields[15][0] and fields[9] == b"ustar\0":
            name = fields[15].partition(b"\0")[0] + b"/" + name
        self._name = name = pax.get(b"GNU.sparse.name", pax.get(b"path", name)) if pax else name
        kind = KINDS.get(flag)
        if kind is None and flag != b"V":
            self._refuse(f"an entry of type {show(flag)}: {UNREADABLE.get(flag, 'unknown')}", WITHOUT)
        if kind == FILE and name.endswith(b"/") and flag != b"7":  # as before there was a type for it
            kind = DIRECTORY
        size = self._decimal(pax, b"size") if b"size" in pax else self._number(fields[4], "size")
        if not 0 <= size <= MOST_SIZE:
            self._refuse(f"its size is {size}", AGAIN)
        entry = Entry(
            name, kind or FILE, self._number(fields[1], "mode") & 0o7777, self._id(pax, b"uid", fields[2]),
            self._id(pax, b"gid", fields[3]), size if kind == FILE or flag == b"D" else 0, self._time(pax, fields[5]),
            pax.get(b"linkpath", fields[8].partition(b"\0")[0]),
        )  # fmt: skip
        if kind in (CHARACTER, BLOCK_DEVICE):
            entry.device = (self._number(fields[13], "major number"), self._number(fields[14], "minor number"))
        if pax:
            self._add(pax, entry)
        return entry

    def _add(self, pax: "dict[bytes, bytes]", entry: Entry) -> None:
        """What only a PAX header can say.  Names out of the header itself end at a zero byte."""
        if b"\0" in entry.name or b"\0" in entry.target:
            self._refuse("a name with a zero byte in it")
        for key, value in pax.items():
            if key.startswith(b"SCHILY.xattr."):
                entry.xattrs[key.removeprefix(b"SCHILY.xattr.")] = value

    def _decimal(self, pax: "dict[bytes, bytes]", key: bytes) -> int:
        if not pax[key].isdigit() or len(pax[key]) > 20:
            self._refuse(f"its {key.decode()} is {show(pax[key])}", AGAIN)
        return int(pax[key])

    def _id(self, pax: "dict[bytes, bytes]", key: bytes, field: bytes) -> int:
        found = self._decimal(pax, key) if key in pax else self._number(field, key.decode())
        if not 0 <= found <= MOST_ID:
            self._refuse(f"its {key.decode()} is {found}, and ids go up to {MOST_ID}")
        return found

    def _time(self, pax: "dict[bytes, bytes]", field: bytes) -> int:
        text = pax.get(b"mtime")
        if text is None:
            seconds, nanoseconds = self._number(field, "time"), 0
        else:
            whole, _, part = text.partition(b".")
            digits = whole.removeprefix(b"-")
            if not digits.isdigit() or len(digits) > 20 or (part and not part.isdigit()):
                self._refuse(f"its time is {show(text)}", AGAIN)
            seconds, nanoseconds = int(digits), int(part[:9].ljust(9, b"0"))
            if whole.startswith(b"-"):
                seconds, nanoseconds = -seconds, -nanoseconds
        if abs(seconds) > MOST_TIME:
            self._refuse(f"its time is {seconds} seconds after 1970")
        return seconds * 1_000_000_000 + nanoseconds


WITHOUT = "make the archive anew, with tar and none of --incremental, --multi-volume"
UNREADABLE = {b"M": "it goes on in another archive", b"N": "a form given up in 1989"}
