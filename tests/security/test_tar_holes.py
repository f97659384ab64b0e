"""Holes that were published of programs that unpack archives, one test each: what went out of the directory, or came in through it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import DIRECTORY, HARDLINK, SYMLINK, Jail, archive, entry, patched, pax, raw_pax, stream_of, write
from containers import Dolium

from dolium.engine import erase, tar
from dolium.errors import ImageError


@pytest.fixture
def jail(tmp_path: Path) -> Iterator[Jail]:
    yield Jail(tmp_path)
    erase.tree(str(tmp_path / "jail"))


def secret(jail: Jail) -> Path:
    return jail.top / "outside" / "secret"


def test_cve_2007_4559_names_with_dots(jail: Jail) -> None:
    """Python's tarfile, and zip-slip (CVE-2018-1002200 and its kin): joined with the directory as they were."""
    for name in ("../outside/secret", "a/../../../outside/secret", "./../../outside/secret", "a/b/.."):
        assert "`..`" in jail.refused(entry(name, data=b"evil"))


def test_cve_2016_6321_dots_behind_a_prefix(jail: Jail) -> None:
    """GNU tar removed all up to the last `..` and wrote the rest, which the user had not asked for."""
    assert "`..`" in jail.refused(entry("etc/motd/../../../../outside/secret", data=b"evil"))
    assert os.listdir(jail.root) == []


def test_cve_2014_6407_links_out_of_a_layer(jail: Jail) -> None:
    """docker pull followed symbolic links, and made hard links to files of the host."""
    jail.unpack(entry("out", SYMLINK, target=str(jail.top / "outside")))
    try:
        jail.unpack(entry("out/secret", data=b"evil"))
    except ImageError:
        pass
    assert "no file before it" in jail.refused(entry("stolen", HARDLINK, target=str(secret(jail))))
    assert secret(jail).read_text() == "secret"


def test_cve_2014_9356_absolute_links(jail: Jail) -> None:
    """docker load: a symbolic link to an absolute path, then a file through it."""
    root = jail.unpack(entry("x", DIRECTORY), entry("link", SYMLINK, target="/x"), entry("link/file", data=b"inside"))
    assert (root / "x" / "file").read_bytes() == b"inside", "as in the container"


def test_cve_2024_12718_metadata_of_what_is_outside(jail: Jail) -> None:
    """tarfile set times and modes through a symbolic link, of a directory and with a trailing dot."""
    before = os.stat(jail.top / "outside")
    for name in ("x", "x/", "x/.", "./x/./"):
        jail.unpack(entry("x", SYMLINK, target="../../outside"), entry(name, DIRECTORY, mode=0o777, mtime=1))
        assert not (jail.root / "x").is_symlink()
    jail.unpack(entry("y", SYMLINK, target=str(secret(jail))), entry("y", mode=0o777, mtime=1))
    jail.unpack(entry("z", SYMLINK, target=str(secret(jail)), mode=0o777, mtime=1), entry("zz", HARDLINK, target="z", mode=0o777, mtime=1))
    after = os.stat(jail.top / "outside")
    assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    assert os.stat(secret(jail)).st_mode & 0o777 != 0o777


def test_cve_2025_4517_a_chain_of_links_longer_than_a_path(jail: Jail) -> None:
    """tarfile's filters asked realpath, which gives up at PATH_MAX; also CVE-2025-4138 and CVE-2025-4330."""
    part, letters, path = "d" * 247, "abcdefghijklmnop", ""
    parts = []
    for letter in letters:
        parts += [entry(f"{path}{part}", DIRECTORY), entry(f"{path}{letter}", SYMLINK, target=part)]
        path += part + "/"
    chain = "/".join(letters) + "/" + "l" * 254
    parts += [entry(chain, SYMLINK, target="../" * len(letters)), entry("escape", SYMLINK, target=chain + "/../../outside")]
    jail.unpack(*parts)
    for last in (entry("flag", HARDLINK, target="escape/secret"), entry("escape/secret", data=b"evil"), entry("escape/d", DIRECTORY)):
        try:
            jail.unpack(last)
        except ImageError:
            pass
    assert secret(jail).read_text() == "secret" and sorted(os.listdir(jail.top / "outside")) == ["secret"]


