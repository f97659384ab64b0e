"""What a stack of layers shows, and what the uppermost one changes: an overlay as it is seen from inside, read from outside.

Only descriptors are walked, and never a symbolic link or a mount, for a program may change it all meanwhile: what vanishes is
passed over, a file is as long as it was when it was looked at.  One directory of each layer is open at a time.

    removed files       character devices 0:0, as overlayfs has them
    opaque directories  an attribute of overlayfs, which hides what is below: `trusted.overlay.opaque`, of a plain user `user.…`
"""

import os
import stat

from dolium.core import sys
from dolium.engine import tar
from dolium.errors import DoliumError, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    Extents = list[tuple[int, int]]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
HANDLE = os.O_PATH | os.O_NOFOLLOW
READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
ENOENT, EXDEV, ENOTDIR, ENAMETOOLONG, ELOOP, ENODATA, ENOTSUP = 2, 18, 20, 36, 40, 61, 95
GONE = (ENOENT, ENOTDIR, ELOOP, EXDEV)
CHUNK = 1 << 18
ZEROS = bytes(CHUNK)
MOST_EXTENTS = 1 << 16
"""Of a sparse file: one with more is written whole."""
IDS, NOBODY = 65536, 65534
KINDS = {stat.S_IFREG: tar.FILE, stat.S_IFDIR: tar.DIRECTORY, stat.S_IFLNK: tar.SYMLINK, stat.S_IFCHR: tar.CHARACTER,
         stat.S_IFBLK: tar.BLOCK_DEVICE, stat.S_IFIFO: tar.FIFO}  # fmt: skip
"""Sockets are not kept in archives: nobody listens to them any more."""
CAPABILITY = b"security.capability"
VERSION_2 = 0x02000000


class Content:
    """The bytes of a file, as many as `size` says: what has been cut off since are zeros, what has been added is left out."""

    __slots__ = ("_fd", "_size", "_has_holes")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self._fd = fd
        self._size = status.st_size
        self._has_holes = status.st_blocks * 512 < status.st_size

    def __iter__(self) -> "Iterator[bytes]":
        """All of it.  Raises OSError."""
        extents = self.extents()
        if extents is None:
            extents = [(0, self._size)]
        at = 0
        for offset, length in (*extents, (self._size, 0)):
            while at < offset:
                yield ZEROS[: offset - at]
                at += len(ZEROS[: offset - at])
            yield from self.of([(offset, length)])
            at += length

    def extents(self) -> "Extents | None":
        """(offset, length) of what is no hole, where there are holes.  Raises OSError."""
        if not self._has_holes:
            return None
        found: Extents = []
        fd = os.open(f"/proc/self/fd/{self._fd}", READ)
        try:
            at = 0
            while at < self._size and len(found) < MOST_EXTENTS:
                try:
                    at = os.lseek(fd, at, os.SEEK_DATA)
                    end = min(os.lseek(fd, at, os.SEEK_HOLE), self._size)
                except OSError:  # ENXIO: a hole up to the end
                    break
                if at < end:
                    found.append((at, end - at))
                at = max(end, at + 1)
        finally:
            os.close(fd)
        return found if len(found) < MOST_EXTENTS else None

    def without_holes(self, entry: tar.Entry) -> "Iterator[bytes]":
        """What is in no hole, where there are any; `entry` gets to know where it goes.  Raises OSError."""
        entry.pieces = self.extents()
        if entry.pieces is None:
            return iter(self)
        entry.stored = sum(length for _, length in entry.pieces)
        return self.of(entry.pieces)

    def of(self, extents: "Extents") -> "Iterator[bytes]":
        """What is in these.  Raises OSError."""
        if not any(length for _, length in extents):
            return
        fd = os.open(f"/proc/self/fd/{self._fd}", READ)
        try:
            for offset, length in extents:
                end = offset + length
                while offset < end:
                    piece = os.pread(fd, min(CHUNK, end - offset), offset) or ZEROS[: end - offset]
                    yield piece
                    offset += len(piece)
        finally:
            os.close(fd)


class Change:
    """`kind` A: added, C: changed, D: removed; `entry` as it is now, of what was removed its name alone; `content` of a file;
    `is_touched`: a directory whose owner and mode are as before, so that only what is in it may have changed."""

    __slots__ = ("kind", "entry", "content", "is_touched")

    def __init__(self, kind: str, entry: tar.Entry, content: "Content | None" = None, is_touched: bool = False) -> None:
        self.kind = kind
        self.entry = entry
        self.content = content
        self.is_touched = is_touched


class _Level:
    """One directory of one layer, open, with the names in it."""

    __slots__ = ("layer", "fd", "names")

    def __init__(self, layer: int, fd: int) -> None:
        self.layer = layer
        self.fd = fd
        self.names = {os.fsencode(each) for each in os.listdir(fd)}


