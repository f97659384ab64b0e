"""The writer: what an archive makes, what it may not make, and that nothing beside its directory changes."""

from __future__ import annotations

import os
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import BLOCK, CHARACTER, DIRECTORY, FIFO, HARDLINK, SYMLINK, Jail, archive, entry, patched, pax, stream_of

from dolium.core import sys as calls
from dolium.engine import erase, tar, unpack
from dolium.errors import ImageError, Unsupported

ROOT = os.geteuid() == 0


@pytest.fixture
def jail(tmp_path: Path) -> Iterator[Jail]:
    yield Jail(tmp_path)
    erase.tree(str(tmp_path / "jail"))


# ---- what is to be made


def test_an_ordinary_one(jail: Jail) -> None:
    root = jail.unpack(
        entry("./", DIRECTORY, mode=0o711), entry("./bin", DIRECTORY, mode=0o755), entry("./bin/su", data=b"su", mode=0o4755),
        entry("./bin/sh", SYMLINK, target="/bin/su"), entry("./bin/same", HARDLINK, target="./bin/su"),
        entry("./tmp", DIRECTORY, mode=0o1777), entry("./run/deep/file", data=b"x" * 300_000, mode=0o600),
        pax(mtime="1600000000.123456789"), entry("./pipe", FIFO, mode=0o622), entry("./locked", DIRECTORY, mode=0),
    )  # fmt: skip
    mode = {each: stat.S_IMODE(os.lstat(root / each).st_mode) for each in ("", "bin", "bin/su", "tmp", "run", "run/deep/file", "pipe")}
    assert mode == {"": 0o711, "bin": 0o755, "bin/su": 0o4755, "tmp": 0o1777, "run": 0o755, "run/deep/file": 0o600, "pipe": 0o622}
    assert stat.S_IMODE(os.lstat(root / "locked").st_mode) == (0o700 if jail.own else 0)
    assert os.readlink(root / "bin/sh") == "/bin/su" and (root / "run/deep/file").read_bytes() == b"x" * 300_000
    assert os.lstat(root / "bin/same").st_ino == os.lstat(root / "bin/su").st_ino
    assert os.lstat(root / "pipe").st_mtime_ns == 1600000000_123456789
    assert {os.lstat(root / each).st_mtime for each in ("", "bin", "bin/su", "bin/sh", "tmp")} == {1_700_000_000}, "of directories too"


def test_times_of_directories_that_come_and_go(jail: Jail) -> None:
    """More of them than are kept open, back and forth, and by several names."""
    count = unpack.MOST_OPEN * 3
    entries = [entry(f"d{n}", DIRECTORY, mtime=1_600_000_000 + n) for n in range(count)] + [entry("link", SYMLINK, target="d7")]
    entries += [entry(f"d{n * 7 % count}/f{n}", data=b"x") for n in range(count)] + [entry("link/more")]
    root = jail.unpack(*entries)
    assert [os.lstat(root / f"d{n}").st_mtime for n in range(count)] == [1_600_000_000 + n for n in range(count)]
    assert (root / "d7/more").exists()


@pytest.mark.skipif(not ROOT, reason="owners are root's to give")
def test_owners_as_root(jail: Jail) -> None:
    root = jail.unpack(
        entry("g", DIRECTORY, gid=77, mode=0o2755), entry("g/zero"), entry("g/implied/x"), entry("g/link", SYMLINK, target="x"),
        entry("g/below", DIRECTORY), entry("g/pipe", FIFO), entry("su", mode=0o6755, uid=3_000_000, gid=4_294_967_294),
        entry("link", SYMLINK, target="x", uid=5, gid=6), entry("big", uid=70000, form=tarfile.GNU_FORMAT),
    )  # fmt: skip
    owners = {each: (os.lstat(root / each).st_uid, os.lstat(root / each).st_gid) for each in
              ("g", "g/zero", "g/implied", "g/implied/x", "g/link", "g/below", "g/pipe", "su", "link", "big")}  # fmt: skip
    assert owners == {"g": (0, 77), "g/zero": (0, 0), "g/implied": (0, 0), "g/implied/x": (0, 0), "g/link": (0, 0), "g/below": (0, 0),
                      "g/pipe": (0, 0), "su": (3_000_000, 4_294_967_294), "link": (5, 6), "big": (70000, 0)}  # fmt: skip
    assert stat.S_IMODE(os.lstat(root / "su").st_mode) == 0o6755, "set after the owner, who else would lose it"
    assert stat.S_IMODE(os.lstat(root / "g/below").st_mode) == 0o755


