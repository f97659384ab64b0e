"""Tar archives for tests: small ones, and ones that no honest program makes."""

import gzip
import hashlib
import io
import os
import stat
import tarfile
from pathlib import Path
from typing import Any

import pytest

from dolium.engine import tar, unpack
from dolium.engine.compression import Stream
from dolium.errors import ImageError

DIRECTORY, SYMLINK, HARDLINK, FIFO = tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE
CHARACTER, BLOCK = tarfile.CHRTYPE, tarfile.BLKTYPE
END = bytes(1024)


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", target: str = "", form: int = tarfile.PAX_FORMAT, **fields: Any) -> bytes:
    """One entry with its content; `fields` are those of TarInfo."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size, info.mtime = kind, target, len(data), 1_700_000_000
    info.mode = 0o755 if kind == DIRECTORY else 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info.tobuf(form, "utf-8", "surrogateescape") + data + bytes(-len(data) % 512)


def archive(*entries: bytes) -> bytes:
    return b"".join(entries) + END


def patched(data: bytes, at: int, value: bytes) -> bytes:
    """The first header with other bytes at that place, and the checksum that fits them."""
    header = bytearray(data[:512])
    header[at : at + len(value)] = value
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + data[512:]


def pax(**records: str | bytes) -> bytes:
    """A PAX header; `__` in a key is a dot."""
    text = b""
    for key, value in records.items():
        body = b" " + key.replace("__", ".").encode() + b"=" + (value if isinstance(value, bytes) else value.encode()) + b"\n"
        size = len(body) + len(str(len(body)))
        text += str(size + (len(str(size)) > len(str(len(body))))).encode() + body
    return raw_pax(text)


def raw_pax(text: bytes, kind: bytes = b"x") -> bytes:
    return entry("././@PaxHeader", kind, text, form=tarfile.USTAR_FORMAT)


def write(path: str, data: bytes, *, old: bool = True) -> str:
    """The file, packed by what its name says; `old`: not written a moment ago, so that it may be known again."""
    if path.endswith("gz"):
        data = gzip.compress(data, 1)
    with open(path, "wb") as file:
        file.write(data)
    if old:
        os.utime(path, (1_700_000_000, 1_700_000_000))
    return path


def fingerprint(top: str) -> str:
    """Of all names, kinds, modes, owners, times, links and contents below a directory; access changes nothing of it."""
    total = hashlib.sha256()
    for directory, names, files in os.walk(top):
        names.sort()
        for name in (".", *sorted(names), *sorted(files)):
            path = f"{directory}/{name}"
            status = os.lstat(path)
            total.update(repr((path, status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_nlink)).encode("utf-8", "replace"))
            if stat.S_ISREG(status.st_mode) and os.access(path, os.R_OK):
                with open(path, "rb") as file:
                    total.update(file.read())
            elif stat.S_ISLNK(status.st_mode):
                total.update(os.readlink(path).encode("utf-8", "surrogateescape"))
    return total.hexdigest()


def stream_of(data: bytes) -> Stream:
    """A Stream of it, by a file that has no name."""
    file = os.memfd_create("archive")
    with io.FileIO(file, "w", closefd=False) as out:
        out.write(data)
    os.lseek(file, 0, os.SEEK_SET)
    return Stream(file, "`x.tar`")


class Jail:
    """A directory to unpack into, and beside it what an archive might want to reach; that nothing there changes is asserted."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.root = top / "jail" / "root"
        self.root.mkdir(parents=True)
        (top / "outside").mkdir()
        (top / "outside" / "secret").write_text("secret")
        (top / "jail" / "beside").write_text("beside")
        self.own = os.geteuid() != 0
        self.unpacker: unpack.Unpacker | None = None

    def unpack(self, *entries: bytes) -> Path:
        """Where they are now."""
        others = self.others()
        stream = stream_of(archive(*entries))
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        descriptors = len(os.listdir("/proc/self/fd"))
        try:
            self.unpacker = unpack.Unpacker(fd, "`x.tar`", self.own)
            try:
                reader = tar.Reader(stream)
                for each in reader:
                    self.unpacker.add(each, reader.content())
            finally:
                self.unpacker.flush()
        finally:
            assert len(os.listdir("/proc/self/fd")) == descriptors
            os.close(fd)
            os.close(stream.fd)
            assert self.others() == others
        return self.root

    def others(self) -> tuple[str, list[str]]:
        return fingerprint(str(self.top / "outside")) + (self.top / "jail" / "beside").read_text(), sorted(os.listdir(self.top / "jail"))

    def refused(self, *entries: bytes) -> str:
        """Why they are not."""
        with pytest.raises(ImageError) as caught:
            self.unpack(*entries)
        assert "\n" not in str(caught.value)
        return str(caught.value)
