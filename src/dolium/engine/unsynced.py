"""What the disk may not have yet: nobody waits for it while an image is fetched and unpacked.

    unsynced/BOOT/NAME   an empty file for a tree in layers/, or for a blob (`sha256:HEX`), made before that gets its name

The kernel writes it all within a minute or so, in its own time, and a process that is killed takes nothing away.  A power failure
does, and only that: what is noted under another boot is therefore not trusted.  Trees like that are removed, and made anew of their
blobs when somebody wants them; blobs are computed, and go if they are wrong.  Names come to the disk in the order in which they
were given (a journal, or a checkpoint, has it so), and a note's comes first.
"""

import os
from fcntl import LOCK_EX, flock
from time import time

from dolium.runtime import places, process

SETTLED = 60.0
"""Seconds after which the kernel has written it, as a rule: then syncfs(2) has little to wait for."""


def note(name: str) -> None:
    """A tree or a blob is about to be there.  Raises OSError."""
    where = places.below(places.below(places.data(), "unsynced"), process.boot_id())
    os.close(os.open(f"{where}/{name}", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))


def distrust() -> None:
    """Before anything that could be noted is used.  Raises OSError."""
    top = f"{places.data_path()}/unsynced"
    try:
        boots = os.listdir(top)
    except FileNotFoundError:
        return
    if any(boot != process.boot_id() for boot in boots):
        _mend(top)


def _mend(top: str) -> None:
    """What the last boot was not heard to finish; alone, so that nobody uses what goes."""
    from dolium.engine import blobs, trees

    lock = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flock(lock, LOCK_EX)
        for boot in os.listdir(top):
            if boot == process.boot_id():
                continue
            for name in os.listdir(f"{top}/{boot}"):
                if ":" not in name:
                    trees.discard(f"{places.data_path()}/layers/{name}")
                elif not blobs.is_right(name):
                    blobs.remove(name)
                os.unlink(f"{top}/{boot}/{name}")
            os.rmdir(f"{top}/{boot}")
    finally:
        os.close(lock)


def settle() -> None:
    """Where something has been noted for a while: see to it that the disk has it, and forget the notes.  Raises OSError."""
    where = f"{places.data_path()}/unsynced/{process.boot_id()}"
    try:
        found = [each.path for each in os.scandir(where) if each.stat().st_mtime < time() - SETTLED]
    except FileNotFoundError:
        return
    if found:
        from dolium.core import sys

        fd = os.open(where, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            sys.sync_file_system(fd)
        finally:
            os.close(fd)
        for each in found:
            try:
                os.unlink(each)
            except FileNotFoundError:  # another one was as fast
                pass
