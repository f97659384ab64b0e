"""Files and directories on their way into a Sandbox and out of it: by descriptors on both sides, so that neither a link nor a
rename by a program there leads anywhere else.

Files, directories and symbolic links are carried over, with their modes (but no set-user-ID) and times; sockets, FIFOs and
devices are left out.  What comes belongs to the container's root, what goes to the caller.
"""

import os
import stat

from dolium.core import sys
from dolium.engine import compression, tar, unpack
from dolium.engine.archive import Writer
from dolium.plan.quantities import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO, TypeVar

    T = TypeVar("T")
    Carried = Iterable[tuple[tar.Entry, Iterable[memoryview]]]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
CHUNK = 1 << 18
DEEP = 200
"""Directories within directories; each is open while its own are gone through."""
MODE = 0o777 | stat.S_ISVTX
DIRECTORY_THERE = "a directory"


class Budget:
    """How many bytes may still come of a tree that a program can make endless.  `spend` raises OSError (EFBIG)."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most

    def spend(self, count: int, path: str) -> None:
        """So many more."""
        self._left -= count
        if self._left < 0:
            raise OSError(27, f"more than {show_size(self._most)} of files", path)


def walk(parent: int, leaf: str, name: bytes, budget: Budget, depth: int = 0) -> "Iterator[tuple[tar.Entry, Iterable[memoryview]]]":
    """A file or a directory with all in it, under `name` (empty for the directory itself); each piece of content is valid until
    the next.  Raises OSError; what vanishes meanwhile is passed over."""
    try:
        status = os.stat(leaf, dir_fd=parent, follow_symlinks=False)
        mode, when = status.st_mode & MODE, status.st_mtime_ns
        if stat.S_ISLNK(status.st_mode):
            target = os.fsencode(os.readlink(leaf, dir_fd=parent))
            yield tar.Entry(name, tar.SYMLINK, mtime=when, target=target), ()
            return
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            return
        fd = os.open(leaf, DIRECTORY if stat.S_ISDIR(status.st_mode) else FILE, dir_fd=parent)
    except FileNotFoundError:
        if depth:
            return
        raise
    try:
        if stat.S_ISREG(status.st_mode):
            if stat.S_ISREG(os.fstat(fd).st_mode):  # it may be another by now
                budget.spend(status.st_size, leaf)
                yield tar.Entry(name, tar.FILE, mode, size=status.st_size, mtime=when), _content(fd, status.st_size, budget, leaf)
            return
        if depth > DEEP:
            raise OSError(36, f"more than {DEEP} directories within each other", leaf)
        yield tar.Entry(name, tar.DIRECTORY, mode, mtime=when), ()
        for each in sorted(os.listdir(fd)):
            budget.spend(1, each)
            yield from walk(fd, each, name + b"/" + os.fsencode(each) if name else os.fsencode(each), budget, depth + 1)
    finally:
        os.close(fd)


def _content(fd: int, size: int, budget: Budget, path: str) -> "Iterator[memoryview]":
    """Also what the file has grown by since its size was taken from the budget."""
    while piece := os.read(fd, CHUNK):
        size -= len(piece)
        if size < 0:
            budget.spend(min(-size, len(piece)), path)
        yield memoryview(piece)


def read_tar(file: "IO[bytes]") -> "Iterator[tuple[tar.Entry, Iterable[memoryview]]]":
    """The entries of an archive, compressed or not, in a file with a descriptor.  Raises ImageError."""
    stream = compression.Stream(file.fileno(), "the archive")
    try:
        reader = tar.Reader(stream)
        for entry in reader:
            if entry.kind in (tar.FILE, tar.DIRECTORY, tar.SYMLINK, tar.HARDLINK):
                entry.mode &= MODE
                yield entry, reader.content()
    finally:
        stream.close()


def one(fd: int, name: bytes, budget: Budget) -> "Iterator[tuple[tar.Entry, Iterable[memoryview]]]":
    """A regular file that is open."""
    status = os.fstat(fd)
    budget.spend(status.st_size, os.fsdecode(name))
    content = _content(fd, status.st_size, budget, os.fsdecode(name))
    yield tar.Entry(name, tar.FILE, status.st_mode & MODE, size=status.st_size, mtime=status.st_mtime_ns), content


def write(root: int, entries: "Carried", owner: "tuple[int, int] | None" = None) -> None:
    """Make the entries below the directory `root`; they belong to the caller, or to `owner`.  Raises ImageError and OSError."""
    if owner:
        with sys.Owner(*owner) as acting:
            _unpack(root, ((entry, _as_caller(content, acting)) for entry, content in _as_caller(entries, acting)))
    else:
        _unpack(root, entries)


def _unpack(root: int, entries: "Carried") -> None:
    unpacker = unpack.Unpacker(root, "the copy", own=True)
    try:
        for entry, content in entries:
            unpacker.add(entry, content)
    finally:
        unpacker.flush()


def _as_caller(items: "Iterable[T]", acting: sys.Owner) -> "Iterator[T]":
    """The same, each got by the caller, who may read what the other may not."""
    iterator = iter(items)
    while True:
        acting.leave()
        try:
            item = next(iterator, None)
        finally:
            acting.enter()
        if item is None:
            return
        yield item


def fitting(root: int, entries: "Carried") -> "Iterator[tuple[tar.Entry, Iterable[memoryview]]]":
    """The same, each when nothing would be lost below `root`.  Raises IsADirectoryError and NotADirectoryError."""
    for entry, content in entries:
        if there := in_the_way(root, entry):
            kind = IsADirectoryError if there == DIRECTORY_THERE else NotADirectoryError
            raise kind(21 if there == DIRECTORY_THERE else 20, f"it is {there}, and would be replaced", os.fsdecode(entry.name))
        yield entry, content


def in_the_way(root: int, entry: tar.Entry) -> str:
    """What has the name of the entry below `root`, if it is of another kind: `a directory`, or `no directory`.  Neither may take
    the other's place."""
    try:
        fd = sys.open_in_root(root, entry.name.strip(b"/") or b".", os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:  # nothing there, or nothing that could be lost
        return ""
    try:
        is_directory = stat.S_ISDIR(os.fstat(fd).st_mode)
    finally:
        os.close(fd)
    if is_directory == (entry.kind == tar.DIRECTORY):
        return ""
    return DIRECTORY_THERE if is_directory else "no directory"


def write_tar(file: "IO[bytes]", entries: "Carried") -> None:
    """Write the entries as an archive.  Raises OSError, also for a file that becomes shorter meanwhile."""
    writer = Writer(file.write)
    for entry, content in entries:
        writer.add(entry, _exactly(entry, content))
    writer.close()


def _exactly(entry: tar.Entry, content: "Iterable[memoryview]") -> "Iterator[memoryview]":
    """As many bytes as the archive has said that they are, though a program may be writing."""
    left = entry.size
    for piece in content:
        yield piece[:left]
        left -= len(piece[:left])
        if not left:
            return
    if left:
        raise OSError(5, "has become shorter while it was read", os.fsdecode(entry.name))