@pytest.mark.skipif(not ROOT, reason="attributes of security are root's to give")
def test_attributes(jail: Jail) -> None:
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    root = jail.unpack(pax(SCHILY__xattr__security__capability=capability, SCHILY__xattr__user__note=b"n",
                           SCHILY__xattr__trusted__overlay__redirect=b"/etc", SCHILY__xattr__user__overlay__whiteout=b"y",
                           SCHILY__xattr__security__selinux=b"x"), entry("ping", uid=7, mode=0o755))  # fmt: skip
    found = set(os.listxattr(root / "ping"))
    assert {"security.capability"} <= found <= {"security.capability", "user.note"}
    assert os.getxattr(root / "ping", "security.capability") == capability


def test_devices(jail: Jail) -> None:
    devices = [entry("dev/null", CHARACTER, devmajor=1, devminor=3, mode=0o666), entry("dev/sda", BLOCK, devmajor=8, uid=5)]
    whiteout = entry("dev/gone", CHARACTER)
    root = jail.unpack(entry("dev", DIRECTORY), *devices, whiteout, entry("after"))
    assert jail.unpacker and (root / "after").exists() and not (root / "dev/gone").exists()
    try:
        os.mknod(jail.top / "mine", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        assert jail.unpacker.no_devices == 2 and os.listdir(root / "dev") == []
    else:
        status = os.lstat(root / "dev/null")
        assert (status.st_rdev, stat.S_IMODE(status.st_mode)) == (os.makedev(1, 3), 0o666)
        assert stat.S_ISBLK(os.lstat(root / "dev/sda").st_mode) and os.lstat(root / "dev/sda").st_uid == 5
    assert "a device with the number 4096:0" in jail.refused(entry("d", CHARACTER, devmajor=4096))
    assert "`d`: a device" in jail.refused(patched(entry("d", CHARACTER), 337, b"\xff" * 8))


def test_everything_is_the_plain_users(jail: Jail) -> None:
    """... and he can remove it."""
    jail.own = True
    root = jail.unpack(entry("a", DIRECTORY, mode=0, uid=5), entry("a/b", DIRECTORY, mode=0o555), entry("a/b/c", mode=0, uid=7, gid=8),
                       entry("", DIRECTORY, mode=0o500), entry("a", DIRECTORY, mode=0o111))  # fmt: skip
    assert {os.lstat(root / each).st_uid for each in ("", "a", "a/b", "a/b/c")} == {os.geteuid()}
    assert [stat.S_IMODE(os.lstat(root / each).st_mode) for each in ("", "a", "a/b", "a/b/c")] == [0o700, 0o711, 0o755, 0]


def test_the_umask_has_no_say(jail: Jail) -> None:
    before = os.umask(0o077)
    try:
        root = jail.unpack(entry("a/b", mode=0o666), entry("d", DIRECTORY, mode=0o777))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(os.lstat(root / each).st_mode) for each in ("a", "a/b", "d")] == [0o755, 0o666, 0o777]


