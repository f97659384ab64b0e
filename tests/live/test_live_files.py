"""Flags that put files in: volumes, tmpfs, devices, a root that cannot be written."""

import os

import pytest
from containers import Dolium
from test_live_flags import says


def test_a_volume(dolium: Dolium, alpine: str, folder: str) -> None:
    os.chmod(folder, 0o777)
    with open(f"{folder}/mine", "w") as file:
        file.write("from outside\n")
    inside = "cat /data/mine; echo from inside >/data/theirs; stat -c %u /data/mine"
    owner = dolium.output("--volume", f"{folder}:/data", alpine, "sh", "-c", inside)
    assert owner == "from outside\n0\n"
    status = os.stat(f"{folder}/theirs")
    assert (status.st_uid, status.st_size) == (os.geteuid(), len("from inside\n"))


def test_a_volume_that_cannot_be_written(dolium: Dolium, alpine: str, folder: str) -> None:
    os.chmod(folder, 0o777)
    inside = "touch /data/x; mount -o remount,rw /data; touch /data/x"
    ended = dolium("run", "-v", f"{folder}:/data:ro", alpine, "sh", "-c", inside)
    assert ended.stderr.count("Read-only file system") == 2 and os.listdir(folder) == [], ended


def test_one_file_and_a_relative_path(dolium: Dolium, alpine: str, folder: str) -> None:
    with open(f"{folder}/motd", "w") as file:
        file.write("hello\n")
    assert dolium.output("-v", "./motd:/etc/motd:ro", alpine, "cat", "/etc/motd", cwd=folder) == "hello\n"
    assert dolium.output("-v", f"{folder}:/made/for/it", alpine, "cat", "/made/for/it/motd") == "hello\n"


def test_what_is_mounted_below_comes_too(root: Dolium, alpine: str, folder: str) -> None:
    """/proc is the only mount below another that every host has; inside, it is as readable as outside and no more."""
    found = root("run", "--userns", "host", "-v", "/dev:/hosts-dev:ro", alpine, "sh", "-c", "echo /hosts-dev/*; cat /hosts-dev/zero")
    assert "/hosts-dev/null" in found.stdout and "denied" in found.stderr, found


@pytest.mark.parametrize("given", ["/no/such/directory:/data", "./nor/this:/data"])
def test_a_volume_that_is_not_there(dolium: Dolium, alpine: str, folder: str, given: str) -> None:
    said, hint = says(dolium, "-v", given, alpine, "true", cwd=folder)
    assert said.startswith("error: --volume: `") and given.split(":")[0].lstrip("./") in said and "make it first" in hint
    assert os.listdir(folder) == []


def test_a_volume_that_is_not_yours(plain: Dolium, folder: str) -> None:
    os.mkdir(f"{folder}/closed", 0o700)
    if plain.uid == os.geteuid():
        pytest.skip("all that this user can make is its own")
    said, _ = says(plain, "-v", f"{folder}/closed/x:/data", "@host", "true")
    assert "Permission denied" in said


def test_a_file_on_a_directory(dolium: Dolium, alpine: str, folder: str) -> None:
    said, hint = says(dolium, "-v", "/etc/passwd:/etc", alpine, "true")
    assert "move_mount(2)" in said and "a file can only be mounted on a file" in hint


def test_tmpfs(dolium: Dolium, alpine: str) -> None:
    inside = "df -k /x | tail -1; stat -c %a /x; grep ' /x ' /proc/self/mountinfo; cp /bin/busybox /x/b; /x/b true; echo $?"
    size, _, _, mode, mounted, code = _lines(dolium("run", "--tmpfs", "/x:size=2m,mode=700", alpine, "sh", "-c", inside).stdout)
    assert (size, mode, code) == ("2048", "700", "126")
    assert {"rw", "nosuid", "nodev", "noexec"} <= {*mounted.split()[5].split(",")}
    assert dolium.output("--tmpfs", "/x:exec", alpine, "sh", "-c", "cp /bin/busybox /x; /x/busybox echo ran") == "ran\n"
    ended = dolium("run", "--tmpfs", "/x:ro", alpine, "touch", "/x/y")
    assert ended.code == 1 and "Read-only file system" in ended.stderr
    ended = dolium("run", "--tmpfs", "/x:size=1m", alpine, "sh", "-c", "dd if=/dev/zero of=/x/f bs=64k count=32; stat -c %s /x/f")
    assert ended.stdout == f"{1 << 20}\n" and "No space left" in ended.stderr, ended


def _lines(text: str) -> tuple[str, ...]:
    table, mode, mounted, code = text.splitlines()
    return (*table.split()[1:4], mode, mounted, code)


def test_tmpfs_hides_what_the_image_has(dolium: Dolium, alpine: str) -> None:
    assert dolium.output("--tmpfs", "/etc/apk", alpine, "ls", "-A", "/etc/apk") == ""
    assert dolium.output("--tmpfs", "/dev/shm:size=1m", alpine, "df", "-k", "/dev/shm").split()[8] == "1024"
    assert "nothing can be mounted on `/proc`" in says(dolium, "--tmpfs", "/proc", alpine, "true")[0]


@pytest.mark.needs_root
def test_the_owner_of_a_tmpfs(dolium: Dolium, alpine: str) -> None:
    words = ["--tmpfs", "/x:uid=7,gid=8,mode=755", alpine, "stat", "-c", "%u:%g", "/x"]
    assert dolium.output(*words) == "7:8\n"


def test_a_root_that_cannot_be_written(dolium: Dolium, alpine: str, folder: str) -> None:
    os.chmod(folder, 0o777)
    inside = "touch /x /etc/x /tmp/x; touch /dev/shm/fine /scratch/fine /data/fine && echo fine; mount -o remount,rw /; touch /x"
    for rootfs in (alpine, "@host"):
        words = ["--read-only", "--tmpfs", "/scratch", "-v", f"{folder}:/data", rootfs, "sh", "-c", inside]
        ended = dolium("run", *words)
        assert ended.stdout == "fine\n" and ended.stderr.count("Read-only file system") >= 4, ended


@pytest.mark.parametrize("who", ["root", "plain"])
def test_a_device(request: pytest.FixtureRequest, who: str) -> None:
    user: Dolium = request.getfixturevalue(who)
    inside = "test -c /dev/mine && head -c 3 /dev/mine | tr '\\0' z; echo $(cd /dev; echo m*)"
    assert user.output("--device", "/dev/zero:/dev/mine", "@host", "sh", "-c", inside) == "zzzmine mqueue\n"


@pytest.mark.parametrize(("given", "words"), [
    ("/dev/nothing-such", "No such file or directory"), ("/dev", "not below /dev"), ("/etc/passwd:/dev/x", "is not a device"),
    ("/dev/zero:/zero", "not below /dev")])  # fmt: skip
def test_devices_that_cannot_be(dolium: Dolium, given: str, words: str) -> None:
    assert words in says(dolium, "--device", given, "@host", "true")[0]
