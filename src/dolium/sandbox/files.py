"""Files of a Sandbox: every path is opened inside, by its own root, so that no symlink of a program there leads out."""

import os
import stat

from dolium.errors import StepError
from dolium.runtime import joining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dolium.plan.facts import Facts

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY
CHUNK = 1 << 20


def open_path(facts: "Facts", container: int, path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of a file in the container whose first process the pidfd `container` is of.  Raises OSError as open(2) does."""
    if not path or "\0" in path:
        raise FileNotFoundError(2, "a path is needed", path)
    try:
        return joining.open_path(facts, container, path, flags, mode)
    except StepError as error:
        raise OSError(error.errno_, os.strerror(error.errno_), path) from None


def read(facts: "Facts", container: int, path: str) -> bytes:
    """All of a regular file.  Raises OSError."""
    fd = open_path(facts, container, path, READ)
    try:
        _must_be_regular(fd, path)
        pieces = []
        while piece := os.read(fd, CHUNK):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def write(facts: "Facts", container: int, path: str, data: bytes, mode: int) -> None:
    """Make a regular file, with the directories above it, or write it anew.  Raises OSError."""
    fd = open_path(facts, container, path, WRITE, mode)
    try:
        _must_be_regular(fd, path)
        os.fchmod(fd, mode)
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)


def names(facts: "Facts", container: int, path: str) -> "list[str]":
    """What is in a directory, sorted.  Raises OSError."""
    fd = open_path(facts, container, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def exists(facts: "Facts", container: int, path: str) -> bool:
    """Whether a path leads to something.  Raises OSError for what cannot be looked at."""
    try:
        os.close(open_path(facts, container, path, os.O_PATH))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def remove(facts: "Facts", container: int, path: str) -> None:
    """A file, or a directory with all in it.  Raises OSError."""
    above, _, leaf = path.rstrip("/").rpartition("/")
    if leaf in ("", ".", ".."):
        raise OSError(22, "cannot be removed", path)
    parent = open_path(facts, container, above or "/", os.O_PATH | os.O_DIRECTORY)
    try:
        if stat.S_ISDIR(os.stat(leaf, dir_fd=parent, follow_symlinks=False).st_mode):
            import shutil

            shutil.rmtree(leaf, dir_fd=parent)  # by descriptors, as long as shutil.rmtree.avoids_symlink_attacks
        else:
            os.unlink(leaf, dir_fd=parent)
    except OSError as error:
        error.filename = path
        raise
    finally:
        os.close(parent)


def _must_be_regular(fd: int, path: str) -> None:
    """A FIFO or a device of the program's could keep us waiting, or never end."""
    kind = os.fstat(fd).st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(21, os.strerror(21), path)
    if not stat.S_ISREG(kind):
        raise OSError(22, "is no regular file", path)