@pytest.mark.parametrize("path", ["shared/rootfs/alpine-minirootfs-3.20.3-x86_64.tar.gz"])
def test_as_gnu_tar_does_it(jail: Jail, path: str) -> None:
    source = Path(__file__).parents[3] / path
    if not source.exists():
        pytest.skip(f"{path} is not beside this clone")
    expected = jail.top / "expected"
    expected.mkdir()
    subprocess.run(["tar", "-xpf", source, "-C", expected, "--numeric-owner"], check=True)
    import gzip

    data = gzip.decompress(source.read_bytes())
    stream = stream_of(data)
    fd = os.open(jail.root, os.O_RDONLY | os.O_DIRECTORY)
    unpacker, reader = unpack.Unpacker(fd, "`x`", jail.own), tar.Reader(stream)
    for each in reader:
        unpacker.add(each, reader.content())
    unpacker.flush()
    os.close(fd)
    os.close(stream.fd)
    listing = "find . -printf '%p %y %m %U %G %s %T@ %n %l\\n' | sed -E 's/^(\\S+ d \\S+ \\S+ \\S+) \\S+/\\1/' | sort; find . -type f -exec cat {} + | cksum"
    lists = [subprocess.run(["sh", "-c", listing], cwd=each, capture_output=True, text=True, check=True).stdout
             for each in (expected, jail.root)]  # fmt: skip
    assert lists[0] == lists[1] and lists[0].count("\n") > 500
    erase.tree(str(expected))


# ---- duplicates: the last one wins


def test_the_last_one_wins(jail: Jail) -> None:
    root = jail.unpack(
        entry("f", data=b"long content"), entry("other", HARDLINK, target="f"), entry("f", data=b"new"),
        entry("d", DIRECTORY), entry("d/kept", data=b"k"), entry("d", DIRECTORY, mode=0o700),
        entry("x", DIRECTORY), entry("x/deep/er", data=b"1"), entry("x", SYMLINK, target="d"), entry("x/through", data=b"t"),
        entry("y", SYMLINK, target="d"), entry("y", DIRECTORY), entry("y/own", data=b"o"),
        entry("z/a/b/c", data=b"1"), entry("z", data=b"file"), entry("w", FIFO), entry("w", SYMLINK, target="f"), entry("w", data=b"w"),
    )  # fmt: skip
    assert (root / "f").read_bytes() == b"new" and (root / "other").read_bytes() == b"long content"
    assert sorted(os.listdir(root / "d")) == ["kept", "through"] and stat.S_IMODE(os.lstat(root / "d").st_mode) == 0o700
    assert os.readlink(root / "x") == "d" and os.listdir(root / "y") == ["own"] and not (root / "y").is_symlink()
    assert (root / "z").read_bytes() == b"file" and (root / "w").read_bytes() == b"w" and (root / "f").read_bytes() == b"new"


def test_hard_links(jail: Jail) -> None:
    root = jail.unpack(entry("a", data=b"a"), entry("a", HARDLINK, target="a"), entry("b", data=b"b"), entry("b", HARDLINK, target="/a"),
                       entry("s", SYMLINK, target="nowhere"), entry("t", HARDLINK, target="s"), entry("d", DIRECTORY),
                       entry("d", HARDLINK, target="a"))  # fmt: skip
    assert (root / "a").read_bytes() == (root / "b").read_bytes() == (root / "d").read_bytes() == b"a" and os.lstat(root / "a").st_nlink == 3
    assert os.readlink(root / "t") == "nowhere"
    assert "no file before it" in jail.refused(entry("l", HARDLINK, target="not/there"))
    assert "no file before it" in jail.refused(entry("l", HARDLINK, target="a/b"))
    assert "which is a directory" in jail.refused(entry("e", DIRECTORY), entry("l", HARDLINK, target="e"))
    assert "which is a directory" in jail.refused(entry("l", HARDLINK, target="/"))
    assert "no file before it" in jail.refused(entry("p/q", data=b"x"), entry("p", HARDLINK, target="p/q")), "it replaces its own target"


# ---- what must not be reached


@pytest.mark.parametrize("name", ["../outside/secret", "a/../../../outside/secret", "..", "/..", "a/..", "./../beside", "x/../../beside"])
@pytest.mark.parametrize("kind", [b"0", DIRECTORY, SYMLINK, HARDLINK, FIFO])
def test_dots_are_refused(jail: Jail, name: str, kind: bytes) -> None:
    said = jail.refused(entry("a", DIRECTORY), entry(name, kind, target="a"))
    assert "`..` would lead out" in said and f"`{name}" in said


def test_absolute_names_are_the_rootfs_own(jail: Jail) -> None:
    root = jail.unpack(entry(f"/{jail.top}/outside/secret", data=b"x"), entry("//etc//./passwd", data=b"y"), entry("/", DIRECTORY))
    assert (root / "etc/passwd").read_bytes() == b"y"
    assert Path(f"{root}/{jail.top}/outside/secret").read_bytes() == b"x"


