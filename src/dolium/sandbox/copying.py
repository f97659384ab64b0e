"""`dolium cp`: what goes where, as docker has it, and the copy itself, by descriptors on both sides.

    a file        over a file, into a directory, or under a name that is free
    a directory   into a directory that is there, or under a name that is free; with `/.` at its end, what is in it
"""

import os
import stat

from dolium.core import sys
from dolium.engine import tar
from dolium.engine.archive import Writer
from dolium.engine.stack import Stack
from dolium.errors import DoliumError
from dolium.sandbox import trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import IO

    from dolium.sandbox.inside import Inside

    Open = Callable[[str, int], int]
    Items = Iterator[tuple[tar.Entry, Iterable[bytes]]]
    Carried = Iterator[tuple[tar.Entry, Iterable[memoryview]]]

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
HANDLE = os.O_PATH | os.O_CLOEXEC
CARRIED = (tar.FILE, tar.DIRECTORY, tar.SYMLINK, tar.HARDLINK)


def on_host(path: str, flags: int) -> int:
    """How the paths of this host are opened.  Raises OSError."""
    return os.open(path, flags | os.O_CLOEXEC)


class Source:
    """What is copied: an open handle; its name; whether it is a directory, and then whether only what is in it is meant.

    `left_out`: what could not be taken along, filled as `items` goes on.
    """

    def __init__(self, open_: "Open", path: str, follow: bool, id_base: int = 0) -> None:
        self.path: str = path
        self.left_out: list[str] = []
        self._id_base = id_base
        plain = path.rstrip("/") or "/"
        self.contents_only: bool = path.endswith("/.") or plain in (".", "/", "..")
        self.fd: int = open_(plain, HANDLE if follow or path.endswith(("/", "/.")) else HANDLE | os.O_NOFOLLOW)
        self.is_directory: bool = stat.S_ISDIR(os.fstat(self.fd).st_mode)
        try:
            if path.endswith(("/", "/.")) and not self.is_directory:
                raise NotADirectoryError(20, os.strerror(20), path)
            if self.is_directory:
                os.close(self.fd)
                self.fd = open_(plain, DIRECTORY)
        except BaseException:
            os.close(self.fd)
            raise
        self.name: str = os.path.basename(os.path.normpath(plain)) if not self.contents_only else ""

    def items(self, prefix: bytes) -> "Items":
        """Its entries, named as if it was called `prefix`; empty: as what is in it.  Raises OSError and DoliumError."""
        found = Stack([self.fd], rootless=False, id_base=self._id_base)
        for entry, content in found.everything() if self.is_directory else [found.one(self.fd, b"")]:
            if entry.name in found.covered:
                self.left_out.append(f"what is mounted on {entry.shown()}, which can be copied by that name")
            elif entry.kind not in CARRIED:
                self.left_out.append(f"{entry.shown()} is a device or a FIFO")
                continue
            if entry.kind == tar.HARDLINK:
                entry.target = _below(prefix, entry.target)
            shown = tar.show(os.fsencode(self.path.rstrip("/.") or "/") + (b"/" if entry.name else b"") + entry.name)
            entry.name = _below(prefix, entry.name)
            yield entry, _readable(content.without_holes(entry) if content else (), shown)

    def close(self) -> None:
        """It is of no more use."""
        os.close(self.fd)


def _readable(content: "Iterable[bytes]", shown: str) -> "Iterator[bytes]":
    try:
        yield from content
    except OSError as error:
        raise DoliumError(f"cannot read {shown}: {error.strerror}") from None


def _below(prefix: bytes, name: bytes) -> bytes:
    return prefix + b"/" + name if prefix and name else prefix or name