class _Seen:
    """What a name leads to: an open handle (-1: something is mounted there), and the layers where it is a directory that shows."""

    __slots__ = ("fd", "status", "layers")

    def __init__(self, fd: int, status: os.stat_result, layers: "list[int]") -> None:
        self.fd = fd
        self.status = status
        self.layers = layers

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class Stack:
    """`roots` are open directories, the uppermost first.  `rootless`: overlayfs keeps its marks as a plain user does.  `id_base`:
    owners are in the range of host ids that begins there, as one sees them who looks at a container that runs.

    covered  names of what something is mounted on, as far as the walk has come: what is below that is not seen
    """

    def __init__(self, roots: "list[int]", *, rootless: bool, id_base: int = 0) -> None:
        self._roots = roots
        self._marks = "user.overlay." if rootless else "trusted.overlay."
        self._id_base = id_base
        self.covered: set[bytes] = set()
        self._names: dict[tuple[int, int], bytes] = {}

    def close(self) -> None:
        """Close the roots."""
        while self._roots:
            os.close(self._roots.pop())

    def one(self, fd: int, name: bytes) -> "tuple[tar.Entry, Content | None]":
        """What an open handle is of, as an entry of that name.  Raises OSError."""
        status = os.fstat(fd)
        entry = self._entry(name, fd, status)
        return entry, Content(fd, status) if entry.kind == tar.FILE else None

    # ---- the two walks

    def everything(self) -> "Iterator[tuple[tar.Entry, Content | None]]":
        """All that shows, directories before what is in them, names in order; a content can be read until the next is asked for.

        Raises OSError and DoliumError for what cannot be read.
        """
        self._names = {}
        yield self._entry(b"", self._roots[0], os.fstat(self._roots[0])), None
        waiting: list[tuple[bytes, list[int]]] = [(b"", [*range(len(self._roots))])]
        while waiting:
            path, layers = waiting.pop()
            levels = self._open(path, layers)
            below = []
            try:
                for name in sorted({name for level in levels for name in level.names}):
                    seen = self._look(levels, name, path)
                    if not seen:
                        continue
                    try:
                        full = _joined(path, name)
                        if found := self._found(full, seen):
                            yield found
                        if seen.layers:
                            below.append((full, seen.layers))
                    finally:
                        seen.close()
            finally:
                _close(levels)
            waiting += reversed(below)

    def changes(self) -> "Iterator[Change]":
        """What the uppermost layer has added, changed and removed, in the same order; where it is the only one,
        all that it would remove.  Raises OSError and DoliumError."""
        self._names = {}
        waiting = [(b"", True, [*range(1, len(self._roots))])]
        while waiting:
            path, merges, layers = waiting.pop()
            upper, lower = self._open(path, [0]), self._open(path, layers)
            below = []
            try:
                names = {name for level in upper for name in level.names}
                if not merges:  # what is below shows no more
                    names |= {name for level in lower for name in level.names}
                for name in sorted(names):
                    full = _joined(path, name)
                    now, before = self._look(upper, name, path), self._look(lower, name, path)
                    try:
                        if now and (found := self._found(full, now)):
                            yield Change("C" if before else "A", *found, _is_alike(now, before) and not found[0].xattrs)
                        elif not now and (before or len(self._roots) == 1):
                            yield Change("D", tar.Entry(full, tar.FILE))
                        if now and now.layers:
                            is_opaque = not merges or self._is_opaque(now.fd)
                            below.append((full, not is_opaque, before.layers if before else []))
                    finally:
                        for each in (now, before):
                            if each:
                                each.close()
            finally:
                _close(upper + lower)
            waiting += reversed(below)

    # ---- what is there

    def _open(self, path: bytes, layers: "list[int]") -> "list[_Level]":
        found: list[_Level] = []
        try:
            for layer in layers:
                try:
                    fd = sys.open_beneath(self._roots[layer], path or b".", DIRECTORY)
                except OSError as error:
                    if error.errno in GONE:  # or something else by now
                        continue
                    raise _unreadable(path, error) from None
                try:
                    found.append(_Level(layer, fd))
                except BaseException:
                    os.close(fd)
                    raise
        except BaseException:
            _close(found)
            raise
        return found

    def _look(self, levels: "list[_Level]", name: bytes, path: bytes) -> "_Seen | None":
        """What a name in these directories shows; None where that is nothing."""
        found: _Seen | None = None
        for level in levels:
            if name not in level.names:
                continue
            each = self._handle(level, name, path)
            if each is None:
                continue
            if not each.layers:
                if found or (stat.S_ISCHR(each.status.st_mode) and each.status.st_rdev == 0):  # hidden, or removed
                    each.close()
                    return found
                return each
            is_opaque = self._is_opaque(each.fd)
            if found:
                found.layers += each.layers
                each.close()
            else:
                found = each
            if is_opaque:
                break
        return found

    def _handle(self, level: _Level, name: bytes, path: bytes) -> "_Seen | None":
        try:
            fd = sys.open_beneath(level.fd, name, HANDLE)
        except OSError as error:
            if error.errno == EXDEV:
                return self._covered(level.fd, name)
            if error.errno in GONE:
                return None
            raise _unreadable(_joined(path, name), error) from None
        status = os.fstat(fd)
        return _Seen(fd, status, [level.layer] if stat.S_ISDIR(status.st_mode) else [])

    def _covered(self, directory: int, name: bytes) -> "_Seen | None":
        """Where something is mounted: what is below that cannot be seen."""
        try:
            return _Seen(-1, os.stat(name, dir_fd=directory, follow_symlinks=False), [])
        except FileNotFoundError:
            return None

    def _is_opaque(self, fd: int) -> bool:
        """Raises Unsupported for a directory that overlayfs has moved without its content."""
        names = _attributes(fd)
        if f"{self._marks}redirect" in names:
            raise Unsupported("files of this container", "overlayfs was told to rename directories in its own way (redirect_dir)",
                              hint="echo N > /sys/module/overlay/parameters/redirect_dir, and run it anew")  # fmt: skip
        opaque = f"{self._marks}opaque"
        return opaque in names and os.getxattr(f"/proc/self/fd/{fd}", opaque) == b"y"

    # ---- as an entry of an archive

    def _found(self, path: bytes, seen: _Seen) -> "tuple[tar.Entry, Content | None] | None":
        if stat.S_IFMT(seen.status.st_mode) not in KINDS:
            return None
        if seen.fd < 0:
            self.covered.add(path)
            is_directory = stat.S_ISDIR(seen.status.st_mode)
            return tar.Entry(path, tar.DIRECTORY if is_directory else tar.FILE, 0o755 if is_directory else 0o644), None
        try:
            entry = self._entry(path, seen.fd, seen.status)
        except OSError as error:
            raise _unreadable(path, error) from None
        return entry, Content(seen.fd, seen.status) if entry.kind == tar.FILE else None

    def _entry(self, path: bytes, fd: int, status: os.stat_result) -> tar.Entry:
        kind = KINDS.get(stat.S_IFMT(status.st_mode), tar.FIFO)  # a socket, which is carried no more than that
        entry = tar.Entry(path, kind, stat.S_IMODE(status.st_mode), self._id(status.st_uid), self._id(status.st_gid),
                          mtime=status.st_mtime_ns)  # fmt: skip
        if kind != tar.DIRECTORY and status.st_nlink > 1:
            first = self._names.setdefault((status.st_dev, status.st_ino), path)
            if first != path:
                entry.kind, entry.target = tar.HARDLINK, first
                return entry
        if kind == tar.FILE:
            entry.size = status.st_size
        elif kind == tar.SYMLINK:
            entry.target = os.fsencode(os.readlink("", dir_fd=fd))
            return entry  # no attribute of the kinds that are kept
        elif kind in (tar.CHARACTER, tar.BLOCK_DEVICE):
            entry.device = os.major(status.st_rdev), os.minor(status.st_rdev)
        self._add_attributes(entry, fd)
        return entry

    def _add_attributes(self, entry: tar.Entry, fd: int) -> None:
        for name in _attributes(fd):
            if name == f"{self._marks}metacopy":
                raise Unsupported("files of this container", "overlayfs was told to copy files without their content (metacopy)",
                                  hint="echo N > /sys/module/overlay/parameters/metacopy, and run it anew")  # fmt: skip
            key = os.fsencode(name)
            if key != CAPABILITY and (not key.startswith(b"user.") or key.startswith(b"user.overlay.")):
                continue
            try:
                value = os.getxattr(f"/proc/self/fd/{fd}", name)
            except OSError as error:
                if error.errno == ENODATA:  # gone meanwhile
                    continue
                raise
            entry.xattrs[key] = _of_every_root(value) if key == CAPABILITY else value

    def _id(self, number: int) -> int:
        if not self._id_base:
            return number
        return number - self._id_base if 0 <= number - self._id_base < IDS else NOBODY


