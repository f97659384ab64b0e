"""`dolium cp`: what goes where, of a container that runs and of one that does not, and that nothing leads out of it."""

from __future__ import annotations

import io
import os
import pty
import stat
import tarfile
import time
from collections.abc import Iterator
from fcntl import LOCK_EX, LOCK_NB, flock

import pytest
from archives import archive, entry
from containers import Dolium, Ended, read_line, wait_for

TREE = """mkdir -p /tree/sub; echo one > /tree/one; echo two > /tree/sub/two; ln -s one /tree/link; ln /tree/one /tree/hard
chmod 640 /tree/one; chmod 4755 /tree/sub/two; mkfifo /tree/fifo; ln -s /etc/passwd /out; ln -s /tree /in; mkdir /empty; echo ready; sleep 1000"""


class Box:
    """A container with TREE, which runs or has ended, and a directory of the host."""

    def __init__(self, dolium: Dolium, root: str, folder: str, runs: bool) -> None:
        dolium.forgets = False
        self.dolium, self.folder, self.name = dolium, folder, f"cp-{os.getpid()}-{dolium.uid}"
        os.chown(folder, dolium.uid, dolium.uid if dolium.uid else -1)
        self.process = dolium.start("run", "--name", self.name, root, "sh", "-c", TREE)
        assert read_line(self.process) == "ready"
        if not runs:
            assert dolium("kill", self.name).code == 0
            self.process.wait()

    def __call__(self, *words: str, input: bytes | None = None) -> Ended:
        """`@` is the container, relative paths are the folder's."""
        return self.dolium("cp", *(word.replace("@", self.name + ":") for word in words), input=input, cwd=self.folder)

    def good(self, *words: str, input: bytes | None = None) -> Ended:
        ended = self(*words, input=input)
        assert ended.code == 0, ended
        return ended

    def refused(self, *words: str, input: bytes | None = None) -> str:
        ended = self(*words, input=input)
        assert ended.code == 125 and ended.stderr.startswith("error: "), ended
        return ended.stderr.splitlines()[0]

    def path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def write(self, name: str, text: str = "text", mode: int = 0o644) -> str:
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w") as file:
            file.write(text)
        for path in (os.path.dirname(self.path(name)), self.path(name)):
            os.chown(path, self.dolium.uid, -1)
        os.chmod(self.path(name), mode)
        return name

    def inside(self) -> dict[str, tarfile.TarInfo]:
        with tarfile.open(fileobj=io.BytesIO(self.dolium("export", self.name).out)) as found:
            return {each.name: each for each in found.getmembers()}

    def text(self, path: str) -> str:
        with tarfile.open(fileobj=io.BytesIO(self.good(f"@{path}", "-").out)) as found:
            file = found.extractfile(found.getmembers()[0])
            assert file
            return file.read().decode()

    def close(self) -> None:
        self.dolium("rm", "-f", self.name)
        self.process.wait()
        self.process.communicate()


@pytest.fixture(params=["runs", "ended"])
def runs(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "runs")


@pytest.fixture(params=["plain", pytest.param("root", marks=pytest.mark.needs_root)])
def box(request: pytest.FixtureRequest, plain: Dolium, own_alpine: str, alpine: str, folder: str, runs: bool) -> Iterator[Box]:
    found = Box(plain, own_alpine, folder, runs) if request.param == "plain" else Box(Dolium(), alpine, folder, runs)
    yield found
    found.close()


