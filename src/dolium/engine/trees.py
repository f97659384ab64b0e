"""Directories that hold what was unpacked: whole, or not there.

    NAME/tree        the files, there when they are all there
    NAME/about.json  of what, how many, how large
    NAME/new         files on their way in or out

Who unpacks or removes one holds it (flock, exclusive), who needs it shares it.  One without `tree` that nobody holds is the trace
of a dolium that was killed.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock

from dolium.engine import store
from dolium.errors import DoliumError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dolium.engine.images import Image

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Use:
    """A tarball or an image that is unpacked, and will not be removed before `close`.

    digest  what it is remembered by (rootfs.find);  image  where it is one;  notes  what the caller should be told
    """

    __slots__ = ("digest", "image", "notes", "_lock")

    def __init__(self, digest: str, lock: int, notes: "list[str]", image: "Image | None" = None) -> None:
        self.digest: str = digest
        self.image: Image | None = image
        self.notes: list[str] = notes
        self._lock = lock

    def close(self) -> None:
        """It may go, as far as we are concerned."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def lock(path: str, how: int) -> int:
    """A descriptor that holds a directory; -1 where it is gone, or somebody's and not to be waited for."""
    try:
        fd = os.open(path, DIRECTORY)
    except FileNotFoundError:
        return -1
    try:
        flock(fd, how)
        if os.fstat(fd).st_nlink:
            return fd
    except BlockingIOError:
        pass
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return -1


def share(path: str) -> int:
    """Keep it from being removed; -1 where it is not there.  Waits for whoever unpacks it."""
    held = lock(path, LOCK_SH)
    if held >= 0 and not os.path.isdir(f"{path}/tree"):
        os.close(held)
        return -1
    return held


def make(path: str, fill: "Callable[[str], dict[str, Any]]", durable: bool = True) -> None:
    """Have `fill` make a directory with the files in it, and say what is to be remembered of them; all of it or nothing.  It may be
    there already: somebody was faster; or gone again.  `durable`: `fill` has waited for the disk, else engine/unsynced.py knows."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    held = lock(path, LOCK_EX)
    if held < 0 or os.path.isdir(f"{path}/tree"):
        if held >= 0:
            os.close(held)
        return
    try:
        erase(f"{path}/new")  # of one that was killed
        store.write(f"{path}/about.json", fill(f"{path}/new"), durable)
        if not durable:
            from dolium.engine import unsynced

            unsynced.note(os.path.basename(path))
        os.rename(f"{path}/new", f"{path}/tree")
        if durable:
            os.fsync(held)
    except BaseException:
        erase(path)
        raise
    finally:
        os.close(held)


def erase(path: str) -> None:
    """Remove a directory with all that is in it; one that is not there has gone already."""
    if os.path.lexists(path):
        from dolium.engine import erase as eraser

        eraser.tree(path)


def mend(path: str) -> None:
    """Remove what one that was killed has left."""
    if not os.path.isdir(f"{path}/tree") and (held := lock(path, LOCK_EX | LOCK_NB)) >= 0:
        try:
            if not os.path.isdir(f"{path}/tree"):
                erase(path)
        finally:
            os.close(held)


def discard(path: str) -> None:
    """Remove one that is not to be trusted, whoever names it."""
    held = lock(path, LOCK_EX)
    if held >= 0:
        try:
            if os.path.isdir(f"{path}/tree"):
                erase(f"{path}/new")
                os.rename(f"{path}/tree", f"{path}/new")
            erase(path)
        finally:
            os.close(held)


def remove(path: str, is_used: "Callable[[], bool]") -> "int | None":
    """Remove one that nobody holds and that is not used, asked while it is held: its bytes; None where it stays."""
    held = lock(path, LOCK_EX | LOCK_NB)
    if held < 0:
        return None
    try:
        if is_used():
            return None
        try:
            size: int = store.read(f"{path}/about.json").get("size", 0)
        except DoliumError:  # another version's
            size = 0
        if os.path.isdir(f"{path}/tree"):
            os.rename(f"{path}/tree", f"{path}/new")  # from here on it is a trace
        erase(path)
        return size
    finally:
        os.close(held)
