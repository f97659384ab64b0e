"""What an overlay of directories shows at a path, looked up without mounting it (overlayfs.rst): the upper of two files hides the
lower, directories are merged down to one that is opaque, a character device 0:0 says that there is nothing.

Paths are walked by descriptors, a name at a time; symbolic links lead where they would lead in the container.
"""

import os
from errno import ELOOP, ENOENT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

O_PATH_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FORMAT, LINK, FOLDER, DEVICE, PLAIN = 0o170000, 0o120000, 0o040000, 0o020000, 0o100000
MOST_LINKS = 40
"""As the kernel follows at most, path_resolution(7)."""
OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def is_whiteout(status: os.stat_result) -> bool:
    """Whether it says that what is below has been removed."""
    return status.st_mode & FORMAT == DEVICE and status.st_rdev == 0


def is_opaque(fd: int) -> bool:
    """Whether what is in the same directory further down is hidden."""
    for name in OPAQUE:
        try:
            if os.getxattr(f"/proc/self/fd/{fd}", name) == b"y":
                return True
        except OSError:
            pass
    return False


def follow(path: bytes, step: "Callable[[list[bytes], bytes], bytes | None]") -> "list[bytes]":
    """The names that a path leads by, without links: `step` is given those before a name, and the name, and says where the link of
    that name leads, None for what is no link.  Raises OSError for too many, and what `step` raises."""
    todo, links = path.split(b"/")[::-1], 0
    done: list[bytes] = []
    while todo:
        part = todo.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            done = done[:-1]
            continue
        target = step(done, part)
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > MOST_LINKS:
            raise OSError(ELOOP, os.strerror(ELOOP))
        done = [] if target.startswith(b"/") else done
        todo += target.split(b"/")[::-1]
    return done


class Found:
    """A name in one of the layers: the descriptor of its directory there, which `close` closes, and what it is."""

    __slots__ = ("directory", "name", "status")

    def __init__(self, directory: int, name: bytes, status: os.stat_result) -> None:
        self.directory = directory
        self.name = name
        self.status = status

    def close(self) -> None:
        """Its directory is of no more use."""
        os.close(self.directory)


class Layers:
    """Trees in one another's place, `paths` from the lowest to the uppermost; all is opened by name when it is looked for."""

    def __init__(self, paths: "Iterable[str]") -> None:
        self.paths = [*paths]

    def look(self, parts: "list[bytes]") -> "Found | None":
        """What is at a path, none of whose directories is a symbolic link; None where nothing is.  Close it.  Raises OSError."""
        held = [os.open(path, O_PATH_DIRECTORY) for path in reversed(self.paths)]
        try:
            for part in parts[:-1]:
                below = []
                try:
                    for each in held:
                        status = _status(part, each)
                        if status is None:
                            continue
                        if status.st_mode & FORMAT != FOLDER:
                            break
                        below.append(os.open(part, O_PATH_DIRECTORY, dir_fd=each))
                        if is_opaque(below[-1]):
                            break
                finally:
                    _close(held)
                    held = below
            leaf = parts[-1] if parts else b"."
            for each in held:
                if status := _status(leaf, each):
                    return None if is_whiteout(status) else Found(os.dup(each), leaf, status)
            return None
        finally:
            _close(held)

    def resolve(self, path: bytes) -> "Found | None":
        """What is at a path as a program in the container would open it: symbolic links are followed.  Raises OSError."""
        def step(done: "list[bytes]", part: bytes) -> "bytes | None":
            found = self.look([*done, part])
            if found is None:
                raise FileNotFoundError(ENOENT, os.strerror(ENOENT))
            try:
                return os.readlink(found.name, dir_fd=found.directory) if found.status.st_mode & FORMAT == LINK else None
            finally:
                found.close()

        try:
            names = follow(path, step)
        except FileNotFoundError:
            return None
        return self.look(names)

    def read(self, path: str, most: int) -> "bytes | None":
        """At most so many bytes of a regular file; None where there is none.  Raises OSError."""
        found = self.resolve(path.encode())
        if found is None:
            return None
        try:
            if found.status.st_mode & FORMAT != PLAIN:
                return None
            fd = os.open(found.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=found.directory)
        finally:
            found.close()
        with open(fd, "rb") as file:
            return file.read(most)


def _status(name: bytes, directory: int) -> "os.stat_result | None":
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _close(descriptors: "list[int]") -> None:
    for each in descriptors:
        os.close(each)
