"""`dolium export` and `dolium diff`: what a container shows, read from outside."""

from __future__ import annotations

import io
import os
import pty
import struct
import subprocess
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from containers import Dolium, read_line

WRITES = """
echo new > /root/new; ln /root/new /root/second; rm /etc/motd; rm -r /etc/apk; mkdir /etc/apk; echo x > /etc/apk/world
rm -r /srv; echo file > /srv; rm /etc/shells; mkdir /etc/shells; echo in > /etc/shells/in
mkfifo /fifo; ln -s /nowhere /link; chmod 4755 /bin/busybox; mkdir -p /deep/er; chmod 1777 /deep; mkdir /secret; echo s > /secret/s
chmod 0 /secret/s /secret; echo n > "/with
newline"; mkdir /opaque; printf x | dd of=/sparse bs=1 seek=8M 2>/dev/null; touch -d '2001-02-03 04:05:06' /old; : > /empty
"""
SEEN = r"""find / -xdev \( -path /proc -o -path /sys -o -path /dev \) -prune -o ! -name '*newline' -exec stat -c '%n|%f|%u|%g|%s|%Y|%h|%N' {} + | sort"""


class Kept:
    """A container of that root with what WRITES does, which is gone in the end."""

    def __init__(self, dolium: Dolium, root: str, name: str, *flags: str) -> None:
        self.dolium, self.name = dolium, name
        dolium.forgets = False
        ended = dolium("run", "--name", name, *flags, root, "sh", "-c", WRITES)
        assert (ended.code, ended.stderr) == (0, ""), ended

    def archive(self, *words: str) -> tarfile.TarFile:
        ended = self.dolium("export", *words, self.name)
        assert (ended.code, ended.stderr) == (0, ""), ended
        return tarfile.open(fileobj=io.BytesIO(ended.out))


@pytest.fixture(params=["plain", pytest.param("root", marks=pytest.mark.needs_root)])
def kept(request: pytest.FixtureRequest, plain: Dolium, own_alpine: str, alpine: str) -> Iterator[Kept]:
    dolium = plain if request.param == "plain" else Dolium()
    name = f"export-{os.getpid()}-{request.param}"
    try:
        yield Kept(dolium, own_alpine if dolium is plain else alpine, name)
    finally:
        dolium("rm", "-f", name)


def names(archive: tarfile.TarFile) -> dict[str, tarfile.TarInfo]:
    found = {}
    for member in archive.getmembers():
        assert member.name not in found, f"{member.name} is twice in it"
        found[member.name] = member
    return found


def test_all_that_shows_is_in_it(kept: Kept) -> None:
    archive = kept.archive()
    found = names(archive)

    def text(name: str) -> bytes:
        file = archive.extractfile(found[name])
        assert file
        return file.read()

    assert text("root/new") == b"new\n" and found["root/second"].islnk() and found["root/second"].linkname == "root/new"
    assert not {"etc/motd", "etc/apk/arch", "srv/x"} & found.keys()
    assert text("etc/apk/world") == b"x\n" and text("srv") == b"file\n" and text("etc/shells/in") == b"in\n"
    assert found["fifo"].isfifo() and found["link"].linkname == "/nowhere"
    assert found["bin/busybox"].mode == 0o4755 and found["deep"].mode == 0o1777
    assert (found["secret"].mode, found["secret/s"].mode, text("secret/s")) == (0, 0, b"s\n")
    assert text("with\nnewline") == b"n\n" and found["old"].mtime == 981173106 and found["empty"].size == 0
    assert text("sparse") == bytes(8 << 20) + b"x" and found["sparse"].issparse()
    assert {(each.uid, each.gid) for name, each in found.items() if name != "etc/shadow"} == {(0, 0)}
    assert found["proc"].isdir() and not [each for each in found if each.startswith(("proc/", "sys/", "dev/"))]
    assert not [each for each in found.values() if each.ischr() or "overlay" in str(each.pax_headers)]


def everything(archive: tarfile.TarFile) -> dict[str, Any]:
    """All that is said of each entry, and its content."""
    found = {}
    for name, each in names(archive).items():
        file = archive.extractfile(each) if each.isreg() else None
        attributes = {key: value for key, value in each.pax_headers.items() if key.startswith("SCHILY.")}
        found[name] = (each.type, each.mode, each.uid, each.gid, each.mtime, each.size, each.linkname, attributes, file and file.read())
    return found


