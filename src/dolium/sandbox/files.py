"""Files of a Sandbox: every path is opened inside, by its own root, so that no symlink of a program there leads out."""

import os
import stat

from dolium.core import interrupts
from dolium.core.interrupts import Let
from dolium.errors import StepError
from dolium.plan.quantities import show_size
from dolium.runtime import joining

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import IO

    from dolium.plan.facts import Facts
    from dolium.sandbox.trees import Carried

READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
WRITE = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY
CHUNK = 1 << 20
EFBIG = 27


def open_path(facts: "Facts", container: int, path: str, flags: int, mode: int = 0) -> int:
    """A descriptor of a file in the container whose first process the pidfd `container` is of.  Raises OSError as open(2) does."""
    if not path or "\0" in path:
        raise FileNotFoundError(2, "a path is needed", path)
    try:
        return joining.open_path(facts, container, path, flags, mode)
    except StepError as error:
        raise OSError(error.errno_, os.strerror(error.errno_), path) from None


def read(facts: "Facts", container: int, path: str, most: int) -> bytes:
    """All of a regular file.  Raises OSError, EFBIG for one of more than `most` bytes."""
    fd = open_path(facts, container, path, READ)
    try:
        _must_be_regular(fd, path)
        data = _at_most(fd, most)
        if data is None:
            raise OSError(EFBIG, f"more than {show_size(most)}", path)
        return data
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
            view = view[os.write(fd, view[:CHUNK]) :]
            interrupts.check()
    finally:
        os.close(fd)


def names(facts: "Facts", container: int, path: str) -> "list[str]":
    """What is in a directory, sorted.  Raises OSError."""
    fd = open_path(facts, container, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return sorted(os.listdir(fd))
    finally:
        os.close(fd)


def regular(facts: "Facts", container: int, path: str, number: int, most: int) -> "tuple[dict[str, bytes], bool]":
    """The regular files in a directory that a program can fill without end: at most so many, of so many bytes together; and
    whether there was more.  Raises OSError."""
    directory = open_path(facts, container, path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    found: dict[str, bytes] = {}
    complete = True
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    fd = os.open(entry.name, READ | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
                except OSError:  # a link, a socket, or gone
                    continue
                try:
                    if not stat.S_ISREG(os.fstat(fd).st_mode):
                        continue
                    if len(found) == number:
                        return found, False
                    data = _at_most(fd, most)
                finally:
                    os.close(fd)
                if data is None:
                    complete = False
                else:
                    found[entry.name] = data
                    most -= len(data)
    finally:
        os.close(directory)
    return found, complete


def _at_most(fd: int, most: int) -> "bytes | None":
    """What is in a file, if that is no more."""
    pieces, size = [], 0
    while piece := os.read(fd, CHUNK):
        interrupts.check()
        pieces.append(piece)
        size += len(piece)
        if size > most:
            return None
    return b"".join(pieces)


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


def put(facts: "Facts", container: int, source: "str | IO[bytes]", target: str) -> None:
    """Copy a file or directory of the host, or unpack an archive.  Raises OSError and ImageError."""
    from dolium.sandbox import trees

    owner = (facts.id_base, facts.id_base) if facts.id_base else None
    endless = trees.Budget(1 << 62)
    if not isinstance(source, str):
        _put_below(facts, container, target, trees.read_tar(source), owner)
        return
    above, leaf = os.path.split(os.path.realpath(source))
    if target.endswith("/"):
        target += os.path.basename(os.path.abspath(source))
    parent = os.open(above, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if stat.S_ISDIR(os.stat(leaf or ".", dir_fd=parent).st_mode):
            _put_below(facts, container, target, trees.walk(parent, leaf or ".", b"", endless), owner)
        else:
            directory, _, name = target.rpartition("/")
            _put_below(facts, container, directory or "/", trees.walk(parent, leaf, os.fsencode(name), endless), owner)
    finally:
        os.close(parent)


def _put_below(facts: "Facts", container: int, directory: str, entries: "Carried", owner: "tuple[int, int] | None") -> None:
    from dolium.sandbox import trees

    root = open_path(facts, container, directory, os.O_RDONLY | os.O_DIRECTORY, 0o755)
    try:
        with Let():
            trees.write(root, trees.fitting(root, entries), owner)
    finally:
        os.close(root)


def get(facts: "Facts", container: int, path: str, target: "str | IO[bytes]", most: int) -> None:
    """Copy a file or directory to the host, or write it into an archive.  Raises OSError and ImageError."""
    from dolium.sandbox import trees

    fd = open_path(facts, container, path, READ)
    try:
        is_directory, budget = stat.S_ISDIR(os.fstat(fd).st_mode), trees.Budget(most)
        if not is_directory:
            _must_be_regular(fd, path)
        name = os.path.basename(path.rstrip("/")) or "root"

        def found(under: str) -> "Carried":
            return trees.walk(fd, ".", os.fsencode(under), budget) if is_directory else trees.one(fd, os.fsencode(under), budget)

        if not isinstance(target, str):
            with Let():
                trees.write_tar(target, found(name))
            return
        if target.endswith("/") or (os.path.isdir(target) and not is_directory):
            target = os.path.join(target, name)
        if is_directory:
            os.makedirs(target, exist_ok=True)
        above, leaf = (target, "") if is_directory else os.path.split(os.path.abspath(target))
        root = os.open(above, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with Let():
                trees.write(root, trees.fitting(root, found(leaf)))
        finally:
            os.close(root)
    finally:
        os.close(fd)


def _must_be_regular(fd: int, path: str) -> None:
    """A FIFO or a device of the program's could keep us waiting, or never end."""
    kind = os.fstat(fd).st_mode
    if stat.S_ISDIR(kind):
        raise IsADirectoryError(21, os.strerror(21), path)
    if not stat.S_ISREG(kind):
        raise OSError(22, "is no regular file", path)
