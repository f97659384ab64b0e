"""Directories and archives into a Sandbox and out of it, also while a program there is hostile."""

import io
import os
import resource
import stat
import tarfile
import threading
import time

import pytest

import dolium


def tree(path: str) -> dict[str, tuple[int, bytes | str | None]]:
    """name -> (mode, content, link target or None)."""
    found: dict[str, tuple[int, bytes | str | None]] = {}
    for above, directories, names in os.walk(path):
        for name in directories + names:
            full = os.path.join(above, name)
            status = os.lstat(full)
            content: bytes | str | None = None
            if stat.S_ISLNK(status.st_mode):
                content = os.readlink(full)
            elif stat.S_ISREG(status.st_mode):
                with open(full, "rb") as file:
                    content = file.read()
            found[os.path.relpath(full, path)] = (stat.S_IMODE(status.st_mode) if content != os.path.basename(full) else 0, content)
    return found


@pytest.fixture
def sample(folder: str) -> str:
    path = f"{folder}/sample"
    os.makedirs(f"{path}/deep/er")
    os.mkdir(f"{path}/empty", 0o750)
    for name, data, mode in (("a.txt", b"text", 0o644), ("deep/er/big", os.urandom(1 << 20), 0o600), ("run", b"#!/bin/sh\n", 0o755)):
        with open(f"{path}/{name}", "wb") as file:
            file.write(data)
        os.chmod(f"{path}/{name}", mode)
    os.symlink("../a.txt", f"{path}/deep/link")
    os.symlink("/nowhere", f"{path}/dangling")
    os.utime(f"{path}/a.txt", (1_000_000_000, 1_000_000_000))
    return path


def test_a_directory_there_and_back(sample: str, folder: str) -> None:
    with dolium.Sandbox() as box:
        box.put(sample, "/srv/data")
        seen = box.run(["sh", "-c", "cd /srv/data && cat a.txt deep/link && ./run && stat -c '%u:%g %a %Y' a.txt && ls -A empty"], text=True)
        assert (seen.stdout, seen.exit_code) == ("texttext0:0 644 1000000000\n", 0)
        box.get("/srv/data", f"{folder}/back")
        assert tree(f"{folder}/back") == tree(sample)
        assert os.lstat(f"{folder}/back/a.txt").st_uid == os.geteuid() and os.stat(f"{folder}/back/a.txt").st_mtime == 1_000_000_000
        box.put(sample, "/srv/")
        assert box.exists("/srv/sample/deep/er/big")
        box.put(sample, "/srv/data")  # once more, over what is there
        box.get("/srv/data/a.txt", f"{folder}/one")
        box.get("/srv/data/a.txt", folder)
        for name in ("one", "a.txt"):
            with open(f"{folder}/{name}") as file:
                assert file.read() == "text"


def test_a_file_whom_only_the_caller_may_read(folder: str) -> None:
    path = f"{folder}/secret"
    with open(path, "w") as file:
        file.write("s")
    os.chmod(path, 0o600)
    with dolium.Sandbox() as box:
        box.put(path, "/run/secrets/s")
        assert box.run(["cat", "/run/secrets/s"]).stdout == b"s"
        for source, kind in ((f"{folder}/missing", FileNotFoundError), ("/dev/null/x", NotADirectoryError)):
            with pytest.raises(kind):
                box.put(source, "/tmp/x")
        with pytest.raises(OSError):
            box.put(path, "/etc/passwd/x")


def test_archives(sample: str, folder: str) -> None:
    with tarfile.open(f"{folder}/a.tar.gz", "w:gz") as archive:
        archive.add(sample, "top")
    with dolium.Sandbox() as box:
        with open(f"{folder}/a.tar.gz", "rb") as file:
            box.put(file, "/opt/x")
        assert box.ls("/opt/x/top") == sorted(os.listdir(sample))
        taken = io.BytesIO()
        box.get("/opt/x/top", taken)
        taken.seek(0)
        with tarfile.open(fileobj=taken) as archive:
            assert {"top", "top/a.txt", "top/deep/er/big", "top/deep/link"} <= {*archive.getnames()}
            member = archive.extractfile("top/a.txt")
            assert member and member.read() == b"text" and archive.getmember("top/deep/link").linkname == "../a.txt"
        with open(f"{folder}/evil.tar", "wb") as out, tarfile.open(fileobj=out, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("../../escaped"), io.BytesIO())
        with open(f"{folder}/evil.tar", "rb") as file, pytest.raises(dolium.ImageError, match="escaped"):
            box.put(file, "/opt/y")