def test_what_is_made_of_it_is_the_same(root: Dolium, alpine: str, folder: str) -> None:
    """The archive as a rootfs shows what the container showed, entry by entry, to programs in it and to another export."""
    name = f"round-{os.getpid()}"
    again = f"{name}-again"
    try:
        first = Kept(root, alpine, name)
        assert root("export", "-o", f"{folder}/x.tar", name).code == 0
        assert os.listdir(folder) == ["x.tar"] and os.stat(f"{folder}/x.tar").st_mode & 0o777 == 0o644
        run = root("run", "--name", again, f"{folder}/x.tar", "sh", "-c", SEEN)
        assert run.code == 0 and run.stdout, run
        archive = first.archive()
        found = names(archive)
        for line in run.stdout.splitlines():
            path, mode, uid, gid, size, when, _, _ = line.split("|", 7)
            if path in ("/", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf"):
                continue
            member = found[path[1:]]
            assert (int(mode, 16) & 0o7777, int(uid), int(gid)) == (member.mode, member.uid, member.gid), path
            assert member.islnk() or not member.isreg() or int(size) == member.size, path
            assert int(when) == int(member.mtime), path
        with tarfile.open(fileobj=io.BytesIO(root("export", again).out)) as of_it:
            of_first, of_second = everything(archive), everything(of_it)
        for each in ("etc/resolv.conf", ".", "etc"):  # made anew for each container
            of_first.pop(each)
            of_second.pop(each, None)
        assert of_first == of_second
    finally:
        root("rm", "-f", name, again)


def test_the_same_container_gives_the_same_bytes(kept: Kept) -> None:
    assert kept.dolium("export", kept.name).out == kept.dolium("export", kept.name).out


def test_what_was_changed_is_listed(kept: Kept) -> None:
    ended = kept.dolium("diff", kept.name)
    assert (ended.code, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    assert sorted(lines, key=lambda each: each[2:]) == lines
    expected = {"C /bin", "C /bin/busybox", "A /deep", "A /deep/er", "C /etc", "C /etc/apk", "C /etc/apk/world", "D /etc/apk/keys", "D /etc/motd",
                "C /etc/shells", "A /etc/shells/in", "C /srv", "A /fifo", "A /link", "A /root/new", "A /root/second", "C /root", "A /secret/s",
                "A /with\\nnewline", "A /sparse"}  # fmt: skip
    assert expected <= {*lines}
    assert not [each for each in lines if "resolv.conf" in each or "/proc" in each or "/dev" in each]


def test_what_was_not_changed_is_not(dolium: Dolium, own_alpine: str) -> None:
    dolium.forgets = False
    name = f"diff-{os.getpid()}"
    try:
        assert dolium("run", "--name", name, "--tmpfs", "/mnt/x", own_alpine, "true").code == 0
        ended = dolium("diff", name)
        assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")
    finally:
        dolium("rm", name)


def test_the_owners_are_those_inside(root: Dolium, alpine: str) -> None:
    root.forgets = False
    name = f"owners-{os.getpid()}"
    try:
        assert root("run", "--name", name, alpine, "sh", "-c", "echo x > /x; chown 12:34 /x; mkdir /d; chown 7 /d").code == 0
        for words in (("export", name), ("start", name), ("export", name)):
            ended = root(*words)
            assert ended.code == 0, ended
            if words[0] == "export":
                with tarfile.open(fileobj=io.BytesIO(ended.out)) as archive:
                    assert [(archive.getmember(each).uid, archive.getmember(each).gid) for each in "xd"] == [(12, 34), (7, 0)]
    finally:
        root("rm", "-f", name)


def test_capabilities_and_attributes_are_kept(root: Dolium, alpine: str, folder: str) -> None:
    """Also those that were set by the container's own root, which are bound to its user namespace."""
    value = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)
    code = ("import os; os.setxattr('/cap', 'security.capability', bytes.fromhex('" + value.hex() + "'));"
            "os.setxattr('/cap', 'user.note', b'\\x00=\\n'); os.setxattr('/', 'user.root', b'1')")
    root.forgets = False
    name = f"xattrs-{os.getpid()}"
    os.mkdir(f"{folder}/root")
    try:
        for directory in ("usr", "lib", "lib64", "bin"):
            if os.path.islink(f"/{directory}"):
                os.symlink(os.readlink(f"/{directory}"), f"{folder}/root/{directory}")
            else:
                os.mkdir(f"{folder}/root/{directory}")
        with open(f"{folder}/root/cap", "w"):
            pass
        binds = [word for each in ("usr",) for word in ("-v", f"/{each}:/{each}:ro")]
        ended = root("run", "--name", name, *binds, f"{folder}/root", "/usr/bin/python3", "-IS", "-c", code)
        assert (ended.code, ended.stderr) == (0, ""), ended
        with tarfile.open(fileobj=io.BytesIO(root("export", name).out)) as archive:
            found = archive.getmember("cap").pax_headers
            assert found["SCHILY.xattr.security.capability"].encode("utf-8", "surrogateescape") == value
            assert found["SCHILY.xattr.user.note"] == "\x00=\n"
            assert archive.getmember(".").pax_headers["SCHILY.xattr.user.root"] == "1"
    finally:
        root("rm", "-f", name)


@pytest.mark.parametrize("who", ["plain", pytest.param("root", marks=pytest.mark.needs_root)])
def test_of_one_that_is_removed_in_the_end(who: str, plain: Dolium, alpine: str, own_alpine: str) -> None:
    """Its files are in memory, and can be seen while it runs."""
    dolium = plain if who == "plain" else Dolium()
    name = f"passing-{os.getpid()}-{who}"
    code = "echo x > /x; chmod 600 /x; rm /etc/motd; mkfifo /f; mount -t tmpfs none /mnt 2>/dev/null; echo ready; sleep 1000"
    with dolium.start("run", "--name", name, own_alpine if dolium is plain else alpine, "sh", "-c", code) as process:
        assert read_line(process) == "ready"
        with tarfile.open(fileobj=io.BytesIO(dolium("export", name).out)) as archive:
            found = names(archive)
            assert (found["x"].mode, found["x"].uid) == (0o600, 0) and "etc/motd" not in found and found["f"].isfifo()
            assert found["proc"].isdir() and found["etc/hosts"].size == 0
            assert not [each for each in found if each.startswith(("proc/", "sys/", "dev/"))]
        refused = dolium("diff", name)
        assert refused.code == 125 and refused.stderr.endswith("hint: start it without `--rm`\n"), refused
        assert dolium("kill", name).code == 0
        process.wait()
    assert dolium("export", name).code == 125


def test_while_it_writes(root: Dolium, alpine: str) -> None:
    """What grows, shrinks, vanishes and turns into something else meanwhile breaks nothing, and leads nowhere."""
    root.forgets = False
    name = f"busy-{os.getpid()}"
    code = """mkdir -p /w/d; echo ready
    while :; do
        head -c 300000 /dev/zero > /w/f; : > /w/f; rm -rf /w/d; ln -s /etc /w/d; rm /w/d; mkdir /w/d; echo x > /w/d/x
        mkfifo /w/p; rm /w/p; echo y > /w/p; rm /w/p
    done"""
    try:
        with root.start("run", "--name", name, alpine, "sh", "-c", code) as process:
            assert read_line(process) == "ready"
            for _ in range(15):
                ended = root("export", name)
                assert (ended.code, ended.stderr) == (0, ""), ended.stderr
                with tarfile.open(fileobj=io.BytesIO(ended.out)) as archive:
                    assert "etc/passwd" in names(archive)
                    assert not [each for each in archive.getnames() if each.startswith("w/d/") and each != "w/d/x"]
                assert root("diff", name).code == 0
            root("kill", name)
            process.wait()
    finally:
        root("rm", "-f", name)


def test_this_hosts_programs_are_not_exported(dolium: Dolium) -> None:
    dolium.forgets = False
    name = f"own-{os.getpid()}"
    try:
        assert dolium("run", "--name", name, "@host", "sh", "-c", "echo x > /root/x; rm /etc/passwd; mkdir /srv").code == 0
        refused = dolium("export", name)
        assert refused.code == 125 and refused.out == b""
        assert refused.stderr.startswith("error: unsupported: the files of @host: they are this host's own programs"), refused
        assert refused.stderr.endswith(f"hint: `dolium diff {name}` lists what it wrote; start from an image to make one\n")
        assert [*filter(None, dolium("diff", name).stdout.split("\n"))] == ["C /etc", "D /etc/passwd", "C /root", "A /root/x", "A /srv"]
    finally:
        dolium("rm", "-f", name)


def test_not_to_a_terminal(dolium: Dolium) -> None:
    outer, inner = pty.openpty()
    try:
        refused = dolium("export", "x", stdout=inner)
        assert refused.code == 125 and refused.stderr == (
            "error: an archive is not written to a terminal\n\nhint: dolium export x -o FILE, or `| tar -t`\n")
    finally:
        os.close(outer)
        os.close(inner)


def test_a_file_appears_whole_or_not_at_all(dolium: Dolium, own_alpine: str, folder: str) -> None:
    dolium.forgets = False
    name = f"whole-{os.getpid()}"
    os.chown(folder, dolium.uid, -1)
    try:
        assert dolium("run", "--name", name, own_alpine, "sh", "-c", "dd if=/dev/zero of=/big bs=1M count=64 2>/dev/null").code == 0
        with open(f"{folder}/old.tar", "w") as file:
            file.write("old")
        for wait in (0.1, 0.15, 0.2, 0.25, 0.3, 0.4):
            with dolium.start("export", "-o", f"{folder}/old.tar", name) as process:
                time.sleep(wait)
                process.kill()
                process.wait()
            assert [*filter(lambda each: each != "old.tar", os.listdir(folder))] == []
            assert os.path.getsize(f"{folder}/old.tar") == 3 or os.path.getsize(f"{folder}/old.tar") > 64 << 20
        assert dolium("export", "--output", f"{folder}/old.tar", name).code == 0
        assert tarfile.is_tarfile(f"{folder}/old.tar")
        refused = dolium("export", "-o", f"{folder}/nowhere/x.tar", name)
        assert refused.code == 125 and refused.stderr == f"error: cannot write `{folder}/nowhere/x.tar`: No such file or directory\n"
        assert dolium("export", "-o", "/dev/null", name).code == 0
        full = dolium("export", "-o", "/dev/full", name)
        assert full.code == 125 and full.stderr == "error: cannot write `/dev/full`: No space left on device\n"
    finally:
        dolium("rm", "-f", name)


def test_other_readers_read_it(kept: Kept, folder: str) -> None:
    data = kept.dolium("export", kept.name).out
    for words in (["tar", "-t"], ["bsdtar", "-tf", "-"]):
        try:
            done = subprocess.run(words, input=data, capture_output=True)
        except FileNotFoundError:
            continue
        assert done.returncode == 0 and done.stderr == b"", done.stderr
        assert len(done.stdout.splitlines()) == len(names(kept.archive()))


def test_what_cannot_be_read_is_named(plain: Dolium, root: Dolium, own_alpine: str, folder: str) -> None:
    """A directory of root's in a plain user's root: his container cannot read it either."""
    subprocess.run(["cp", "-a", own_alpine, f"{folder}/root"], check=True)
    os.mkdir(f"{folder}/root/srv/closed", 0o700)
    os.chown(f"{folder}/root/srv/closed", 0, 0)
    plain.forgets = False
    name = f"closed-{os.getpid()}"
    try:
        assert plain("run", "--name", name, f"{folder}/root", "true").code == 0
        refused = plain("export", name)
        assert refused.code == 125 and refused.stderr == "error: cannot read `/srv/closed` of the container: Permission denied\n"
    finally:
        plain("rm", "-f", name)


def test_what_overlayfs_does_in_its_own_way_is_named(root: Dolium, alpine: str) -> None:
    """Directories moved without their content, files copied without theirs: only where a host turned that on."""
    root.forgets = False
    name = f"moved-{os.getpid()}"
    try:
        assert root("run", "--name", name, alpine, "sh", "-c", "mkdir /d; echo x > /f").code == 0
        upper = root("inspect", "--format", "{{.Dolium.Upper}}", name).stdout.strip()
        for path, mark, word in ((f"{upper}/d", "redirect", "redirect_dir"), (f"{upper}/f", "metacopy", "metacopy")):
            os.setxattr(path, f"trusted.overlay.{mark}", b"/x")
            for command in ("diff", "export"):
                refused = root(command, name)
                assert refused.code == 125 and f"({word})\n" in refused.stderr, refused
                assert refused.stderr.endswith(f"hint: echo N > /sys/module/overlay/parameters/{word}, and run it anew\n")
            os.removexattr(path, f"trusted.overlay.{mark}")
        assert root("diff", name).code == 0
    finally:
        root("rm", "-f", name)


def test_directories_too_deep_are_named(root: Dolium, alpine: str) -> None:
    root.forgets = False
    name = f"deep-{os.getpid()}"
    try:
        assert root("run", "--name", name, alpine, "mkdir", "/d").code == 0
        fd = os.open(root("inspect", "--format", "{{.Dolium.Upper}}", name).stdout.strip() + "/d", os.O_RDONLY)
        for _ in range(25):
            os.mkdir("d" * 200, dir_fd=fd)
            below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)
        refused = root("export", name)
        assert refused.code == 125 and refused.stderr.splitlines()[0].endswith("of the container: File name too long"), refused
        assert refused.stderr.endswith("hint: its directories lie deeper within each other than a path can say\n")
    finally:
        root("rm", "-f", name)
