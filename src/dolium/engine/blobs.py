"""Blobs: bytes that are named by their digest, kept as an OCI image layout keeps them.

    images/blobs/sha256/HEX      whole and verified, there by rename
    images/partial/sha256-HEX    on its way in: locked (flock) by who writes it, left by who was cut off, resumed by the next

What is under a name has that digest: it is computed while the bytes come, and what is wrong is never renamed into place.
"""

import os
from fcntl import LOCK_EX, LOCK_NB, flock

from dolium.errors import ImageError
from dolium.plan.quantities import quoted
from dolium.runtime import places

try:  # the C half alone: hashlib loads OpenSSL, which takes longer than the digest of a manifest
    from _sha2 import sha256  # type: ignore[import-not-found,unused-ignore]
except ImportError:
    try:
        from _sha256 import sha256  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from hashlib import sha256  # type: ignore[assignment,unused-ignore]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

LENGTHS = {"sha256": 64, "sha512": 128}
"""Hexadecimal digits of the digests that image-spec registers."""
WHOLE = 1 << 20
MOST_SIZE = 1 << 40
EISDIR, EOPNOTSUPP = 21, 95
HEX = "0123456789abcdef"


def parts(digest: str) -> "tuple[str, str]":
    """Algorithm and hexadecimal digits of a digest, `sha256:HEX` or `sha512:HEX`.  Raises ImageError."""
    algorithm, _, digits = digest.partition(":")
    if LENGTHS.get(algorithm) != len(digits) or digits.strip(HEX):
        raise ImageError(quoted(digest), "it is no sha256 or sha512 digest", action="use")
    return algorithm, digits


def path(digest: str) -> str:
    """Where the blob of that digest is, or would be; the directories are made.  Raises ImageError and OSError."""
    algorithm, digits = parts(digest)
    top = places.below(_top(), "blobs")
    return f"{places.below(top, algorithm)}/{digits}"


def _top() -> str:
    return places.below(places.data(), "images")


def has(digest: str) -> bool:
    """Whether that blob is there, whole."""
    return os.path.isfile(path(digest))


def size(digest: str) -> int:
    """Bytes of a blob that is there.  Raises ImageError."""
    try:
        return os.stat(path(digest)).st_size
    except FileNotFoundError:
        _missing(digest)


