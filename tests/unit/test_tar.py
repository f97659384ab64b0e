"""The reader of tar archives, with Python's tarfile as oracle, and what it refuses."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from typing import Any

import pytest
from archives import BLOCK, CHARACTER, DIRECTORY, END, FIFO, HARDLINK, SYMLINK, archive, entry, patched, pax, raw_pax, stream_of

from dolium.engine import compression, tar
from dolium.errors import ImageError, Unsupported


def read(data: bytes) -> list[tuple[tar.Entry, bytes]]:
    stream = stream_of(data)
    try:
        reader = tar.Reader(stream)
        return [(each, b"".join(bytes(piece) for piece in reader.content())) for each in reader]
    finally:
        stream.close()
        os.close(stream.fd)


def refused(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        read(data)
    assert str(caught.value).startswith("cannot unpack `x.tar`: ") and "\n" not in str(caught.value)
    return caught.value


FORMS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]


@pytest.mark.parametrize("form", FORMS)
def test_what_tarfile_writes(form: int) -> None:
    deep = "/".join(f"directory-{n:03}" for n in range(8)) + "/file"
    longer = deep if form == tarfile.USTAR_FORMAT else deep * 10
    numbers: list[dict[str, Any]] = [{}, {"uid": 1000, "gid": 50, "mode": 0o4755}]
    if form != tarfile.USTAR_FORMAT:
        numbers.append({"uid": 3_000_000_000, "gid": 3_000_000, "mtime": 1 << 35})
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as made:
        for name, kind, data, target in (("d", DIRECTORY, b"", ""), (longer, b"0", b"x" * 1000, ""), ("e", b"0", b"", ""),
                                         ("s", SYMLINK, b"", "/" + longer[:90]), ("h", HARDLINK, b"", longer[:100]),
                                         ("p", FIFO, b"", ""), ("ü\n", b"7", b"y" * 512, "")):  # fmt: skip
            for fields in numbers:
                info = tarfile.TarInfo(name)
                info.type, info.size, info.linkname = kind, len(data), target
                for key, value in fields.items():
                    setattr(info, key, value)
                made.addfile(info, io.BytesIO(data))
        info = tarfile.TarInfo("c")
        info.type, info.devmajor, info.devminor = CHARACTER, 1, 3
        made.addfile(info)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as oracle:
        expected = [(each.name.encode(), each.linkname.encode(), each.mode, each.uid, each.gid, each.size, each.mtime,
                     (each.devmajor, each.devminor) if each.type == CHARACTER else (0, 0)) for each in oracle]  # fmt: skip
    assert [(each.name.rstrip(b"/"), each.target, each.mode, each.uid, each.gid, each.size, each.mtime // 10**9, each.device)
            for each, _ in read(out.getvalue())] == expected  # fmt: skip
    assert all(len(content) == each.size for each, content in read(out.getvalue()))


def test_what_only_a_pax_header_can_say() -> None:
    records = pax(path="a/b\nc", uid="70000", gid="4294967294", mtime="-1.5", SCHILY__xattr__user__note=b"a=b\0\n", size="3")
    (found, content), = read(archive(records, patched(entry("x", data=b"abc"), 124, b"77777777777\0")))
    assert (found.name, found.uid, found.gid, found.mtime, content) == (b"a/b\nc", 70000, 4294967294, -1_500_000_000, b"abc")
    assert found.xattrs == {b"user.note": b"a=b\0\n"}
    (found, _), (after, _) = read(archive(pax(mtime="1.000000001"), entry("x"), entry("y")))
    assert (found.mtime, after.mtime) == (1_000_000_001, 1_700_000_000 * 10**9)
    (one, _), (two, _) = read(archive(raw_pax(b"10 uid=77\n", b"g"), entry("x", uid=5), pax(uid="6"), entry("y")))
    assert (one.uid, two.uid) == (77, 6)
    (found, _), = read(archive(raw_pax(b"8 path=\n"), entry("name")))
    assert found.name == b"name", "an empty value takes it back"


def test_sizes_and_names_mean_what_they_mean_to_gnu_tar() -> None:
    """Links, directories and devices have no content, whatever their size says (CVE-2025-62518: two readers, two archives)."""
    for kind in (SYMLINK, HARDLINK, DIRECTORY, CHARACTER, BLOCK, FIFO):
        one = patched(entry("a", kind, target="b"), 124, b"00000001000\0")
        assert [each.name.rstrip(b"/") for each, _ in read(archive(one, entry("next")))] == [b"a", b"next"]
    assert read(archive(entry("old/", form=tarfile.USTAR_FORMAT)))[0][0].kind == tar.DIRECTORY
    assert [each.name for each, _ in read(archive(entry("label", b"V"), entry("x")))] == [b"x"]
    assert read(archive(patched(entry("x"), 148, b"")))[0][0].name == b"x"
    signed = bytearray(entry("\xff\xfe", form=tarfile.GNU_FORMAT))
    unsigned = sum(signed[:148]) + sum(signed[156:512]) + 256
    high = sum(each > 127 for each in signed[:512])
    signed[148:156] = b"%06o\0 " % (unsigned - 256 * high)
    assert read(archive(bytes(signed)))[0][0].name == "\xff\xfe".encode(), "Sun's checksum"


@pytest.mark.parametrize(("data", "words"), [
    (b"", "it is empty"), (b"hello", "it is no tar archive"), (b"x" * 5000, "it is no tar archive"),
    (b"PK\x03\x04" + bytes(600), "it is no tar archive"),
    (entry("a"), "cut short"), (entry("a", data=b"x" * 5000)[:2000], "cut short"), (archive(entry("a"), b"x" * 512), "`" + "x" * 57),
    (entry("a", data=b"abc")[:-1], "cut short"), (pax(path="x"), "cut short"), (archive(pax(path="x")), "never comes"),
    (archive(entry("a"), patched(entry("b"), 0, b"c")[:1] + entry("b")[1:]), "wrong checksum"),
    (archive(patched(entry("a"), 124, b"\xff" * 12)), "`a`: its size is -1"),
    (archive(patched(entry("a"), 124, b"\x80" + b"\xff" * 11)), "`a`: its size is 309485009821345068724781055"),
    (archive(patched(entry("a"), 124, b"000000000z0\0")), "no octal number"),
    (archive(patched(entry("a"), 124, b"-00000000001")), "no octal number"),
    (archive(patched(entry("a"), 108, b"\xff" * 8)), "its uid is -1"), (archive(pax(uid="4294967295"), entry("a")), "its uid is 4294967295"),
    (archive(pax(size="-1"), entry("a")), "its size is `-1`"), (archive(pax(size="9" * 30), entry("a")), "its size is `999"),
    (archive(pax(mtime="soon"), entry("a")), "its time is `soon`"), (archive(pax(mtime="9" * 19), entry("a")), "seconds after 1970"),
    (archive(pax(path=b"a\0b"), entry("a")), "zero byte"), (archive(pax(linkpath=b"a\0b"), entry("a", SYMLINK)), "zero byte"),
    (archive(raw_pax(b"99 path=x\n"), entry("a")), "malformed PAX"), (archive(raw_pax(b"x path=x\n"), entry("a")), "malformed PAX"),
    (archive(raw_pax(b"5 a=b"), entry("a")), "malformed PAX"), (archive(raw_pax(b"3 \n"), entry("a")), "malformed PAX"),
    (archive(raw_pax(b"-9 path=x\n"), entry("a")), "malformed PAX"), (archive(raw_pax(b"0 path=x\n"), entry("a")), "malformed PAX"),
    (archive(raw_pax(b"10 path=x\n", b"g"), entry("a")), "every file the same `path`"),
    (archive(patched(entry("x", b"x"), 124, b"77777777777\0")), "are enough for any name"),
    (archive(patched(entry("x", b"L"), 124, b"\xff" * 12)), "are enough for any name"),
    (archive(entry("a", b"M")), "another archive"),
    (archive(entry("a", b"Q")), "an entry of type `Q`: unknown"), (archive(pax(GNU__sparse__major="1"), entry("a")), "form that is not known"),
])  # fmt: skip
def test_what_is_refused(data: bytes, words: str) -> None:
    assert words in str(refused(data))


def test_the_end_of_an_archive() -> None:
    """One block of zeros is enough; what follows is padding, whatever it is."""
    assert len(read(entry("a") + bytes(512))) == 1
    assert len(read(archive(entry("a")) + b"garbage" * 1000)) == 1
    assert len(read(archive(entry("a")) + archive(entry("b")))) == 1
    assert read(END) == []


BODY = archive(entry("etc/passwd", data=random.Random(1).randbytes(700_000)), entry("zeros", data=bytes(900_000)))


def packed(kind: str, data: bytes) -> bytes:
    if kind == "zstd":
        if not shutil.which("zstd"):
            pytest.skip("no zstd here")
        return subprocess.run(["zstd", "-c"], input=data, stdout=subprocess.PIPE, check=True).stdout
    return {"gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}[kind](data)


@pytest.fixture(params=["gzip", "xz", "bzip2", "zstd"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    yield request.param


def test_compressed(kind: str) -> None:
    whole = packed(kind, BODY)
    stream = stream_of(whole)
    assert stream.kind == kind
    reader = tar.Reader(stream)
    assert [(each.name, sum(map(len, reader.content()))) for each in reader] == [(b"etc/passwd", 700_000), (b"zeros", 900_000)]
    import hashlib

    assert stream.digest() == f"sha256:{hashlib.sha256(whole).hexdigest()}"
    assert (stream.consumed, stream.produced) == (len(whole), len(BODY))
    stream.close()
    os.close(stream.fd)


def drain(data: bytes) -> str:
    stream = stream_of(data)
    try:
        for _ in tar.Reader(stream):
            pass
        return str(stream.digest())
    finally:
        stream.close()
        os.close(stream.fd)


def test_members_one_after_the_other(kind: str) -> None:
    drain(packed(kind, BODY[:1000]) + packed(kind, BODY[1000:]))
    drain(packed(kind, BODY[:1000]) + packed(kind, b"") + packed(kind, BODY[1000:]))
    if kind != "zstd":
        drain(packed(kind, BODY) + bytes(10_000))


def test_damaged(kind: str) -> None:
    whole = packed(kind, BODY)
    for size in (20, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ImageError, match=r"cut short|damaged"):
            drain(whole[:size])
    middle = len(whole) // 2
    with pytest.raises(ImageError):
        drain(whole[:middle] + bytes([whole[middle] ^ 0xFF]) * 9 + whole[middle + 9 :])
    with pytest.raises(ImageError, match=r"follows|damaged"):
        drain(whole + b"something else that goes on")


def test_a_wrong_checksum_at_the_very_end_is_seen() -> None:
    whole = bytearray(gzip.compress(BODY))
    whole[-5] ^= 1
    with pytest.raises(ImageError, match="gzip data is damaged"):
        drain(bytes(whole))


def test_without_zstd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_decompressor", lambda kind: None)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(Unsupported) as caught:
        drain(b"\x28\xb5\x2f\xfd" + bytes(1000))
    assert "zstd" in str(caught.value) and "apt-get install zstd" in caught.value.hint


def test_a_bomb_by_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "FREE_OF_RATIO", 1 << 20)
    data = gzip.compress(archive(entry("zeros", data=bytes(8 << 20))), 9)
    with pytest.raises(ImageError, match="as of no file system"):
        drain(data)
    drain(gzip.compress(archive(entry("x", data=random.Random(2).randbytes(3 << 20)))))
    hidden = gzip.compress(archive(entry("x")) + bytes(8 << 20), 9)  # behind the end of the archive
    with pytest.raises(ImageError, match="as of no file system"):
        drain(hidden)


def test_memory_is_flat() -> None:
    import tracemalloc

    tracemalloc.start()
    data = gzip.compress(archive(entry("zeros", data=bytes(64 << 20))), 1)
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    drain(data)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 4 << 20, peak
