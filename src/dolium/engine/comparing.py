"""Two trees of files, compared: what one has that the other has not, or has otherwise."""

import os
from stat import S_IFMT, S_ISBLK, S_ISCHR, S_ISDIR, S_ISLNK, S_ISREG

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
CHUNK = 1 << 20
MOST = 20
"""Differences that are told of one tree."""


def differences(wanted: str, found: str) -> "Iterator[str]":
    """A line for each, by path, at most MOST.  Nothing of either is followed.  Raises OSError."""
    for count, each in enumerate(_walk(wanted, found)):
        if count == MOST:
            yield "and more"
            return
        yield each


def _walk(wanted: str, found: str) -> "Iterator[str]":
    waiting = [b""]
    while waiting:
        path = waiting.pop()
        one, other = (os.open(os.path.join(os.fsencode(top), path), DIRECTORY) for top in (wanted, found))
        try:
            names = {*map(os.fsencode, os.listdir(one))}, {*map(os.fsencode, os.listdir(other))}
            for name in sorted(names[0] | names[1]):
                full = path + b"/" + name if path else name
                shown = "/" + os.fsdecode(full).encode("utf-8", "backslashreplace").decode()
                if name not in names[1]:
                    yield f"{shown} is missing"
                elif name not in names[0]:
                    yield f"{shown} is in no layer"
                else:
                    what = _unlike(one, other, name)
                    if what:
                        yield f"{shown}: another {what}"
                    if what != "kind" and S_ISDIR(os.stat(name, dir_fd=one, follow_symlinks=False).st_mode):
                        waiting.append(full)
        finally:
            os.close(one)
            os.close(other)


def _unlike(one: int, other: int, name: bytes) -> str:
    """What is different, in a word; or nothing."""
    a, b = (os.stat(name, dir_fd=each, follow_symlinks=False) for each in (one, other))
    if S_IFMT(a.st_mode) != S_IFMT(b.st_mode):
        return "kind"
    if a.st_mode != b.st_mode and not S_ISLNK(a.st_mode):
        return "mode"
    if (a.st_uid, a.st_gid) != (b.st_uid, b.st_gid):
        return "owner"
    if S_ISLNK(a.st_mode):
        return "" if os.readlink(name, dir_fd=one) == os.readlink(name, dir_fd=other) else "target"
    if S_ISCHR(a.st_mode) or S_ISBLK(a.st_mode):
        return "" if a.st_rdev == b.st_rdev else "device"
    if S_ISREG(a.st_mode) and a.st_size != b.st_size:
        return "size"
    if S_ISREG(a.st_mode) or S_ISDIR(a.st_mode):
        return _inside(one, other, name, S_ISREG(a.st_mode))
    return ""


def _inside(one: int, other: int, name: bytes, is_file: bool) -> str:
    """Attributes and content."""
    first = os.open(name, FILE, dir_fd=one)
    try:
        second = os.open(name, FILE, dir_fd=other)
        try:
            attributes = [{each: os.getxattr(fd, each) for each in os.listxattr(fd)} for fd in (first, second)]
            if attributes[0] != attributes[1]:
                return "attribute"
            while is_file:
                data = os.read(first, CHUNK)
                if data != _exactly(second, len(data)):
                    return "content"
                is_file = bool(data)
            return ""
        finally:
            os.close(second)
    finally:
        os.close(first)


def _exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data