def test_cve_2025_4435_what_is_refused_is_not_made(jail: Jail) -> None:
    """tarfile went on after a member that its filter had refused, and made that member too."""
    jail.refused(entry("good"), entry("../outside/new", data=b"x"), entry("after"))
    assert os.listdir(jail.root) == ["good"]


def test_cve_2018_20990_a_hard_link_that_is_written_through(jail: Jail) -> None:
    """tar-rs: a hard link to a symbolic link, then a file of that name: written to where the link led."""
    root = jail.unpack(entry("s", SYMLINK, target=str(secret(jail))), entry("h", HARDLINK, target="s"), entry("h", data=b"evil"))
    assert (root / "h").read_bytes() == b"evil" and secret(jail).read_text() == "secret"


def test_cve_2021_32803_a_directory_that_becomes_a_link(jail: Jail) -> None:
    """node-tar remembered which directories it had made (also CVE-2021-37701, CVE-2021-37712): so do we, and must forget."""
    root = jail.unpack(entry("d", DIRECTORY), entry("d/one"), entry("d", SYMLINK, target="../../outside"), entry("d2", DIRECTORY),
                       entry("d", DIRECTORY), entry("d/two"), entry("d", SYMLINK, target="d2"), entry("d/three"))  # fmt: skip
    assert os.listdir(root / "d2") == ["three"]


def test_cve_2025_62518_two_sizes(jail: Jail) -> None:
    """async-tar took the header's size of 0 where a PAX header gave another, and read the content as entries of its own."""
    hidden = archive(entry("evil"))
    smuggled = pax(size=str(len(hidden))) + patched(entry("x"), 124, b"00000000000\0") + hidden
    root = jail.unpack(smuggled, entry("after"))
    assert sorted(os.listdir(root)) == ["after", "x"] and (root / "x").read_bytes() == hidden


def test_cve_2022_48303_numbers_at_their_edges() -> None:
    """GNU tar read beyond a one-byte binary number; every length and first byte gives a number or an error."""
    for at, size in ((100, 8), (108, 8), (124, 12), (136, 12)):
        for value in (b"\x80", b"\xff", b"\x80" * size, b"\xff" * size, b"7" * size, b" " * size, bytes(size), b"8", b"-1", b"\0" * (size - 1) + b"7"):
            stream = stream_of(archive(patched(entry("a"), at, value)))
            try:
                assert len(list(tar.Reader(stream))) <= 1
            except ImageError as refused:
                assert "`a`: its " in str(refused) or "cut short" in str(refused)
            os.close(stream.fd)


def test_cve_2023_39804_attributes_without_end() -> None:
    """GNU tar: a PAX header that names an attribute and is cut off; also CVE-2019-9923."""
    for text in (b"30 SCHILY.xattr.user.a=b\n", b"20 SCHILY.xattr.=\n", b"14 SCHILY.xat\n", b"5 =a\n", b"4 =\n", b"1\n"):
        stream = stream_of(archive(raw_pax(text), entry("a")))
        with pytest.raises(ImageError, match="malformed PAX"):
            list(tar.Reader(stream))
        os.close(stream.fd)


def test_cve_2021_41091_nobody_reaches_a_setuid_program_of_an_image(root: Dolium, plain: Dolium, folder: str) -> None:
    """moby's directories could be walked by all users of the host, who ran what images hold set-user-ID (also CVE-2005-2541)."""
    path = write(f"{folder}/x.tar", archive(entry("evil", data=os.urandom(8), mode=0o4755), entry("d", DIRECTORY, mode=0o777)))
    from dolium.engine import rootfs, tarballs
    from dolium.runtime import places

    use = rootfs.provide(path)
    assert use
    try:
        copy = rootfs.unpacked(use.digest)
        assert stat.S_IMODE(os.lstat(f"{copy}/evil").st_mode) == 0o4755
        for each in (places.data(), f"{places.data()}/rootfs", os.path.dirname(copy)):
            assert stat.S_IMODE(os.lstat(each).st_mode) == 0o700
        assert plain(argv=["ls", f"{copy}/d"]).code != 0
    finally:
        use.close()
        assert any(name in copy for name, _ in tarballs.prune())