def read(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read()


def names(path: str) -> list[str]:
    return sorted(os.path.relpath(f"{directory}/{each}", path) for directory, below, files in os.walk(path) for each in (*below, *files))


IN_TREE = ["hard", "link", "one", "sub", "sub/two"]


def test_out_of_it(box: Box) -> None:
    ended = box.good("@/tree/one", "new")
    assert ended.stderr == "" and read(box.path("new")) == "one\n"
    status = os.stat(box.path("new"))
    assert stat.S_IMODE(status.st_mode) == 0o640 and status.st_uid == box.dolium.uid
    box.good("@/tree/one", "new")  # over it
    os.mkdir(box.path("there"), 0o777)
    os.chown(box.path("there"), box.dolium.uid, -1)
    box.good("@tree/one", "there")
    box.good("@/tree/one", "there/other")
    assert names(box.path("there")) == ["one", "other"]
    ended = box.good("@/tree", "there")
    assert ended.stderr == "dolium: left out: `fifo` is a device or a FIFO\n"
    assert names(box.path("there/tree")) == IN_TREE and os.readlink(box.path("there/tree/link")) == "one"
    assert os.path.samefile(box.path("there/tree/one"), box.path("there/tree/hard"))
    assert stat.S_IMODE(os.stat(box.path("there/tree/sub/two")).st_mode) == 0o755, "nobody gets a program that runs as the caller"
    assert box.good("-q", "@/tree", "fresh").stderr == "" and names(box.path("fresh")) == IN_TREE
    box.good("-q", "@/tree/.", "there/tree/sub")
    assert names(box.path("there/tree/sub")) == [*IN_TREE, "two"]


def test_holes_stay_holes(box: Box) -> None:
    with open(box.path("sparse"), "wb") as file:
        file.truncate(64 << 20)
        file.seek(32 << 20)
        file.write(b"x")
    os.chown(box.path("sparse"), box.dolium.uid, -1)
    box.good("sparse", "@/empty")
    box.good("@/empty/sparse", "back")
    status = os.stat(box.path("back"))
    assert status.st_size == 64 << 20 and status.st_blocks * 512 < 1 << 20
    with open(box.path("back"), "rb") as file:
        file.seek(32 << 20)
        assert file.read(2) == b"x\0"


def test_into_it(box: Box) -> None:
    box.write("file", "new", 0o4750)
    box.write("dir/sub/deep")
    os.symlink("/etc/shadow", box.path("dir/link"))
    box.good("file", "@/new")
    box.good("file", "@/tree/")
    box.good("file", "@/tree/one")
    box.good("./dir", "@/made")
    box.good("dir", "@/empty")
    box.good("dir/.", "@/empty")
    found = box.inside()
    assert (found["new"].mode, found["new"].uid, found["new"].gid, found["new"].size) == (0o4750, 0, 0, 3)
    assert found["tree/file"].size == 3 and box.text("/tree/one") == "new" and box.text("/tree/hard") == "one\n"
    for top in ("made", "empty", "empty/dir"):
        assert found[f"{top}/sub/deep"].isreg() and found[f"{top}/link"].linkname == "/etc/shadow", top
    assert box.dolium("start", box.name).code in (0, 125)  # it is as it was, for whoever starts it


def test_links_are_what_they_are(box: Box) -> None:
    box.good("@/out", "link")
    assert os.readlink(box.path("link")) == "/etc/passwd"
    box.good("-L", "@/out", "file")
    assert "root:x:0:0" in read(box.path("file"))
    box.good("--follow-link", "-q", "@/in", "tree")
    assert names(box.path("tree")) == IN_TREE
    box.good("-q", "@/in/", "again")
    assert names(box.path("again")) == IN_TREE
    box.good("@/in/one", "through")
    assert read(box.path("through")) == "one\n"


def test_archives(box: Box) -> None:
    with tarfile.open(fileobj=io.BytesIO(box.good("@/tree", "-").out)) as found:
        assert found.getnames() == ["tree", "tree/hard", "tree/link", "tree/one", "tree/sub", "tree/sub/two"]
        assert found.getmember("tree/sub/two").mode == 0o4755
    with tarfile.open(fileobj=io.BytesIO(box.good("@/tree/.", "-").out)) as found:
        assert found.getnames()[:2] == [".", "hard"]
    box.good("-", "@/empty", input=archive(entry("a/b", data=b"text"), entry("l", tarfile.SYMTYPE, target="a")))
    assert box.text("/empty/a/b") == "text" and box.inside()["empty/l"].linkname == "a"
    assert "`..` would lead out" in box.refused("-", "@/empty", input=archive(entry("../x")))
    assert "No such file" in box.refused("-", "@/nowhere", input=archive(entry("x")))
    outer, inner = pty.openpty()
    try:
        ended = box.dolium("cp", f"{box.name}:/tree", "-", stdout=inner)
        assert ended.code == 125 and "an archive is not written to a terminal" in ended.stderr
    finally:
        os.close(outer)
        os.close(inner)


def test_what_cannot_be_said_is_refused(box: Box) -> None:
    box.write("file")
    box.write("dir/one/x")
    for each in ("dir", "dir/one", "dir/one/x"):
        os.chown(box.path(each), box.dolium.uid, -1)
    assert box.refused("@/nowhere", "x") == f"error: cannot copy `{box.name}:/nowhere` to `x`: No such file or directory"
    assert "Not a directory" in box.refused("@/tree", "file")
    assert "Not a directory" in box.refused("@/tree/one/", "x")
    assert "No such file or directory" in box.refused("@/tree/one", "nowhere/")
    assert "No such file or directory" in box.refused("@/tree/one", "nowhere/x")
    assert "No such file or directory" in box.refused("file", "@/nowhere/x")
    assert "Not a directory" in box.refused("file", "@/tree/one/")
    assert box.refused("dir/.", "@/tree") == "error: cannot copy over `one`: it is no directory, and would become one"
    assert box.refused("-q", "@/tree/.", "dir").startswith("error: cannot copy over `one`: it is a directory, and would become something else")
    assert names(box.path("dir")) == ["hard", "link", "one", "one/x"], "nothing of the caller's is removed"
    assert box.refused("file", "x") == "error: `dolium cp`: neither is in a container"
    assert box.refused("@/tree", "@/x") == "error: `dolium cp`: from one container into another is not offered"
    if box.dolium.uid:
        os.chown(box.path("file"), 0, 0)
        os.chmod(box.path("file"), 0o600)
        assert box.refused("file", "@/new") == "error: cannot read `file`: Permission denied"
        assert box.refused("-a", "@/tree", "x") == "error: -a gives files to others, which only root can do"
    else:
        assert box.refused("-a", "@/tree", "-").startswith("error: -a and `-`")


@pytest.mark.needs_root
def test_owners_are_kept_if_so_asked(root: Dolium, alpine: str, folder: str, runs: bool) -> None:
    box = Box(root, alpine, folder, runs)
    try:
        box.write("dir/file", mode=0o4755)
        for path in ("dir", "dir/file"):
            os.chown(box.path(path), 7, 8)
        os.chmod(box.path("dir/file"), 0o4755)
        box.good("-a", "dir", "@/kept")
        found = box.inside()
        assert [(found[each].uid, found[each].gid) for each in ("kept", "kept/file")] == [(7, 8), (7, 8)] and found["kept/file"].mode == 0o4755
        box.good("--archive", "@/kept", "back")
        status = os.stat(box.path("back/file"))
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (7, 8, 0o4755)
    finally:
        box.close()


def test_into_a_directory_of_others(plain: Dolium, own_alpine: str, folder: str) -> None:
    """Such as /tmp: its time is not the caller's to set."""
    box = Box(plain, own_alpine, folder, runs=False)
    try:
        os.mkdir(box.path("shared"))
        os.chmod(box.path("shared"), 0o1777)
        box.good("@/tree/one", "shared")
        assert names(box.path("shared")) == ["one"]
    finally:
        box.close()


def test_what_is_mounted_is_copied_by_its_name(dolium: Dolium, own_alpine: str, folder: str) -> None:
    dolium.forgets = False
    os.mkdir(f"{folder}/volume")
    with open(f"{folder}/volume/x", "w") as file:
        file.write("in the volume")
    name = f"cp-mounted-{os.getpid()}"
    with dolium.start("run", "--name", name, "-v", f"{folder}/volume:/mnt/v", own_alpine, "sh", "-c", "echo ready; sleep 1000") as process:
        try:
            assert read_line(process) == "ready"
            ended = dolium("cp", f"{name}:/mnt", f"{folder}/mnt")
            assert ended.code == 0 and ended.stderr == "dolium: left out: what is mounted on `v`, which can be copied by that name\n", ended
            assert names(f"{folder}/mnt") == ["v"]
            assert dolium("cp", f"{name}:/mnt/v/x", f"{folder}/x").code == 0
            assert read(f"{folder}/x") == "in the volume"
        finally:
            dolium("rm", "-f", name)


def test_of_this_hosts_programs(dolium: Dolium, folder: str) -> None:
    """Their root is made anew at each start, so it is there only while it runs."""
    dolium.forgets = False
    name = f"cp-own-{os.getpid()}"
    with dolium.start("run", "--name", name, "@host", "sh", "-c", "echo x > /root/x; echo ready; sleep 1000") as process:
        try:
            assert read_line(process) == "ready"
            assert dolium("cp", f"{name}:/root/x", f"{folder}/x").code == 0
            dolium("kill", name)
            process.wait()
            ended = dolium("cp", f"{name}:/root/x", f"{folder}/x")
            assert ended.code == 125 and ended.stderr.endswith(f"hint: its root is made anew: dolium start {name}\n"), ended
        finally:
            dolium("rm", "-f", name)


def test_of_one_that_is_gone(dolium: Dolium) -> None:
    assert dolium("cp", "gone:/x", "x").stderr.startswith("error: no container `gone`")


def test_an_archive_that_leads_out_stays_in(root: Dolium, alpine: str, folder: str, runs: bool) -> None:
    """Links of the archive itself lead where they would lead in the container."""
    box = Box(root, alpine, folder, runs)
    try:
        box.good("-", "@/empty", input=archive(entry("l", tarfile.SYMTYPE, target="/"), entry("l/dolium-test-evil", data=b"x"),
                                               entry("m", tarfile.SYMTYPE, target="../../../.."), entry("m/dolium-test-evil2", data=b"x")))  # fmt: skip
        assert not os.path.exists("/dolium-test-evil") and not os.path.exists("/dolium-test-evil2")
        assert {"dolium-test-evil", "dolium-test-evil2"} <= {os.path.basename(each) for each in box.inside()}
    finally:
        box.close()


def is_held(path: str) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def test_nobody_starts_it_meanwhile(root: Dolium, alpine: str, folder: str) -> None:
    """Two overlays over one upper directory are what the kernel does not promise anything of."""
    box = Box(root, alpine, folder, runs=False)
    try:
        reader, writer = os.pipe()
        where = os.path.dirname(root("inspect", "--format", "{{.Dolium.Upper}}", box.name).stdout.strip())
        with root.start("cp", "-", f"{box.name}:/empty", stdin=reader) as copying:
            os.close(reader)
            os.write(writer, archive(entry("x", data=b"y" * 5000))[:2048])
            wait_for(lambda: is_held(where))
            with root.start("start", box.name) as starting:
                time.sleep(1)
                assert starting.poll() is None
                os.write(writer, archive(entry("x", data=b"y" * 5000))[2048:])
                os.close(writer)
                assert copying.wait() == 0 and starting.wait() == 0
    finally:
        box.close()
