"""What is written is what is read: by our own reader, by Python's, and the same bytes each time."""

from __future__ import annotations

import io
import os
import tarfile

from archives import stream_of
from hypothesis import given, settings
from hypothesis import strategies as st

from dolium.engine import tar
from dolium.engine.archive import Writer

LETTERS = st.sampled_from([b"a", b"b", b"\xff", b"\xc3\xa9", b"\n", b" ", b"=", b"x" * 40, b".wh."])
NAMES = st.lists(st.lists(LETTERS, min_size=1, max_size=6).map(b"".join).filter(lambda each: each not in (b".", b"..")), min_size=1, max_size=12).map(b"/".join)
IDS = st.one_of(st.integers(0, 3), st.sampled_from([0o7777777, 0o7777777 + 1, 3_000_000, tar.MOST_ID]))
TIMES = st.one_of(st.integers(-(10**18), 10**18), st.sampled_from([0, 1, -1, -1_500_000_000, 5 * 10**9, 0o77777777777 * 10**9, 2**40 * 10**9]))
ATTRIBUTES = st.dictionaries(st.sampled_from([b"user.a", b"user.b\xff", b"security.capability"]), st.binary(min_size=1, max_size=200), max_size=3)
KINDS = st.sampled_from([tar.FILE, tar.DIRECTORY, tar.SYMLINK, tar.HARDLINK, tar.FIFO, tar.CHARACTER, tar.BLOCK_DEVICE])
PYTHON = {tar.FILE: tarfile.REGTYPE, tar.DIRECTORY: tarfile.DIRTYPE, tar.SYMLINK: tarfile.SYMTYPE, tar.HARDLINK: tarfile.LNKTYPE,
          tar.FIFO: tarfile.FIFOTYPE, tar.CHARACTER: tarfile.CHRTYPE, tar.BLOCK_DEVICE: tarfile.BLKTYPE}  # fmt: skip


@st.composite
def entries(draw: st.DrawFn) -> tuple[tar.Entry, bytes]:
    kind = draw(KINDS)
    data = draw(st.one_of(st.binary(max_size=40), st.sampled_from([b"y" * 512, b"z" * 200_000]))) if kind == tar.FILE else b""
    one = tar.Entry(draw(NAMES), kind, draw(st.integers(0, 0o7777)), draw(IDS), draw(IDS), len(data), draw(TIMES))
    if kind in (tar.SYMLINK, tar.HARDLINK):
        one.target = draw(NAMES)
    elif kind in (tar.CHARACTER, tar.BLOCK_DEVICE):
        one.device = draw(st.integers(0, 4095)), draw(st.integers(0, 2**20 - 1))
    if kind != tar.SYMLINK:
        one.xattrs = draw(ATTRIBUTES)
    return one, data


def written(found: list[tuple[tar.Entry, bytes]], step: int = 1 << 20) -> bytes:
    out = io.BytesIO()
    writer = Writer(out.write)
    for entry, data in found:
        writer.add(entry, [data[at : at + step] for at in range(0, len(data), step)])
    writer.close()
    return out.getvalue()


def fields(entry: tar.Entry) -> tuple[object, ...]:
    return entry.kind, entry.mode, entry.uid, entry.gid, entry.size, entry.mtime, entry.target, entry.device, entry.xattrs


@settings(max_examples=200, deadline=None)
@given(st.lists(entries(), max_size=5))
def test_our_reader_reads_it(given_: list[tuple[tar.Entry, bytes]]) -> None:
    data = written(given_)
    assert len(data) % 512 == 0
    assert data == written(given_, 37), "the same, however it comes"
    stream = stream_of(data)
    try:
        reader, expected = tar.Reader(stream), iter(given_)
        for entry in reader:
            wanted, content = next(expected)
            assert entry.name == wanted.name + (b"/" if wanted.kind == tar.DIRECTORY else b"")
            assert fields(entry) == fields(wanted)
            assert b"".join(bytes(each) for each in reader.content()) == content
        assert not [*expected]
    finally:
        os.close(stream.fd)


@settings(max_examples=200, deadline=None)
@given(st.lists(entries(), max_size=5))
def test_python_reads_it(given_: list[tuple[tar.Entry, bytes]]) -> None:
    with tarfile.open(fileobj=io.BytesIO(written(given_))) as archive:
        members = archive.getmembers()
        assert len(members) == len(given_)
        for member, (wanted, content) in zip(members, given_, strict=True):
            assert os.fsencode(member.name) == wanted.name and member.type == PYTHON[wanted.kind]
            assert (member.mode, member.uid, member.gid, member.size) == (wanted.mode, wanted.uid, wanted.gid, wanted.size)
            assert abs(member.mtime - wanted.mtime / 10**9) <= max(1.0, abs(member.mtime)) * 1e-9
            if wanted.target:
                assert os.fsencode(member.linkname) == wanted.target
            if wanted.kind in (tar.CHARACTER, tar.BLOCK_DEVICE):
                assert (member.devmajor, member.devminor) == wanted.device
            if wanted.kind == tar.FILE:
                file = archive.extractfile(member)
                assert file and file.read() == content
            for name, value in wanted.xattrs.items():
                kept = member.pax_headers[f"SCHILY.xattr.{os.fsdecode(name)}"]
                assert kept.encode("utf-8", "surrogateescape") == value


def test_a_wrong_size_is_refused() -> None:
    for data in (b"abc", b"abcde"):
        try:
            Writer(lambda _: None).add(tar.Entry(b"a", tar.FILE, size=4), [data])
        except ValueError as error:
            assert "1 bytes too" in str(error)
        else:
            raise AssertionError


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=4), st.integers(0, 9), NAMES)
def test_python_reads_sparse_files(gaps: list[tuple[int, int]], end: int, name: bytes) -> None:
    extents, whole, at = [], b"", 0
    for gap, length in gaps:
        extents.append((at + gap * 100, length * 100))
        whole += bytes(gap * 100) + b"d" * length * 100
        at = len(whole)
    whole += bytes(end)
    out = io.BytesIO()
    writer = Writer(out.write)
    sparse = tar.Entry(name, tar.FILE, size=len(whole))
    sparse.pieces = extents
    writer.add(sparse, [b"d" * length for _, length in extents])
    writer.add(tar.Entry(b"after", tar.FILE, size=1), [b"x"])
    writer.close()
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        first, second = archive.getmembers()
        file = archive.extractfile(first)
        assert os.fsencode(first.name) == name and first.size == len(whole) and file and file.read() == whole
        assert second.name == "after"
    stream = stream_of(out.getvalue())
    try:
        reader = tar.Reader(stream)
        for entry, expected in zip(reader, (whole, b"x"), strict=True):
            pieces = [bytes(each) for each in reader.content()]
            found, at = bytearray(entry.size), 0
            for offset, length in entry.pieces if entry.pieces is not None else [(0, entry.size)]:
                found[offset : offset + length] = b"".join(pieces)[at : at + length]
                at += length
            assert bytes(found) == expected and entry.name in (name, b"after")
    finally:
        os.close(stream.fd)