def open_blob(digest: str) -> int:
    """A descriptor of a blob, to read it.  Raises ImageError where it is not there."""
    try:
        return os.open(path(digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        _missing(digest)


def read(digest: str, most: int) -> bytes:
    """A small blob, which has at most so many bytes and still has its digest.  Raises ImageError."""
    fd = open_blob(digest)
    try:
        data = b""
        while len(data) <= most and (piece := os.read(fd, WHOLE)):
            data += piece
    finally:
        os.close(fd)
    if len(data) > most:
        raise ImageError(f"blob {digest}", f"it has more than {most} bytes", action="read")
    if digest_of(data, parts(digest)[0]) != digest:
        raise ImageError(f"blob {digest}", "it has been changed since it was stored", action="read", hint=DAMAGED)
    return data


def is_right(digest: str) -> bool:
    """Whether a blob is there, and has its digest.  Raises OSError and ImageError."""
    found = _new(parts(digest)[0])
    try:
        with open(path(digest), "rb") as file:
            while data := file.read(WHOLE):
                found.update(data)
    except FileNotFoundError:
        return False
    return f"{parts(digest)[0]}:{found.hexdigest()}" == digest


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    """`sha256:HEX` of bytes."""
    return f"{algorithm}:{(sha256(data) if algorithm == 'sha256' else _new(algorithm, data)).hexdigest()}"


def _new(algorithm: str, data: bytes = b"") -> "Any":
    """A sum for much."""
    from hashlib import new

    return new(algorithm, data)


def put(data: bytes) -> str:
    """Store bytes, whole or not at all; their digest.  Raises OSError, and ImageError where it is there with another size."""
    digest = digest_of(data)
    if has(digest):
        _check_size(digest, len(data))
    else:
        with Fresh() as fresh:
            fresh.write(data)
            fresh.commit()
    return digest


def every() -> "Iterator[tuple[str, int]]":
    """Digest and bytes of each blob that is there."""
    for algorithm in LENGTHS:
        top = os.path.dirname(path(f"{algorithm}:{'0' * LENGTHS[algorithm]}"))
        for entry in os.scandir(top):
            if len(entry.name) == LENGTHS[algorithm] and not entry.name.strip(HEX):
                yield f"{algorithm}:{entry.name}", entry.stat(follow_symlinks=False).st_size


def remove(digest: str) -> None:
    """Remove a blob that nothing needs (images.collect knows)."""
    try:
        os.unlink(path(digest))
    except FileNotFoundError:
        pass


def forget_partial() -> "Iterator[tuple[str, int]]":
    """Remove what was left of downloads that nobody goes on with now: digest and bytes of each."""
    top = places.below(_top(), "partial")
    for name in os.listdir(top):
        try:
            fd = os.open(f"{top}/{name}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            flock(fd, LOCK_EX | LOCK_NB)
            left = os.fstat(fd).st_size
            os.unlink(f"{top}/{name}")
            yield name.replace("-", ":"), left
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            os.close(fd)


def ingest(digest: str, size: int) -> "Writer":
    """A writer for the blob of that digest and so many bytes, which waits while another process, or thread, writes it.

    Raises ImageError for what is no digest or size, and OSError.
    """
    target = path(digest)
    if not 0 <= size <= MOST_SIZE:
        raise ImageError(f"blob {digest}", f"a size of {size} bytes", action="store")
    partial = f"{places.below(_top(), 'partial')}/{digest.replace(':', '-')}"
    while not os.path.isfile(target):
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            flock(fd, LOCK_EX)
            if _is_at(fd, partial):  # else it was finished, or given up, while we waited
                return Writer(digest, size, fd, partial, target)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    _check_size(digest, size)
    return Writer(digest, size, -1, partial, target)


def _check_size(digest: str, claimed: int) -> None:
    found = os.stat(path(digest)).st_size
    if found != claimed:
        raise ImageError(f"blob {digest}", f"it has {found} bytes, and {claimed} are claimed", action="store")


def _is_at(fd: int, name: str) -> bool:
    try:
        there = os.stat(name, follow_symlinks=False)
    except FileNotFoundError:
        return False
    ours = os.fstat(fd)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


class Writer:
    """Takes the bytes of one blob, from `offset` on.  `done`: it is there, and nothing is to be written."""

    __slots__ = ("digest", "size", "offset", "done", "_fd", "_partial", "_target", "_sum")

    def __init__(self, digest: str, size: int, fd: int, partial: str, target: str) -> None:
        self.digest = digest
        self.size = size
        self.done = fd < 0
        self.offset = size if self.done else 0
        self._fd = fd
        self._partial = partial
        self._target = target
        self._sum = _new(parts(digest)[0])
        if not self.done:
            self._resume()

    def _resume(self) -> None:
        """Take into the sum what one before us has written; too much of it was for another claim of the size."""
        if os.fstat(self._fd).st_size > self.size:
            os.ftruncate(self._fd, 0)
        while data := os.read(self._fd, WHOLE):
            self._sum.update(data)
            self.offset += len(data)

    def restart(self) -> None:
        """Begin anew: whoever sends it cannot go on in the middle."""
        os.ftruncate(self._fd, 0)
        os.lseek(self._fd, 0, os.SEEK_SET)
        self._sum = _new(parts(self.digest)[0])
        self.offset = 0

    def write(self, data: "bytes | memoryview") -> None:
        """Add bytes.  Raises ImageError for too many, then nothing is left; and OSError."""
        if self.offset + len(data) > self.size:
            self._give_up(f"it has more than the {self.size} bytes that are claimed")
        self._sum.update(data)
        rest = memoryview(data)
        while rest:
            written = os.write(self._fd, rest)
            rest = rest[written:]
            self.offset += written

    def reader(self) -> int:
        """A descriptor to read what has been written, from the beginning.  Raises OSError."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    def is_right(self) -> bool:
        """Whether all of it has come, with its digest."""
        return self.done or (self.offset == self.size and f"{parts(self.digest)[0]}:{self._sum.hexdigest()}" == self.digest)

    def commit(self, durable: bool = True) -> None:
        """It is whole: put it in its place; `durable`: not before the disk has it, else engine/unsynced.py knows.  Raises
        ImageError for a wrong size, which may be resumed, or a wrong digest, of which nothing is left; and OSError."""
        if self.done:
            return
        if self.offset < self.size:
            raise ImageError(f"blob {self.digest}", f"it ended after {self.offset} of {self.size} bytes", action="store")
        if not self.is_right():
            self._give_up(f"what came has the digest {parts(self.digest)[0]}:{self._sum.hexdigest()}")
        if durable:
            os.fsync(self._fd)
        else:
            from dolium.engine import unsynced

            unsynced.note(self.digest)
        os.rename(self._partial, self._target)
        if durable:
            sync_directory(os.path.dirname(self._target))
        self.done = True
        self.close()

    def _give_up(self, problem: str) -> "NoReturn":
        os.unlink(self._partial)
        self.close()
        raise ImageError(f"blob {self.digest}", problem, action="store")

    def close(self) -> None:
        """Let others at it; what is not whole stays for whoever resumes it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Fresh:
    """Takes the bytes of a blob whose digest comes with the last of them; used with `with`, at whose end nothing is kept of what
    was not committed.

    size  bytes so far;  digest  after `commit`
    """

    __slots__ = ("size", "digest", "_fd", "_partial", "_sum")

    def __init__(self) -> None:
        self.size = 0
        self.digest = ""
        self._partial = ""
        self._sum = _new("sha256")
        top = places.below(_top(), "partial")
        try:
            self._fd = os.open(top, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (EISDIR, EOPNOTSUPP):  # a file system that has no files without names, open(2)
                raise
            self._partial = f"{top}/new-{os.urandom(8).hex()}"
            self._fd = os.open(self._partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            flock(self._fd, LOCK_EX)  # whoever collects leaves it alone

    def write(self, data: "bytes | memoryview") -> None:
        """Add bytes.  Raises OSError."""
        self._sum.update(data)
        self.size += len(data)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._fd, rest) :]

    def reader(self) -> int:
        """A descriptor to read what has been written, from the beginning.  Raises OSError."""
        return os.open(f"/proc/self/fd/{self._fd}", os.O_RDONLY | os.O_CLOEXEC)

    def commit(self) -> str:
        """Put it in its place; its digest.  Raises OSError."""
        self.digest = f"sha256:{self._sum.hexdigest()}"
        target = path(self.digest)
        os.fsync(self._fd)
        try:
            os.link(f"/proc/self/fd/{self._fd}", target, src_dir_fd=self._fd, follow_symlinks=True)
        except FileExistsError:  # with the same bytes
            pass
        sync_directory(os.path.dirname(target))
        return self.digest

    def __enter__(self) -> "Fresh":
        return self

    def __exit__(self, *_: object) -> None:
        if self._partial:
            os.unlink(self._partial)
        os.close(self._fd)


def sync_directory(name: str) -> None:
    """Wait until the disk has the names in it.  Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _missing(digest: str) -> "NoReturn":
    raise ImageError(f"blob {digest}", "it is not in the store", action="read", hint=DAMAGED)


DAMAGED = "dolium image verify says what is damaged; pull the image anew"
