"""Whatever an archive holds: it is unpacked or refused by name, and nothing beside its directory changes."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from pathlib import Path

from archives import END, entry, fingerprint, patched, raw_pax, stream_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dolium.engine import erase, tar, unpack
from dolium.errors import ImageError

WORDS = ["a", "b", "c", ".", "..", "", "link", "proc", "outside", "secret", "\udcff", "new\nline", "x" * 120, ".dolium-0"]
FEW = ["a", "a/secret", "a/new", "a/b", "b", "b/secret", "b/new"]
"""So few that an entry meets the ones before it."""
NAMES = st.one_of(st.sampled_from(FEW), st.lists(st.sampled_from(WORDS), min_size=0, max_size=5).map("/".join))
TARGETS = st.one_of(NAMES, st.sampled_from(["/", "..", "../..", "../outside", "../../outside/secret", "a", "/a/b", "link/a", "/proc/self/root"]))
KINDS = st.sampled_from([tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE])


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    one = entry(draw(st.one_of(st.just("/"), st.just("./")) | st.just("")) + draw(NAMES), draw(KINDS), draw(st.sampled_from([b"", b"x", b"y" * 600])),
                draw(TARGETS), draw(st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])),
                mode=draw(st.sampled_from([0, 0o755, 0o644, 0o4755, 0o7777, 0o111])), uid=draw(st.integers(0, 3)))  # fmt: skip
    kind = draw(st.integers(0, 15))
    if kind == 0:  # damage
        at = draw(st.integers(0, 511))
        one = patched(one, at, draw(st.binary(min_size=1, max_size=min(12, 512 - at))))
    if kind == 1:
        one = raw_pax(draw(st.one_of(st.binary(max_size=40), st.sampled_from([b"12 path=/..\n", b"11 path=..\n", b"9 size=9\n"])))) + one
    return one


@st.composite
def through(draw: st.DrawFn) -> bytes:
    """A link that leads somewhere, perhaps by way of another, and something through it."""
    name, target = draw(st.sampled_from(["a", "b", "a/b"])), draw(st.sampled_from(["../outside", "../../outside", "..", "/", "b", "../link"]))
    below = draw(st.sampled_from(["secret", "new", "outside/secret", "outside/new", "jail/../new"]))
    return entry(name, tarfile.SYMTYPE, target=target) + entry(f"{name}/{below}", draw(KINDS), b"evil", draw(TARGETS))


class Outside:
    """A directory to unpack into, in one that must not change otherwise."""

    def __init__(self) -> None:
        self.top = Path(tempfile.mkdtemp(prefix="dolium-test-"))
        self.root = self.top / "jail"
        self.root.mkdir()
        (self.top / "outside").mkdir()
        (self.top / "outside" / "secret").write_text("secret")
        os.symlink(self.top / "outside", self.top / "link")
        self.before = self.state()

    def state(self) -> tuple[str, list[str], int]:
        return fingerprint(str(self.top / "outside")), sorted(os.listdir(self.top)), os.stat(self.top).st_mode

    def close(self) -> None:
        erase.tree(str(self.root))
        shutil.rmtree(self.top)


def unpacked(data: bytes, outside: Outside, own: bool) -> int:
    """How many entries; -1 where it is refused."""
    stream = stream_of(data)
    fd = os.open(outside.root, os.O_RDONLY | os.O_DIRECTORY)
    unpacker = unpack.Unpacker(fd, "`x`", own)
    try:
        reader = tar.Reader(stream)
        for each in reader:
            unpacker.add(each, reader.content())
        return unpacker.entries
    except ImageError as refused:
        assert "\n" not in str(refused) and str(refused).startswith("cannot unpack `x")
        return -1
    finally:
        unpacker.flush()
        os.close(fd)
        os.close(stream.fd)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(entries(), through()), max_size=8), st.booleans())
def test_nothing_outside_changes(parts: list[bytes], own: bool) -> None:
    outside = Outside()
    try:
        unpacked(b"".join(parts) + END, outside, own or os.geteuid() != 0)
        assert outside.state() == outside.before
        for directory, names, files in os.walk(outside.root):
            for name in (*names, *files):
                assert os.lstat(f"{directory}/{name}").st_ino != os.lstat(outside.top / "outside" / "secret").st_ino
    finally:
        outside.close()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000), st.integers(0, 3))
def test_no_bytes_surprise_the_reader(data: bytes, begin: int) -> None:
    outside = Outside()
    try:
        unpacked((b"", b"\x1f\x8b\x08", entry("a", data=b"x" * 700), b"BZh9")[begin] + data, outside, own=True)
        assert outside.state() == outside.before
    finally:
        outside.close()


@settings(max_examples=100, deadline=None)
@given(st.lists(entries(), min_size=1, max_size=6), st.data())
def test_cut_short_anywhere_is_refused(parts: list[bytes], draw: st.DataObject) -> None:
    data = b"".join(parts)
    outside = Outside()
    try:
        assert unpacked(data[: draw.draw(st.integers(0, len(data)))], outside, own=True) == -1 or bytes(512) in data
    finally:
        outside.close()
