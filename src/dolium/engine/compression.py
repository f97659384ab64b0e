"""The bytes in a compressed file, in order and each once: what compressed it is told by its first bytes, never by its name."""

import os
import zlib

from dolium.errors import ImageError, Unsupported
from dolium.plan.quantities import show_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, NoReturn

PACKED, UNPACKED = 1 << 17, 1 << 18
"""Bytes read, and made of them, at a time: what is in memory stays in the processor's cache."""

FREE_OF_RATIO, MOST_RATIO = 1 << 30, 250
"""File systems shrink to a half or a tenth, one full of zeros at most to this.  Below the first figure, which fits on any disk,
nobody asks."""

BOMB = "is it meant to fill your disk? If it is yours, unpack it with tar and name the directory"
XZ_MEMORY = 256 << 20
"""Bytes that xz may take: `xz -9` asks for 65 MiB, the format allows 4 GiB."""

MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"\x50\x2a\x4d\x18", "zstd"),  # a skippable frame, which pzstd begins with
    (b"\xfd7zXZ\x00", "xz"),
    (b"BZh", "bzip2"),
)


class Stream:
    """What is in an open file, decompressed.

    name      of the file, for errors
    kind      gzip, zstd, xz, bzip2, or empty
    consumed  bytes of the file so far;  produced  bytes made of them
    `content` is the algorithm of a digest of what is made, for `content_digest`; `wait` is called before the file is read, with the
    number of bytes that have been: it may still be written.
    """

    def __init__(self, fd: int, name: str, content: str = "", wait: "Callable[[int], object] | None" = None) -> None:
        from hashlib import new, sha256

        self.name = name
        self.fd = fd
        self.consumed = 0
        self.produced = 0
        self._sum = sha256()
        self._wait = wait
        self._content = new(content) if content else None
        self._buffer = b""
        self._view = memoryview(b"")
        self._at = 0
        first = self.packed()
        self.kind = next((kind for magic, kind in MAGIC if first.startswith(magic)), "")
        self._chunks = _members(self, self.kind, first) if self.kind else self._plain(first)

    def packed(self) -> bytes:
        """The next bytes of the file as they are; empty at its end."""
        if self._wait:
            self._wait(self.consumed)
        data = os.read(self.fd, PACKED)
        self.consumed += len(data)
        self._sum.update(data)
        return data

    def _plain(self, data: bytes) -> "Iterator[bytes]":
        while data:
            yield data
            data = self.packed()

    def _refill(self) -> bool:
        chunk = next(self._chunks, b"")
        self.produced += len(chunk)
        if self._content:
            self._content.update(chunk)
        if self.produced > FREE_OF_RATIO and self.produced > self.consumed * MOST_RATIO:
            self.refuse(f"{show_size(self.consumed)} become over {show_size(self.produced)}, as of no file system", hint=BOMB)
        self._buffer, self._view, self._at = chunk, memoryview(chunk), 0
        return bool(chunk)

    def some(self, most: int) -> memoryview:
        """What is at hand, at most so many bytes, valid until the next call; empty at the end.  Raises ImageError."""
        if self._at == len(self._buffer) and not self._refill():
            return self._view
        piece = self._view[self._at : self._at + most]
        self._at += len(piece)
        return piece

    def read(self, size: int) -> bytes:
        """So many bytes; fewer at the end.  Raises ImageError."""
        end = self._at + size
        data = self._buffer[self._at : end]
        self._at = min(end, len(self._buffer))
        while len(data) < size and (piece := self.some(size - len(data))):
            data += piece
        return data

    def digest(self) -> str:
        """Of the whole file, which is read to its end for that: `sha256:` and hexadecimal digits.  Raises ImageError."""
        while self.some(UNPACKED):  # the checksum of what is compressed comes last
            self._at = len(self._buffer)
        while self.packed():
            pass
        return f"sha256:{self._sum.hexdigest()}"

    def content_digest(self) -> str:
        """Of all that is made of it, which is read to its end; its algorithm is the one that was asked for.  Raises ImageError."""
        assert self._content
        while self.some(UNPACKED):
            self._at = len(self._buffer)
        return f"{self._content.name}:{self._content.hexdigest()}"

    def close(self) -> None:
        """Ends a program that decompresses; the file stays open."""
        self._chunks.close()  # type: ignore[attr-defined]

    def refuse(self, problem: str, *, entry: str = "", hint: str = "") -> "NoReturn":
        """Raise ImageError."""
        raise ImageError(self.name, problem, entry=entry, hint=hint)