@pytest.mark.parametrize("target", ["/", "..", "../..", "/../../../..", "../../outside", "{top}/outside", "x/../../../../outside"])
def test_parents_that_are_links_stay_inside(jail: Jail, target: str) -> None:
    target = target.format(top=jail.top)
    for each in (entry("x", DIRECTORY), entry("link", SYMLINK, target=target)):
        jail.unpack(each)
    for each in (entry("link/secret", data=b"evil"), entry("link/beside", data=b"evil"), entry("link/d", DIRECTORY, mode=0o777),
                 entry("link/l", SYMLINK, target="/"), entry("link/l/m/n", data=b"evil"), entry("link/pipe", FIFO)):  # fmt: skip
        try:
            jail.unpack(each)
        except ImageError as refused:
            assert "link" in str(refused)
    try:
        jail.unpack(entry("stolen", HARDLINK, target="link/secret"))
        assert (jail.root / "stolen").read_bytes() == b"evil"
    except ImageError as refused:
        assert "no file before it" in str(refused)


@pytest.mark.parametrize("target", ["../outside/secret", "{top}/outside/secret", "/proc/self/environ", "/etc/passwd", "link/secret", "proc/self/root/etc/passwd"])
def test_hard_links_to_what_is_outside(jail: Jail, target: str) -> None:
    said = jail.refused(entry("link", SYMLINK, target=f"{jail.top}/outside"), entry("proc", SYMLINK, target="/proc"),
                        entry("x", HARDLINK, target=target.format(top=jail.top)))  # fmt: skip
    assert "`x`: " in said and any(each in said for each in ("no file before it", "`..`", "Too many levels of symbolic links"))


def test_nothing_is_written_through_a_link(jail: Jail) -> None:
    """Neither a symbolic one nor a hard one: the last name is made new."""
    secret = str(jail.top / "outside" / "secret")
    root = jail.unpack(entry("s", SYMLINK, target=secret), entry("s", data=b"evil", mode=0o777), entry("t", SYMLINK, target=secret),
                       entry("t", DIRECTORY), entry("u", SYMLINK, target=secret), entry("u", FIFO), entry("v", SYMLINK, target=secret),
                       entry("w", HARDLINK, target="v"), entry("w", data=b"evil"))  # fmt: skip
    assert (root / "s").read_bytes() == b"evil" and not (root / "s").is_symlink() and os.readlink(root / "v") == secret


def test_parents_that_are_none(jail: Jail) -> None:
    assert "`f/x`: Not a directory" in jail.refused(entry("f"), entry("f/x"))
    assert "`l/x`: " in jail.refused(entry("l", SYMLINK, target="gone"), entry("l/x"))
    assert "`o/x`: Too many levels" in jail.refused(entry("o", SYMLINK, target="o"), entry("o/x"))
    assert "`m/x`: " in jail.refused(entry("m", SYMLINK, target="/proc/self/fd/0"), entry("m/x"))


def test_names(jail: Jail) -> None:
    odd = ["new\nline", "\udcff\udcfe", " ", "-rf", "*", "a" * 255, "tab\t", "ünï", ".wh.file", "..."]
    root = jail.unpack(*(entry(each, data=b"x", form=tarfile.GNU_FORMAT) for each in odd))
    assert {os.fsencode(each) for each in odd} == {*os.listdir(os.fsencode(root))}
    for name, kind, words in (("", b"0", "no name"), (".", b"0", "no name"), ("//", SYMLINK, "no name"), ("a" * 256, b"0", "File name too long"),
                              ("d/" * 3000, DIRECTORY, "a name of 6000 bytes"), ("new\nline/x", b"0", "`new\\nline/x`: Not a directory"),
                              ("\x1b[31m\udcff/..", b"0", "`\\x1b[31m\\udcff/..`")):  # fmt: skip
        assert words in jail.refused(entry(name, kind, target="x", form=tarfile.GNU_FORMAT))
    assert "symbolic link to nothing" in jail.refused(entry("s", SYMLINK))
    assert jail.unpack(entry("deep/" * 700 + "file", data=b"x", form=tarfile.GNU_FORMAT))