def _attributes(fd: int) -> "list[str]":
    try:
        return os.listxattr(f"/proc/self/fd/{fd}")
    except OSError as error:
        if error.errno == ENOTSUP:  # a file system without them
            return []
        raise


def _of_every_root(value: bytes) -> bytes:
    """File capabilities without the id of the user whose they are, capabilities(7): that of the container's root, a number of this
    host, means nothing in an archive."""
    flags = int.from_bytes(value[:4], "little") & 0xFFFFFF
    return (VERSION_2 | flags).to_bytes(4, "little") + value[4:20]


def _is_alike(now: _Seen, before: "_Seen | None") -> bool:
    """Whether both are directories of the same owner and mode."""
    if not before or not stat.S_ISDIR(now.status.st_mode):
        return False
    return all(getattr(now.status, each) == getattr(before.status, each) for each in ("st_mode", "st_uid", "st_gid"))


def _joined(path: bytes, name: bytes) -> bytes:
    return path + b"/" + name if path else name


def _close(levels: "list[_Level]") -> None:
    for each in levels:
        os.close(each.fd)


def _unreadable(path: bytes, error: OSError) -> DoliumError:
    hint = "its directories lie deeper within each other than a path can say" if error.errno == ENAMETOOLONG else ""
    return DoliumError(f"cannot read {tar.show(b'/' + path)} of the container: {error.strerror}", hint=hint)
