"""Write the entries of an archive below one directory, by descriptors: names are split here, never joined, parents are walked by
openat2(RESOLVE_IN_ROOT), and the last name is made new (O_EXCL) or replaced, never followed or written through.

`..` is refused; `/` at the beginning means the rootfs, as docker and tar have it; a parent that is a symbolic link leads where it
would lead in the container.  An entry replaces what had its name; a directory keeps what is in it.
"""

import os

from dolium.core.sys import open_in_root
from dolium.engine import erase, tar
from dolium.errors import ImageError
from dolium.plan.quantities import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

MOST_ENTRIES = 4_000_000
"""Of one archive, with the directories that it takes for granted; a whole desktop with all sources has one million."""
MOST_BYTES = 1 << 40
MOST_PATH = 4096
"""PATH_MAX: no program could name it."""
LEAST_FREE = 256 << 20
"""Bytes that stay free (or 1/20 of a small file system): who fills a disk takes more down than one container."""
STRIDE, STRIDE_ENTRIES = 64 << 20, 4096
"""The disk is looked at after so many bytes, or as many as are free, and entries."""
MOST_OPEN = 64
"""Directories that are kept open; tar archives go through a tree in its order, so few are opened twice."""

EPERM, ENOTDIR, EINVAL, ENOSPC, ELOOP, EOPNOTSUPP, EDQUOT = 1, 20, 22, 28, 40, 95, 122
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
S_ISGID, S_IFCHR, S_IFBLK = 0o2000, 0o020000, 0o060000
MAJORS, MINORS = 1 << 12, 1 << 20
"""How many device numbers there are, makedev(3)."""


class Directory:
    """One that is open; `mtime` is what it will have when it is closed, whatever is made in it; `gives_group`: files in it get
    its group (set-group-ID)."""

    __slots__ = ("fd", "mtime", "gives_group")

    def __init__(self, fd: int, status: os.stat_result) -> None:
        self.fd = fd
        self.mtime = status.st_mtime_ns
        self.gives_group = bool(status.st_mode & S_ISGID)