# ---- what must not be filled


def test_bombs_by_number_and_size(jail: Jail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpack, "MOST_ENTRIES", 100)
    assert "`f100`: the archive has more than 100 entries" in jail.refused(*(entry(f"f{n}") for n in range(200)))
    assert "more than 100 entries" in jail.refused(entry("a/" * 150 + "f", form=tarfile.GNU_FORMAT), entry("g"))
    monkeypatch.setattr(unpack, "MOST_ENTRIES", 10_000)
    monkeypatch.setattr(unpack, "MOST_BYTES", 1 << 20)
    monkeypatch.setattr(unpack, "STRIDE", 1 << 18)
    assert "`big3`: with it the archive has more than 1 MiB" in jail.refused(*(entry(f"big{n}", data=bytes(350_000)) for n in range(9)))


def test_the_disk_is_looked_at_before_it_is_full(jail: Jail) -> None:
    claimed = patched(entry("huge"), 124, b"\x80\0\0\0\0\x7f\0\0\0\0\0\0")
    assert "the disk would be full" in jail.refused(claimed)
    assert not (jail.root / "huge").exists()


def test_without_openat2(jail: Jail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "SYS_OPENAT2", 9999)
    with pytest.raises(Unsupported, match="openat2") as caught:
        jail.unpack(entry("a/b"))
    assert "Linux 5.6" in caught.value.hint


def test_few_calls_for_each_entry(tmp_path: Path) -> None:
    """Six for a file (open, write, mode, time, close, and what reading takes), whatever the depth."""
    strace = "/usr/bin/strace"
    if not os.path.exists(strace):
        pytest.skip("no strace here")
    count = 400
    (tmp_path / "x.tar").write_bytes(archive(*(entry(f"a/b/c/d{n // 40}/f{n}", data=b"x" * 100) for n in range(count))))
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(calls.__file__).parents[2])!r})
from dolium.engine import compression, tar, unpack
os.mkdir({str(tmp_path / "to")!r})
fd, root = os.open({str(tmp_path / "x.tar")!r}, os.O_RDONLY), os.open({str(tmp_path / "to")!r}, os.O_RDONLY)
stream = compression.Stream(fd, "x")
reader, unpacker = tar.Reader(stream), unpack.Unpacker(root, "x", os.geteuid() != 0)
os.getppid()
for each in reader:
    unpacker.add(each, reader.content())
unpacker.flush()
os.getppid()
"""
    done = subprocess.run([strace, "-o", str(tmp_path / "log"), "/usr/bin/python3", "-IS", "-c", code], capture_output=True, text=True)
    if done.returncode and "ptrace" in done.stderr:
        pytest.skip("strace may not trace here")
    assert done.returncode == 0, done.stderr
    made = (tmp_path / "log").read_text().split("getppid()")[1].count("\n")
    assert made / count < 6.5, made / count


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept under a digest has that digest, and a mark says what it says of the file as it is now."""
    from dolium.engine import tarballs
    from dolium.runtime import places

    (tmp_path / "data").mkdir(mode=0o700)
    monkeypatch.setattr(places, "data", lambda: str(tmp_path / "data"))
    monkeypatch.setattr(places, "data_path", lambda: str(tmp_path / "data"))
    path = tmp_path / "x.tar"
    path.write_bytes(archive(entry("a", data=b"one")))
    real = tarballs._digest

    def changed(fd: int, name: str) -> str:
        digest = real(fd, name)
        path.write_bytes(archive(entry("a", data=b"two")))
        return digest

    monkeypatch.setattr(tarballs, "_digest", changed)
    with pytest.raises(ImageError, match=r"`x\.tar`: it changed while it was read"):
        tarballs.provide(str(path))
    assert os.listdir(tmp_path / "data" / "rootfs") == []
    monkeypatch.setattr(tarballs, "_digest", real)
    tarballs.provide(str(path)).close()
    (kept,) = os.listdir(tmp_path / "data" / "rootfs")
    assert (tmp_path / "data" / "rootfs" / kept / "tree" / "a").read_bytes() == b"two"
    assert [name for name, _ in tarballs.prune()] == [kept] and os.listdir(tmp_path / "data" / "rootfs") == []