class _Inflate:
    """gzip in the protocol of bz2 and lzma."""

    def __init__(self, library: "Any") -> None:
        self._work = library.decompressobj(31)  # 31: with gzip's header and checksum
        self.eof = False
        self.unused_data = b""
        self.needs_input = True

    def decompress(self, data: bytes, most: int) -> bytes:
        work = self._work
        made: bytes = work.decompress(work.unconsumed_tail + data if work.unconsumed_tail else data, most)
        self.eof, self.unused_data = work.eof, work.unused_data
        self.needs_input = not work.unconsumed_tail and len(made) < most
        return made


def _decompressor(kind: str) -> "tuple[Callable[[], Any], tuple[type[Exception], ...]] | None":
    """What makes a decompressor, and the errors that it raises; None: it takes a program."""
    if kind == "gzip":
        try:  # 1.8 times as fast
            from isal import isal_zlib as library  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            library = zlib
        return lambda: _Inflate(library), (zlib.error, library.error)
    if kind == "bzip2":
        from bz2 import BZ2Decompressor

        return BZ2Decompressor, (OSError, ValueError)
    if kind == "xz":
        from lzma import FORMAT_XZ, LZMADecompressor, LZMAError

        return lambda: LZMADecompressor(FORMAT_XZ, XZ_MEMORY), (LZMAError,)
    for name in ("compression.zstd", "backports.zstd"):
        try:
            library = __import__(name, fromlist=["ZstdDecompressor"])
        except ImportError:
            continue
        return library.ZstdDecompressor, (library.ZstdError,)
    return None


def _members(stream: Stream, kind: str, data: bytes) -> "Iterator[bytes]":
    """One compressed stream after the other, as `cat a.gz b.gz` makes them; zeros between and after them are padding."""
    known = _decompressor(kind)
    if known is None:
        yield from _by_program(stream, data)
        return
    make, errors = known
    work = make()
    while True:
        try:
            made = work.decompress(data, UNPACKED)
        except errors as error:
            stream.refuse(f"the {kind} data is damaged: {error}", hint="copy or download it again")
        if made:
            yield made
        if work.eof:
            data = work.unused_data.lstrip(b"\0")
            while len(data) < 6 and (more := stream.packed()):
                data = (data + more).lstrip(b"\0")
            if not data:
                return
            if not any(data.startswith(magic) for magic, each in MAGIC if each == kind):
                stream.refuse(f"something that is not {kind} follows its compressed data", hint="copy or download it again")
            work = make()
        elif work.needs_input:
            data = stream.packed()
            if not data and not made:
                stream.refuse(f"it is cut short: the {kind} data has no end", hint="copy or download it again")
        else:
            data = b""


def _by_program(stream: Stream, data: bytes) -> "Iterator[bytes]":
    """zstd, where Python has it not (before 3.14)."""
    import shutil
    import subprocess
    from threading import Thread

    program = shutil.which("zstd")
    if program is None:
        raise Unsupported(f"unpacking {stream.name}, which is compressed with zstd", "this Python has no zstd, nor is there `zstd`",
                          hint="sudo apt-get install zstd (or dnf, pacman, apk)")  # fmt: skip
    failures: list[Exception] = []
    process = subprocess.Popen([program, "-dcq"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin and process.stdout and process.stderr

    def feed() -> None:
        assert process.stdin
        chunk = data
        try:
            while chunk:
                process.stdin.write(chunk)
                chunk = stream.packed()
            process.stdin.close()
        except BrokenPipeError:  # it has found an error, and says which
            pass
        except Exception as error:
            failures.append(error)
            process.kill()

    feeder = Thread(target=feed)
    feeder.start()
    try:
        while made := os.read(process.stdout.fileno(), UNPACKED):
            yield made
        said = process.stderr.read(300).decode("utf-8", "replace").split("\n")[0]
        feeder.join()
        if failures:
            raise failures[0]
        if process.wait():
            stream.refuse(f"the zstd data is damaged: {said or f'zstd ended with {process.returncode}'}",
                          hint="copy or download it again")  # fmt: skip
    finally:
        process.kill()
        process.wait()
        feeder.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            try:
                pipe.close()
            except BrokenPipeError:
                pass
