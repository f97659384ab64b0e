"""Unpack a layer of an image for overlayfs: what it removes from the layers below it, and what it takes from them.

    .wh.NAME        NAME of the layers below is hidden: a character device 0:0
    .wh..wh..opq    all that they have in this directory is: the attribute overlay.opaque
    anything where a whiteout, or another kind of file, was before: a directory made there is opaque, for it is a new one

Whiteouts are of the layers below only, wherever in the archive they come (image-spec layer.md).  Directories that the archive takes
for granted, and hard links to files of the layers below, are copied from there; then what is unpacked depends on them.
"""

import os

from dolium.engine import tar
from dolium.engine.lookup import FOLDER, FORMAT, LINK, Layers, follow, is_opaque, is_whiteout
from dolium.engine.unpack import DIRECTORY, Directory, Unpacker
from dolium.errors import ImageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dolium.engine.lookup import Found

PREFIX, OPAQUE, AUFS = b".wh.", b".wh..wh..opq", b".wh..wh."
"""What begins with the last is AUFS's own and was never a file of the image."""
KINDS = {0o100000: tar.FILE, 0o120000: tar.SYMLINK, 0o020000: tar.CHARACTER, 0o060000: tar.BLOCK_DEVICE, 0o010000: tar.FIFO,
         0o040000: tar.DIRECTORY}  # fmt: skip
CHUNK = 1 << 20
ENXIO, ENOTDIR = 6, 20