@pytest.mark.parametrize("form", ["gnu", "0.0", "0.1", "1.0"])
def test_sparse_files(form: str, jail: Jail, tmp_path: Path) -> None:
    """In each of GNU tar's forms: the content is that of the file, and its holes are holes."""
    source = tmp_path / "source"
    source.mkdir()
    holes = {"begin": [(0, b"x")], "end": [(9 << 20, b"tail")], "many": [(n << 16, bytes([n]) * 5000) for n in range(1, 60)], "all": []}
    for name, pieces in holes.items():
        with open(source / name, "wb") as file:
            for at, data in pieces:
                file.seek(at)
                file.write(data)
            file.truncate(10 << 20)
    format = ["--format=gnu"] if form == "gnu" else ["--format=pax", f"--sparse-version={form}"]
    made = subprocess.run(["tar", "--sparse", *format, "-C", str(source), "-cf", "-", *holes], capture_output=True, check=True).stdout
    assert len(made) < 2 << 20, "tar found the holes"
    root = jail.unpack(made[: len(made) - 1024].rstrip(b"\0") + bytes(-len(made.rstrip(b"\0")) % 512))
    for name in holes:
        assert (root / name).read_bytes() == (source / name).read_bytes(), name
        assert os.stat(root / name).st_blocks <= os.stat(source / name).st_blocks + 8, name
    assert jail.unpacker and jail.unpacker.size < 2 << 20


@pytest.mark.parametrize("records, data, problem", [
    ({"GNU__sparse__size": "10", "GNU__sparse__map": "5,3,1,3"}, b"abcdef", "goes to 1+3, after 8"),
    ({"GNU__sparse__size": "10", "GNU__sparse__map": "8,3"}, b"abc", "goes to 8+3"),
    ({"GNU__sparse__size": "10", "GNU__sparse__map": "0,3"}, b"abcd", "is of 3 bytes, and 4 are there"),
    ({"GNU__sparse__size": "10", "GNU__sparse__map": "0,3,5"}, b"abc", "malformed"),
    ({"GNU__sparse__size": "10", "GNU__sparse__map": "0,-3"}, b"abc", "malformed"),
    ({"GNU__sparse__size": "99999999999999999999", "GNU__sparse__map": "0,3"}, b"abc", "its size is"),
    ({"GNU__sparse__major": "1", "GNU__sparse__minor": "0", "GNU__sparse__realsize": "9"}, b"1\n0\nx\n".ljust(512, b"\0"), "malformed"),
    ({"GNU__sparse__major": "1", "GNU__sparse__minor": "0", "GNU__sparse__realsize": "9"}, b"1\n", "cut short"),
    ({"GNU__sparse__major": "1", "GNU__sparse__minor": "0", "GNU__sparse__realsize": "9"}, b"9999999\n".ljust(512, b"\0"), "1048576 are the most"),
    ({"GNU__sparse__major": "1", "GNU__sparse__minor": "0", "GNU__sparse__realsize": "9"}, b"1" * 1024, "malformed"),
    ({"GNU__sparse__major": "2", "GNU__sparse__minor": "0", "GNU__sparse__realsize": "9"}, b"", "form that is not known"),
])  # fmt: skip
def test_maps_of_sparse_files_that_lie(records: dict[str, str], data: bytes, problem: str, jail: Jail) -> None:
    assert problem in jail.refused(pax(**records), entry("sparse", data=data))


def test_the_name_of_a_sparse_file_is_walked_as_any(jail: Jail) -> None:
    records = {"GNU__sparse__size": "4", "GNU__sparse__map": "1,2"}
    assert "would lead out" in jail.refused(pax(**records, GNU__sparse__name="../outside/x"), entry("harmless", data=b"ab"))
    assert (jail.unpack(pax(**records, GNU__sparse__name="d/x"), entry("GNUSparseFile.1/x", data=b"ab")) / "d/x").read_bytes() == b"\0ab\0"