class Target:
    """Where it goes: an open directory, and the name there (empty: into it)."""

    def __init__(self, open_: "Open", path: str, source: Source) -> None:
        self.name: bytes = b""
        self.fd: int
        plain = path.rstrip("/") or "/"
        there = _kind(open_, plain)
        if there == stat.S_IFDIR:
            self.fd = open_(plain, DIRECTORY)
            self.name = os.fsencode(source.name)
            return
        if there and (source.is_directory or path.endswith("/")):
            raise NotADirectoryError(20, os.strerror(20), path)
        if path.endswith("/") and not source.is_directory:
            raise FileNotFoundError(2, os.strerror(2), path)
        above, leaf = os.path.split(plain)
        if leaf in ("", ".", ".."):
            raise FileNotFoundError(2, os.strerror(2), path)
        self.fd = open_(above or (".", "/")[path.startswith("/")], DIRECTORY)
        self.name = os.fsencode(leaf)

    def close(self) -> None:
        """It is of no more use."""
        os.close(self.fd)


def _kind(open_: "Open", path: str) -> int:
    """The type of what is there; 0: nothing."""
    try:
        fd = open_(path, HANDLE)
    except FileNotFoundError:
        return 0
    try:
        return stat.S_IFMT(os.fstat(fd).st_mode)
    finally:
        os.close(fd)


def copy(source: Source, target: Target, *, inside: "Inside | None" = None, owners: bool = False) -> None:
    """`inside`: the container that it goes to, whose root gets all; None: to this host, to the caller.  `owners`: everything
    belongs to whom it belonged.  Raises OSError, ImageError and DoliumError; what has been copied by then stays."""
    owner = inside.owner if inside else None
    later: list[tar.Entry] = []
    trees.write(target.fd, _taken(source.items(target.name), target.fd, later if owners else None, bool(inside)), owner)
    for entry in later:
        _give(target.fd, entry, inside.id_base if inside else 0)


def _taken(items: "Items", root: int, later: "list[tar.Entry] | None", goes_in: bool) -> "Carried":
    for entry, content in items:
        if not entry.name:  # the directory that it goes into stays as it is
            continue
        _must_fit(root, entry)
        if later is not None:
            kept = tar.Entry(entry.name, entry.kind, entry.mode, entry.uid, entry.gid)
            later.append(kept)
        elif not goes_in:  # nobody is to get a program that runs as the caller
            entry.mode &= trees.MODE
        yield entry, (memoryview(piece) for piece in content)


def _must_fit(root: int, entry: tar.Entry) -> None:
    """Neither a directory nor anything else is replaced by the other.  Raises DoliumError."""
    if there := trees.in_the_way(root, entry):
        becomes = "something else" if there == trees.DIRECTORY_THERE else "one"
        raise DoliumError(f"cannot copy over {entry.shown()}: it is {there}, and would become {becomes}", hint="remove it first")


def _give(root: int, entry: tar.Entry, id_base: int) -> None:
    """To its owner, whose numbers begin at `id_base`.  Raises OSError."""
    try:
        fd = sys.open_beneath(root, entry.name, HANDLE | os.O_NOFOLLOW)
    except OSError:  # a program inside has moved it
        return
    try:
        path = f"/proc/self/fd/{fd}"
        os.chown(path, id_base + entry.uid, id_base + entry.gid)
        if entry.kind in (tar.FILE, tar.DIRECTORY):
            os.chmod(path, entry.mode)
    finally:
        os.close(fd)


def to_archive(source: Source, file: "IO[bytes]") -> None:
    """As a tar archive, under its own name.  Raises OSError, DoliumError and what writing does."""
    writer = Writer(file.write)
    for entry, content in source.items(os.fsencode(source.name)):
        writer.add(entry, content)
    writer.close()


def from_archive(file: "IO[bytes]", target: int, inside: "Inside") -> None:
    """A tar archive, compressed or not, into an open directory of a container.  Raises ImageError, OSError and DoliumError."""
    trees.write(target, _fitting(trees.read_tar(file), target), inside.owner)


def _fitting(items: "Iterable[tuple[tar.Entry, Iterable[memoryview]]]", root: int) -> "Carried":
    for entry, content in items:
        _must_fit(root, entry)
        yield entry, content
