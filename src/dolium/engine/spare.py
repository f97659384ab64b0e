"""Room on the disk that nobody else gets: to remove images the database must write, also where the disk is full.

    images/spare   so many bytes, which go when a write finds no room, and come back once there is some
"""

import os

SIZE = 1 << 20
"""Bytes: the database's journal and what processes share of it (SQLite, "WAL-mode File Format"), many times."""


def keep(top: str) -> None:
    """Have the room, unless the disk is full."""
    path = f"{top}/spare"
    if os.path.exists(path):
        return
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, SIZE)
        finally:
            os.close(fd)
    except OSError:
        give(top)


def give(top: str) -> bool:
    """Give it back, where the disk is full: whether there is room now."""
    try:
        if is_full(top):
            os.unlink(f"{top}/spare")
            return True
    except FileNotFoundError:
        pass
    return False


def is_full(top: str) -> bool:
    """Whether a small file would not fit on the file system of a directory."""
    there = os.statvfs(top)
    return there.f_bavail * there.f_frsize < SIZE // 2