class Unpacker:
    """Writes below the directory `root`, an open descriptor.  `own`: everything belongs to the caller, who is not root, and can
    be removed by him; else owners are as in the archive.

    entries, size  made so far, and their bytes;  no_devices  how many devices were left out, for want of the right to make them
    """

    def __init__(self, root: int, image: str, own: bool) -> None:
        self.image = image
        self.own = own
        self.entries = 0
        self.size = 0
        self.no_devices = 0
        self._root = root
        self._open: dict[bytes, Directory] = {}
        self._known: dict[tuple[int, int], Directory] = {}
        self._next_look = 0
        self._look(0)

    def add(self, entry: tar.Entry, content: "Iterable[memoryview]") -> None:
        """Make it.  Raises ImageError, which names the entry, for what cannot or must not be made."""
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            self._refuse(entry, f"the archive has more than {MOST_ENTRIES} entries", YOURS)
        try:
            if self.entries % STRIDE_ENTRIES == 0 or entry.stored > STRIDE:
                self._look(entry.stored)
            if len(self._open) > MOST_OPEN:
                self.flush()
            self._put(entry, self._path(entry, entry.name), content)
        except OSError as error:
            hint = {ENOSPC: ROOM, EDQUOT: ROOM, EOPNOTSUPP: ATTRIBUTES}.get(error.errno or 0, "")
            if error.errno == EINVAL and not self.own:
                hint = f"does its owner, {entry.uid}:{entry.gid}, have an id in the user namespace that dolium runs in?"
            self._refuse(entry, error.strerror or str(error), hint)

    def _put(self, entry: tar.Entry, path: bytes, content: "Iterable[memoryview]") -> None:
        if entry.kind == tar.DIRECTORY:
            self._directory(entry, path)
        elif not path:
            self._refuse(entry, "no name")
        elif entry.kind == tar.FILE:
            self._file(entry, path, content)
        elif entry.kind == tar.HARDLINK:
            self._hardlink(entry, path)
        else:
            self._special(entry, path)

    def _refuse(self, entry: tar.Entry, problem: str, hint: str = "") -> "NoReturn":
        raise ImageError(self.image, problem, entry=entry.shown(), hint=hint) from None

    def _path(self, entry: tar.Entry, name: bytes) -> bytes:
        """Relative, and clean; empty for the rootfs itself."""
        if len(name) > MOST_PATH:
            self._refuse(entry, f"a name of {len(name)} bytes, and {MOST_PATH} is the most")
        parts = [each for each in name.split(b"/") if each and each != b"."]
        if b".." in parts:
            self._refuse(entry, "`..` would lead out of the rootfs" + (f", in {tar.show(name)}" if name != entry.name else ""))
        return b"/".join(parts)

    def _look(self, wanted: int) -> None:
        """At the disk.  Raises ImageError where it would be full."""
        there = os.fstatvfs(self._root)
        free, reserve = there.f_bavail * there.f_frsize, min(LEAST_FREE, there.f_blocks * there.f_frsize // 20)
        if wanted + reserve > free or (there.f_files and there.f_favail < STRIDE_ENTRIES // 4):
            raise ImageError(self.image, f"the disk would be full: {show_size(free)} are free", hint=ROOM)
        self._next_look = self.size + min(STRIDE, free - reserve)

    # ---- directories on the way

    def _parent(self, path: bytes) -> "tuple[Directory, bytes]":
        """The directory of a path, made if need be, and the last name."""
        above, _, leaf = path.rpartition(b"/")
        found = self._open.get(above)
        if found is None:
            try:
                found = self._enter(above)
            except FileNotFoundError:
                self._make(above)
                found = self._enter(above)
        return found, leaf

    def _enter(self, path: bytes) -> Directory:
        """Open one that is there."""
        found = self._open.get(path)
        return found or self._keep(path, open_in_root(self._root, path or b".", DIRECTORY))

    def _keep(self, path: bytes, fd: int) -> Directory:
        """Known by its inode too: symbolic links give one directory several names, and it has one time."""
        status = os.fstat(fd)
        found = self._known.get((status.st_dev, status.st_ino))
        if found:
            os.close(fd)
        else:
            found = self._known[status.st_dev, status.st_ino] = Directory(fd, status)
        self._open[path] = found
        return found

    def _make(self, path: bytes) -> None:
        """Directories that the archive takes for granted: root's, mode 755."""
        missing = []
        while True:
            path, _, leaf = path.rpartition(b"/")
            missing.append(leaf)
            try:
                fd = os.dup(self._enter(path).fd)
                break
            except FileNotFoundError:
                pass
        try:
            for leaf in reversed(missing):
                self.entries += 1  # counted: one entry with a long name makes two thousand
                os.mkdir(leaf, 0o755, dir_fd=fd)
                below = os.open(leaf, DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
                os.close(fd)
                fd = below
                if not self.own:
                    os.fchown(fd, 0, 0)
                os.fchmod(fd, 0o755)
        finally:
            os.close(fd)

    def flush(self) -> None:
        """Close all directories, which have their times now.  Raises OSError."""
        known, self._known, self._open = self._known, {}, {}
        failed: OSError | None = None
        for each in known.values():
            try:
                os.utime(each.fd, ns=(each.mtime, each.mtime))
            except OSError as error:
                if not self.own or error.errno != EPERM:  # others' that was there before, such as /tmp
                    failed = error
            os.close(each.fd)
        if failed:
            raise failed

    # ---- the entry itself

    def _anew(self, path: bytes, make: "Callable[[bytes, int], int]") -> "tuple[Directory, bytes, int]":
        """Have it made, of its last name and the descriptor of its directory, in place of whatever is there."""
        parent, leaf = self._parent(path)
        try:
            return parent, leaf, make(leaf, parent.fd)
        except FileExistsError:
            parent, leaf = self._clear(path)
            return parent, leaf, make(leaf, parent.fd)

    def _clear(self, path: bytes) -> "tuple[Directory, bytes]":
        """Remove what has the name of an entry, with all that is in it; its directory and its last name.  A name that leads
        elsewhere now makes all open directories doubtful."""
        parent, leaf = self._parent(path)
        try:
            os.unlink(leaf, dir_fd=parent.fd)
        except IsADirectoryError:
            erase.tree(leaf, parent.fd)
        self.flush()
        return self._parent(path)

    def _directory(self, entry: tar.Entry, path: bytes) -> None:
        found = self._keep(path, self._enter_or_make(path)) if path else self._enter(path)
        self._settle(found.fd, entry, always=True)
        found.mtime = entry.mtime
        found.gives_group = bool(entry.mode & S_ISGID)

    def _enter_or_make(self, path: bytes) -> int:
        parent, leaf = self._parent(path)
        try:
            os.mkdir(leaf, 0o700, dir_fd=parent.fd)
        except FileExistsError:
            try:
                return os.open(leaf, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent.fd)
            except OSError as error:
                if error.errno not in (ENOTDIR, ELOOP):
                    raise
            parent, leaf = self._clear(path)
            os.mkdir(leaf, 0o700, dir_fd=parent.fd)
            fd = os.open(leaf, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent.fd)
            self._is_new(fd)
            return fd
        return os.open(leaf, DIRECTORY | os.O_NOFOLLOW, dir_fd=parent.fd)

    def _is_new(self, fd: int) -> None:
        """Told of a directory where something else was (engine/whiteouts.py)."""

    def _file(self, entry: tar.Entry, path: bytes, content: "Iterable[memoryview]") -> None:
        parent, _, fd = self._anew(path, _new_file)
        places = None if entry.pieces is None else _Places(fd, entry.pieces)
        try:
            for piece in content:
                if self.size + len(piece) > self._next_look:
                    if self.size > MOST_BYTES:
                        self._refuse(entry, f"with it the archive has more than {show_size(MOST_BYTES)}", YOURS)
                    self._look(len(piece))
                self.size += len(piece)
                if places:
                    piece = places.write(piece)
                while piece:
                    piece = piece[os.write(fd, piece) :]
            if places:
                os.ftruncate(fd, entry.size)
            self._settle(fd, entry, always=parent.gives_group)
            os.utime(fd, ns=(entry.mtime, entry.mtime))
        finally:
            os.close(fd)

    def _settle(self, fd: int, entry: tar.Entry, always: bool) -> None:
        """Owner, attributes, mode, in this order: a change of owner takes set-user-ID and capabilities away, chown(2)."""
        mode = entry.mode
        if not self.own and (always or entry.uid or entry.gid):
            os.fchown(fd, entry.uid, entry.gid)
        for name, value in entry.xattrs.items():
            own = name.startswith(b"user.") and not name.startswith(b"user.overlay.")
            if own or (name == b"security.capability" and not self.own):
                os.setxattr(fd, name, value)
        if self.own and entry.kind == tar.DIRECTORY:
            mode |= 0o700
        os.fchmod(fd, mode)

    def _hardlink(self, entry: tar.Entry, path: bytes) -> None:
        """A second name, of a file of this rootfs only; of a symbolic link, the link itself."""
        target = self._path(entry, entry.target)
        missing = f"it is a hard link to {tar.show(entry.target)}, and no file before it has that name"
        found = self._target(target)
        if found is None:
            self._refuse(entry, missing)
        target, source, status = found
        name = target.rpartition(b"/")[2]
        if status.st_mode & 0o170000 == 0o040000:
            self._refuse(entry, f"it is a hard link to {tar.show(entry.target)}, which is a directory")
        parent, leaf = self._parent(path)
        try:
            os.link(name, leaf, src_dir_fd=source.fd, dst_dir_fd=parent.fd, follow_symlinks=False)
        except FileExistsError:
            there = os.stat(leaf, dir_fd=parent.fd, follow_symlinks=False)
            if (there.st_dev, there.st_ino) == (status.st_dev, status.st_ino):
                return
            self._clear(path)
            try:  # the target may have been in what is gone now
                source, parent = self._enter(target.rpartition(b"/")[0]), self._parent(path)[0]
                os.link(name, leaf, src_dir_fd=source.fd, dst_dir_fd=parent.fd, follow_symlinks=False)
            except FileNotFoundError:
                self._refuse(entry, missing)

    def _target(self, path: bytes) -> "tuple[bytes, Directory, os.stat_result] | None":
        """Of a hard link: its path, its directory, and what it is; None where it is not there."""
        try:
            source = self._enter(path.rpartition(b"/")[0])
            return path, source, os.stat(path.rpartition(b"/")[2] or b".", dir_fd=source.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None

    def _special(self, entry: tar.Entry, path: bytes) -> None:
        if entry.kind == tar.SYMLINK and not entry.target:
            self._refuse(entry, "a symbolic link to nothing")
        parent, leaf, made = self._anew(path, lambda name, directory: self._node(entry, name, directory))
        if not made:
            return
        if not self.own and (entry.uid or entry.gid or parent.gives_group):
            os.chown(leaf, entry.uid, entry.gid, dir_fd=parent.fd, follow_symlinks=False)
        if entry.kind != tar.SYMLINK:
            os.chmod(leaf, entry.mode, dir_fd=parent.fd)
        os.utime(leaf, ns=(entry.mtime, entry.mtime), dir_fd=parent.fd, follow_symlinks=False)

    def _node(self, entry: tar.Entry, name: bytes, directory: int) -> int:
        """Whether it could be made.  Containers cannot open a device, for their overlay is mounted nodev, and other users of
        the host cannot reach it (docs/decisions/0016-unpacked-tarballs.md)."""
        if entry.kind == tar.SYMLINK:
            os.symlink(entry.target, name, dir_fd=directory)
            return True
        if entry.kind == tar.FIFO:
            os.mkfifo(name, 0o600, dir_fd=directory)
            return True
        major, minor = entry.device
        if not (0 <= major < MAJORS and 0 <= minor < MINORS):
            self._refuse(entry, f"a device with the number {major}:{minor}")
        kind = S_IFCHR if entry.kind == tar.CHARACTER else S_IFBLK
        try:
            if (kind, major, minor) != (S_IFCHR, 0, 0):  # that is how overlayfs says that a file was removed
                os.mknod(name, 0o600 | kind, os.makedev(major, minor), dir_fd=directory)
                return True
        except PermissionError:
            self.no_devices += 1
        return False


class _Places:
    """Where in a sparse file what comes is to be written."""

    def __init__(self, fd: int, pieces: "list[tuple[int, int]]") -> None:
        self._fd = fd
        self._pieces = iter(pieces)
        self._at = self._left = 0

    def write(self, data: memoryview) -> memoryview:
        """All of it, each part in its place; what is left: nothing."""
        while data:
            while not self._left:
                self._at, self._left = next(self._pieces)
            done = os.pwrite(self._fd, data[: self._left], self._at)
            data = data[done:]
            self._at += done
            self._left -= done
        return data


def _new_file(name: bytes, directory: int) -> int:
    return os.open(name, NEW, 0o600, dir_fd=directory)


YOURS = "if it is yours, unpack it with tar and name the directory"
ROOM = "make room; `dolium prune` removes what no container uses"
ATTRIBUTES = "the file system that it is unpacked to keeps no extended attributes (tmpfs has those of users since Linux 6.6)"