def test_neither_a_file_nor_a_directory_takes_the_others_place(folder: str) -> None:
    os.makedirs(f"{folder}/in/name")
    with open(f"{folder}/file", "w") as file:
        file.write("new")
    with open(f"{folder}/a.tar", "wb") as out, tarfile.open(fileobj=out, mode="w") as archive:
        archive.add(f"{folder}/file", "link/full")
    with dolium.Sandbox() as box:
        box.run(["sh", "-c", "mkdir -p /d/name/full /e; echo old > /d/file; echo kept > /d/name/full/x; echo old > /e/name; ln -s /name /d/link"], check=True)
        with pytest.raises(IsADirectoryError):
            box.put(f"{folder}/file", "/d/name")
        with pytest.raises(NotADirectoryError):
            box.put(f"{folder}/in", "/e")
        with open(f"{folder}/a.tar", "rb") as packed, pytest.raises(IsADirectoryError):  # an absolute link is of the target's root
            box.put(packed, "/d")
        assert (box.read("/d/name/full/x"), box.read("/e/name")) == (b"kept\n", b"old\n")
        box.put(f"{folder}/file", "/d/file")
        assert box.read("/d/file") == b"new"
        os.makedirs(f"{folder}/out/file/full")
        with pytest.raises(IsADirectoryError, match="would be replaced"):
            box.get("/d", f"{folder}/out")
        assert os.path.isdir(f"{folder}/out/file/full")


def test_what_is_large_takes_no_memory(folder: str) -> None:
    """2 GiB with nothing in them, through a tar archive, into /dev/null: more than this process grows by."""
    with dolium.Sandbox() as box, open("/dev/null", "wb") as null:
        box.run(["truncate", "-s", "2G", "/tmp/large"], check=True)
        before = grown()
        box.get("/tmp/large", null, most="3G")
        assert grown() - before < 64 << 20


def grown() -> int:
    """Bytes that this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def test_an_archive_of_what_is_written_meanwhile_is_whole_or_an_error(folder: str) -> None:
    line = "while :; do head -c 3000000 /dev/zero > /w/f; : > /w/f; echo more >> /w/f; done"
    with dolium.Sandbox() as box:
        box.run(["mkdir", "/w"])
        writer = box.popen(["sh", "-c", line])
        whole, torn = 0, 0
        for _ in range(60):
            with open(f"{folder}/a.tar", "w+b") as file:
                try:
                    box.get("/w", file)
                except OSError as error:
                    torn += "shorter" in str(error)
                    continue
                file.seek(0)
                with tarfile.open(fileobj=file) as archive:
                    assert [*archive.getnames()][:1] == ["w"]
                    whole += 1
        writer.kill()
        writer.wait()
    assert whole + torn > 0 and whole


def test_what_a_program_makes_cannot_lead_or_grow_out(folder: str) -> None:
    """CVE-2018-15664: docker cp followed a link that the container had put there after it was looked at."""
    with dolium.Sandbox(disk="64M") as box:
        box.run(["sh", "-c", "mkdir -p /t/d; ln -s /etc /t/etc; mkfifo /t/fifo; truncate -s 100G /t/sparse; chmod 4755 /t; "
                             "cp /bin/true /t/suid; chmod 6755 /t/suid"])  # fmt: skip
        with pytest.raises(OSError, match="1 MiB"):
            box.get("/t", f"{folder}/out", most="1M")
        with pytest.raises(OSError, match="1 MiB"):
            box.read("/t/sparse", most="1M")
        box.remove("/t/sparse")
        box.get("/t", f"{folder}/tree")
        assert sorted(os.listdir(f"{folder}/tree")) == ["d", "etc", "suid"]
        assert os.readlink(f"{folder}/tree/etc") == "/etc" and stat.S_IMODE(os.lstat(f"{folder}/tree/suid").st_mode) == 0o755
        box.put(f"{folder}/tree/d", "/t/etc/through")  # the container's own /etc
        assert box.exists("/etc/through") and not os.path.exists("/etc/through")
        with pytest.raises(OSError):
            box.get("/t/fifo", f"{folder}/fifo")


def test_a_race_with_links_stays_inside(folder: str) -> None:
    os.mkdir(f"{folder}/in")
    with open(f"{folder}/in/passwd", "w") as file:
        file.write("put here")
    line = "while :; do rm -rf /r; mkdir /r; rm -rf /r; ln -s /proc/1/root/etc /r; rm -f /r; ln -s ../../../../etc /r; done"
    with dolium.Sandbox() as box:
        racer = box.popen(["sh", "-c", line])
        stop = time.monotonic() + 1.5

        def carry() -> None:
            while time.monotonic() < stop:
                for act in (lambda: box.put(f"{folder}/in", "/r"), lambda: box.get("/r", f"{folder}/got"), lambda: box.read("/r/passwd")):
                    try:
                        act()
                    except (OSError, dolium.ImageError):
                        pass

        threads = [threading.Thread(target=carry) for _ in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        racer.kill()
        racer.wait()
    with open("/etc/passwd") as file:
        host = file.read()
    assert "put here" not in host
    if os.path.exists(f"{folder}/got/passwd"):
        with open(f"{folder}/got/passwd") as file:
            assert file.read() != host