class LayerUnpacker(Unpacker):
    """An Unpacker for a layer over others; `below` is asked for their directories, the lowest first, when one is needed.
    `depends`: it has taken something from them, or would have if they had had it."""

    def __init__(self, root: int, image: str, own: bool, below: "Callable[[], list[str]]") -> None:
        super().__init__(root, image, own)
        self.depends = False
        self._ask_below = below
        self._below: Layers | None = None
        self._opaque = "user.overlay.opaque" if own else "trusted.overlay.opaque"

    def _put(self, entry: tar.Entry, path: bytes, content: "Iterable[memoryview]") -> None:
        parts = path.split(b"/")
        if any(each.startswith(PREFIX) for each in parts[:-1]):
            self._refuse(entry, "a whiteout is no directory")
        if not parts[-1].startswith(PREFIX):
            super()._put(entry, path, content)
        elif not parts[-1].startswith(AUFS) or parts[-1] == OPAQUE:
            self._hide(entry, path)

    # ---- whiteouts

    def _hide(self, entry: tar.Entry, path: bytes) -> None:
        above, _, leaf = path.rpartition(b"/")
        if entry.kind != tar.FILE:
            self._refuse(entry, "a whiteout that is no regular file")
        if leaf == OPAQUE:
            self._is_new(self._parent(path)[0].fd)
            return
        name = leaf[len(PREFIX) :]
        if name in (b"", b".", b".."):
            self._refuse(entry, "a whiteout of nothing")
        path = above + b"/" + name if above else name
        parent, name = self._parent(path)
        try:
            os.mknod(name, 0o020000, 0, dir_fd=parent.fd)
        except FileExistsError:  # of this layer, which a whiteout says nothing of; but of a directory nothing below is to be seen
            if os.stat(name, dir_fd=parent.fd, follow_symlinks=False).st_mode & FORMAT == FOLDER:
                self._is_new(self._enter(path).fd)

    def _is_new(self, fd: int) -> None:
        os.setxattr(fd, self._opaque, b"y")

    # ---- what the layers below have

    def _parent(self, path: bytes) -> "tuple[Directory, bytes]":
        above, _, leaf = path.rpartition(b"/")
        found = self._open.get(above)
        if found is None:
            try:
                found = self._enter(above)
            except (FileNotFoundError, NotADirectoryError):
                found = self._open[above] = self._enter(self._walk(above))
        return found, leaf

    def _walk(self, path: bytes) -> bytes:
        """Make the directories of a path, as they are in the layers below or else root's; where they are: a symbolic link in any
        of the layers leads elsewhere."""
        return b"/".join(follow(path, lambda done, part: self._step(b"/".join(done), part, done)))

    def _step(self, here: bytes, name: bytes, parts: "list[bytes]") -> "bytes | None":
        """See to it that `name` is a directory in the directory `here`; or where the link of that name leads."""
        parent = self._enter(here).fd
        try:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError:
            found = self._find([*parts, name])
            if found is None:
                self._plain(name, parent, hides=False)
                return None
            try:
                if found.status.st_mode & FORMAT == LINK:
                    return os.readlink(found.name, dir_fd=found.directory)
                if found.status.st_mode & FORMAT != FOLDER:
                    self._plain(name, parent, hides=False)
                    return None
                self._copy_directory(found, name, parent)
            finally:
                found.close()
            return None
        if status.st_mode & FORMAT == LINK:
            return os.readlink(name, dir_fd=parent)
        if is_whiteout(status):
            os.unlink(name, dir_fd=parent)
            self._plain(name, parent, hides=True)
        elif status.st_mode & FORMAT != FOLDER:
            raise NotADirectoryError(ENOTDIR, os.strerror(ENOTDIR))
        return None

    def _plain(self, name: bytes, parent: int, hides: bool) -> None:
        """A directory as tar makes one that nobody has described."""
        self.entries += 1
        os.mkdir(name, 0o755, dir_fd=parent)
        fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            if not self.own:
                os.fchown(fd, 0, 0)
            os.fchmod(fd, 0o755)
            if hides:
                self._is_new(fd)
        finally:
            os.close(fd)

    def _copy_directory(self, found: "Found", name: bytes, parent: int) -> None:
        self.entries += 1
        os.mkdir(name, 0o700, dir_fd=parent)
        fd = os.open(name, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
        try:
            entry = _entry(found, name)
            self._settle(fd, entry, always=True)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _find(self, parts: "list[bytes]") -> "Found | None":
        """What the layers below have at a path without links, unless this one hides it."""
        if self._below is None:
            self._below = Layers(self._ask_below())
        if not self._below.paths:
            return None
        self.depends = True
        for count in range(len(parts)):
            try:
                if is_opaque(self._enter(b"/".join(parts[:count])).fd):
                    return None
            except OSError:  # not in this layer
                break
        return self._below.look(parts)

    def _target(self, path: bytes) -> "tuple[bytes, Directory, os.stat_result] | None":
        """Also of a file of the layers below, which is copied for that."""
        found = super()._target(path)
        if found:
            return None if is_whiteout(found[2]) else found
        above, _, leaf = path.rpartition(b"/")
        above = self._walk(above)
        path = above + b"/" + leaf if above else leaf
        below = self._find(path.split(b"/"))
        if below is None:
            return None
        try:
            copy = _entry(below, path)
            if copy.kind == tar.DIRECTORY:
                return path, self._enter(above), below.status
            super()._put(copy, path, _content(below, copy) if copy.kind == tar.FILE else ())
        finally:
            below.close()
        return super()._target(path)


def _entry(found: "Found", path: bytes) -> tar.Entry:
    """What an archive would say of a file."""
    status = found.status
    entry = tar.Entry(path, KINDS[status.st_mode & FORMAT], status.st_mode & 0o7777, status.st_uid, status.st_gid,
                      mtime=status.st_mtime_ns)  # fmt: skip
    if entry.kind == tar.SYMLINK:
        entry.target = os.readlink(found.name, dir_fd=found.directory)
    elif entry.kind in (tar.CHARACTER, tar.BLOCK_DEVICE):
        entry.device = (os.major(status.st_rdev), os.minor(status.st_rdev))
    elif entry.kind in (tar.FILE, tar.DIRECTORY):
        fd = os.open(found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found.directory)
        try:
            for name in os.listxattr(fd):
                entry.xattrs[name.encode()] = os.getxattr(fd, name)
            if entry.kind == tar.FILE:
                entry.size = status.st_size
                entry.pieces = _pieces(fd, status.st_size)
                entry.stored = sum(length for _, length in entry.pieces)
        finally:
            os.close(fd)
    return entry


def _pieces(fd: int, size: int) -> "list[tuple[int, int]]":
    """Where a file has data, lseek(2)."""
    found, at = [], 0
    while at < size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != ENXIO:
                raise
            break
        at = os.lseek(fd, begin, os.SEEK_HOLE)
        found.append((begin, at - begin))
    return found


def _content(found: "Found", entry: tar.Entry) -> "Iterator[memoryview]":
    fd = os.open(found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found.directory)
    try:
        for at, length in entry.pieces or ():
            while length:
                data = os.pread(fd, min(CHUNK, length), at)
                if not data:
                    raise ImageError("a layer", "a file of a layer below it was cut short while it was copied")
                yield memoryview(data)
                at += len(data)
                length -= len(data)
    finally:
        os.close(fd)
