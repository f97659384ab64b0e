"""A tarball as rootfs: unpacked once, kept while somebody needs it, gone when nobody does, whatever is killed in between."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archives import DIRECTORY, SYMLINK, archive, entry, fingerprint, write
from containers import DOLIUM, NOBODY, SYSTEM_PYTHON, Dolium, Ended, program, wait_for

import dolium as library

PROGRAMS = ("sh", "cat", "ls", "stat", "sleep", "id", "test", "touch", "true", "mkdir")


class Host(Dolium):
    """The command with a cache of its own: of root in a mount namespace, of a plain user by XDG_DATA_HOME.  `data` is where it is."""

    def __init__(self, uid: int, folder: str, size: str = "64m") -> None:
        super().__init__(uid)
        self.holder: subprocess.Popen[bytes] | None = None
        self.data = f"{folder}/data"
        if uid == 0:
            hide = f"mount -t tmpfs -o size={size} none /var/lib && mount -t tmpfs none /run && exec sleep infinity"
            self.holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", hide])
            wait_for(lambda: self.holder and program(self.holder.pid) == "sleep")
            self.command = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt", DOLIUM]
            self.data = f"/proc/{self.holder.pid}/root/var/lib"
        else:
            os.mkdir(self.data, 0o700)
            os.chown(self.data, uid, -1)
            self.environment |= {"XDG_DATA_HOME": self.data, "XDG_RUNTIME_DIR": self.data}

    @property
    def cache(self) -> str:
        return f"{self.data}/dolium/rootfs"

    def unpacked(self) -> list[str]:
        """What there is in the cache besides the marks."""
        return sorted(each for each in os.listdir(self.cache) if each != "seen") if os.path.exists(self.cache) else []

    def close(self) -> None:
        if self.holder:
            self.holder.kill()
            self.holder.wait()


@pytest.fixture
def place(dolium: Dolium, folder: str) -> Iterator[Host]:
    """Of whoever runs the tests."""
    found = Host(dolium.uid, folder)
    yield found
    found.close()


@pytest.fixture(params=["plain", pytest.param("root", marks=pytest.mark.needs_root)])
def either(request: pytest.FixtureRequest, plain: Dolium, folder: str) -> Iterator[Host]:
    """Of root and of a plain user."""
    found = Host(plain.uid if request.param == "plain" else 0, folder)
    yield found
    found.close()


def libraries(path: str) -> set[str]:
    """What a program of this host needs to run."""
    words = subprocess.run(["ldd", path], capture_output=True, text=True).stdout.split()
    return {each for each in words if each.startswith("/") and os.path.exists(each)}


def files() -> dict[str, str]:
    """Path in the rootfs -> path on this host."""
    found = {}
    for each in PROGRAMS:
        path = shutil.which(each, path="/usr/bin:/bin")
        if path:
            found[f"usr/bin/{each}"] = path
            found |= {name.lstrip("/"): name for name in libraries(path)}
    return found


@pytest.fixture(scope="module")
def small() -> bytes:
    """An archive of a shell and a few programs of this host, with /bin and /lib as Debian has them."""
    parts = [entry("./", DIRECTORY), entry("./usr/bin", DIRECTORY), entry("./bin", SYMLINK, target="usr/bin")]
    for name, path in files().items():
        for top in ("lib", "lib64"):  # where this host has links to /usr
            if name.startswith(f"{top}/") and os.path.islink(f"/{top}"):
                name = f"usr/{name}"
        with open(path, "rb") as file:
            parts.append(entry(f"./{name}", data=file.read(), mode=0o755))
    parts += [entry(f"./{top}", SYMLINK, target=f"usr/{top}") for top in ("lib", "lib64") if os.path.islink(f"/{top}")]
    parts += [entry("./etc/passwd", data=b"root:x:0:0::/root:/bin/sh\nann:x:7:8::/home:/bin/sh\n"), entry("./etc/release", data=b"one\n"),
              entry("./closed", DIRECTORY, mode=0), entry("./closed/file", data=b"hidden\n", mode=0o600),
              entry("./usr/bin/marked", data=b"#!/bin/sh\n", mode=0o4755, uid=7, gid=8)]  # fmt: skip
    return archive(*parts)


def again(host: Host, *words: str, **how: Any) -> str:
    """The output of a run that succeeds and unpacks nothing."""
    before = host.unpacked()
    assert before, "nothing is unpacked yet"
    times = [os.lstat(f"{host.cache}/{each}").st_mtime_ns for each in before]
    out = host.output(*words, **how)
    assert (host.unpacked(), [os.lstat(f"{host.cache}/{each}").st_mtime_ns for each in before]) == (before, times)
    return out


def first(host: Host, *words: str, **how: Any) -> str:
    """The output of a run that succeeds and unpacks."""
    before = host.unpacked()
    out = host.output(*words, **how)
    assert len(host.unpacked()) == len(before) + 1
    return out


def test_once_and_then_never_again(either: Host, folder: str, small: bytes) -> None:
    path = write(f"{folder}/x.tar.gz", small)
    os.utime(path)  # as if it had come just now
    time.sleep(2.1)
    assert first(either, path, "cat", "/etc/release") == "one\n"
    (name,) = either.unpacked()
    before = fingerprint(f"{either.cache}/{name}") if os.geteuid() == either.uid else ""
    assert again(either, path, "sh", "-c", "echo x >/etc/release; mkdir /new; cat /closed/file /etc/release") == "hidden\nx\n"
    assert len(os.listdir(f"{either.cache}/seen")) == 1, "known by its inode now"
    assert again(either, path, "cat", "/etc/release") == "one\n"
    assert not before or fingerprint(f"{either.cache}/{name}") == before
    shutil.copy(path, f"{folder}/copy-without-a-name")
    assert again(either, f"{folder}/copy-without-a-name", "cat", "/etc/release") == "one\n", "known by its content"
    assert either.unpacked() == [name] and name.startswith("sha256-") and len(name) == 71
    import hashlib

    assert name == "sha256-" + hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_owners(either: Host, folder: str, small: bytes) -> None:
    path = write(f"{folder}/x.tar", small)
    owners = first(either, path, "stat", "-c", "%u %g %a", "/etc/release", "/usr/bin/marked", "/closed").splitlines()
    if either.uid == 0:
        assert owners == ["0 0 644", "7 8 4755", "0 0 0"]
        assert again(either, "-u", "ann", path, "sh", "-c", "echo $(id -u) $(id -g)") == "7 8\n"
    else:
        assert owners == ["0 0 644", "0 0 4755", "0 0 700"], "all his own, and his to remove"
        subprocess.run(["rm", "-r", either.cache], check=True, user=either.uid)


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.tar.gz"])
def test_its_content_decides_what_it_is(place: Host, folder: str, small: bytes, name: str) -> None:
    for kind in ("gzip", "xz", "bzip2", "zstd"):
        tool = shutil.which(kind)
        if tool:
            data = subprocess.run([tool, "-c", "-1"], input=small, stdout=subprocess.PIPE, check=True).stdout
            Path(folder, name).write_bytes(data)
            assert first(place, f"{folder}/{name}", "cat", "/etc/release") == "one\n", kind
    Path(folder, name).write_bytes(small)
    assert first(place, f"./{name}", "cat", "/etc/release", env={"PWD": folder}, argv=["sh", "-c", f'cd {folder}; exec "$@"', "sh", DOLIUM]
                 if place.uid else [*place.command[:-1], "sh", "-c", f'cd {folder}; exec "$@"', "sh", DOLIUM]) == "one\n"  # fmt: skip


def test_a_kept_container_needs_no_tarball_any_more(either: Host, folder: str, small: bytes) -> None:
    path = write(f"{folder}/x.tar", small)
    either.forgets = False
    either("run", "--name", "k", path, "touch", "/mine")
    write(path, small.replace(b"one\n", b"two\n"), old=False)
    assert first(either, "--rm", path, "cat", "/etc/release") == "two\n", "another content is another rootfs"
    os.unlink(path)
    either("rename", "k", "kept")
    ended = either("start", "-a", "kept")
    assert (ended.code, ended.stderr) == (0, ""), ended
    assert either("run", path, "true").code == 125
    assert len(either.unpacked()) == 2
    pruned = either("prune", "--rootfs")
    assert pruned.code == 0 and len(pruned.stdout.split()) == 1 and "freed" in pruned.stderr and len(either.unpacked()) == 1
    assert either("start", "-a", "kept").code == 0, "what it needs is still there"
    assert either("rm", "kept").code == 0 and len(either.unpacked()) == 1
    ended = either("prune")
    assert ended.code == 0 and either.unpacked() == []
    assert not os.path.exists(f"{either.cache}/seen") or os.listdir(f"{either.cache}/seen") == []
    assert (either("prune").stdout, either("prune").stderr) == ("", "")


def test_exec_in_one_that_runs(place: Host, folder: str, small: bytes) -> None:
    path = write(f"{folder}/x.tar", small)
    with place.start("run", "--name", "r", path, "sleep", "100") as process:
        wait_for(lambda: place("exec", "r", "true").code == 0)
        os.unlink(path)
        assert place("prune").stdout == "" and len(place.unpacked()) == 1, "it runs"
        ended = place("exec", "-u", "ann", "r", "sh", "-c", "echo $(id -u) $(cat /etc/release)") if place.uid == 0 else place("exec", "r", "cat", "/etc/release")
        assert ended.stdout in ("7 one\n", "one\n"), ended
        assert place("kill", "r").code == 0
        process.wait()
    assert len(place("prune").stdout.split()) == 1 and place.unpacked() == []


def test_the_copy_of_a_kept_container_is_gone(place: Host, folder: str, small: bytes) -> None:
    place.forgets = False
    place("run", "--name", "k", write(f"{folder}/x.tar", small), "true")
    shutil.rmtree(f"{place.cache}/{place.unpacked()[0]}")
    ended = place("start", "-a", "k")
    assert ended.code == 125 and ended.stderr.startswith("error: no unpacked copy of `") and "dolium rm" in ended.stderr


def test_explain_unpacks_nothing(either: Host, folder: str, small: bytes) -> None:
    path = write(f"{folder}/x.tar.gz", small)
    plan = either("explain", path, "cat")
    notes = " ".join(plan.stdout.partition("\n\n")[0].split())
    assert f"note: `{path}` will be unpacked first, once" in notes and max(map(len, plan.stdout.splitlines())) <= 80, "no note is cut short"
    assert plan.code == 0 and f"`{path}` will be unpacked" in json.loads(either("explain", "--json", path, "cat").stdout)["notes"][0]
    assert "will be unpacked" in plan.stdout and not os.path.exists(f"{either.data}/dolium")
    assert either("explain", "-u", "7", path).code == 0 or either.uid
    ended = either("explain", "-u", "ann", path)
    assert ended.code == 125 and "before it is unpacked" in ended.stderr
    first(either, path, "true")
    plan = either("explain", path, "cat")
    assert "unpacked" not in plan.stdout and plan.code == 0
    if either.uid == 0:
        assert "uid 7" in either("explain", "-u", "ann", path).stdout
    ended = either("explain", write(f"{folder}/no.tar", b"hello"), "cat")
    assert ended.code == 125 and "no tar archive" in ended.stderr


def test_two_at_once_share_the_work(either: Host, folder: str, small: bytes) -> None:
    path = write(f"{folder}/x.tar", archive(entry("large", data=os.urandom(9 << 20))) [:-1024] + small)
    running = [either.start("run", path, "cat", "/etc/release") for _ in range(5)]
    said = []
    for each in running:
        out, err = each.communicate(timeout=120)
        assert (each.returncode, out) == (0, b"one\n"), err
        said.append(err.decode())
    assert sum("dolium: unpacking `" in each for each in said) == 1, "large enough to be talked about"
    assert len(either.unpacked()) == 1 and sorted(os.listdir(f"{either.cache}/{either.unpacked()[0]}")) == ["about.json", "tree"]


def many(count: int = 30_000) -> bytes:
    return archive(*(entry(f"d{n // 100}/f{n}", data=b"x", form=tarfile.USTAR_FORMAT) for n in range(count)))


@pytest.mark.parametrize("command", [["ps"], ["prune"], ["run"]])
def test_killed_in_the_middle(place: Host, folder: str, small: bytes, command: list[str]) -> None:
    """kill -9 leaves no half cache, and the next command removes what there is."""
    path = write(f"{folder}/x.tar", many())
    with place.start("run", path, "true") as process:
        wait_for(lambda: place.unpacked() and os.path.isdir(f"{place.cache}/{place.unpacked()[0]}/new/d3"), 30)
        process.kill()
        process.wait()
    (name,) = place.unpacked()
    assert not os.path.exists(f"{place.cache}/{name}/tree"), "too late: it was done"
    words = [*command, write(f"{folder}/y.tar", small), "true"] if command == ["run"] else command
    assert place(*words).code == 0
    assert name not in place.unpacked() and len(place.unpacked()) == (command == ["run"])


def test_interrupted(place: Host, folder: str) -> None:
    import signal

    with place.start("run", write(f"{folder}/x.tar", many()), "true") as process:
        wait_for(lambda: place.unpacked() and os.path.isdir(f"{place.cache}/{place.unpacked()[0]}/new/d3"), 30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, place.unpacked()) == (130, b"", []), err


def test_a_full_disk(root: Dolium, folder: str, small: bytes) -> None:
    host = Host(0, folder, size="24m")
    try:
        for data in (archive(*(entry(f"f{n}", data=os.urandom(1 << 20)) for n in range(40))), archive(entry("f", data=bytes(40 << 20)))):
            ended = host("run", write(f"{folder}/x.tar", data), "true")
            assert ended.code == 125 and "the disk would be full" in ended.stderr and "`dolium prune`" in ended.stderr, ended
            assert host.unpacked() == []
        assert first(host, write(f"{folder}/y.tar", small), "cat", "/etc/release") == "one\n"
    finally:
        host.close()


def test_the_library(dolium: Dolium, folder: str, small: bytes) -> None:
    """It holds what it uses, without being remembered anywhere."""
    data = small.replace(b"one\n", os.urandom(8).hex().encode()[:4])  # nobody else has it in his cache
    path = write(f"{folder}/x.tar.gz", data)
    try:
        for _ in range(2):
            result = library.run(["cat", "/etc/passwd"], image=path, text=True)
            assert result.stdout.startswith("root:x:0:0") and result.exit_code == 0
        from dolium.engine import rootfs, tarballs

        use = rootfs.provide(path)
        assert use
        copy = rootfs.unpacked(use.digest)
        held = [name for name, _ in tarballs.prune() if name in copy]
        assert held == [] and os.path.isdir(copy), "it is in use"
        use.close()
    finally:
        for name, _ in tarballs.prune():
            assert name
    assert not os.path.exists(copy)
    with pytest.raises(library.ImageError, match=r"`no\.tar`: it is no tar archive"):
        library.run(["true"], image=write(f"{folder}/no.tar", b"hello"))


@pytest.mark.parametrize(("data", "words"), [
    (b"", "it is empty"), (b"#!/bin/sh\necho hello\n", "it is no tar archive"), (archive(), "the archive is empty"),
    (archive(entry("oci-layout", data=b"{}"), entry("index.json"), entry("blobs/sha256/x")), "the archive of an OCI image"),
    (archive(entry("manifest.json", data=b"[]"), entry("0123.json"), entry("0123/layer.tar")), "the archive of an image (docker save)"),
    (archive(entry("a"), entry("../../../etc/evil", data=b"x")), "`../../../etc/evil`: `..` would lead out of the rootfs"),
    (entry("a", data=b"x" * 5000)[:2000], "it is cut short"),
])  # fmt: skip
def test_what_is_no_rootfs(either: Host, folder: str, data: bytes, words: str) -> None:
    path = write(f"{folder}/x.tar", data)
    said = either.refused(path, "true")
    assert said.startswith("error: cannot unpack `x.tar`: ") and words in said
    assert either.unpacked() == [] and not os.path.exists("/etc/evil")


def test_files_that_are_none(either: Host, folder: str) -> None:
    os.mkfifo(f"{folder}/fifo", 0o644)
    assert "no regular file" in either.refused(f"{folder}/fifo", "true")
    assert "no regular file" in either.refused("/dev/null", "true")
    write(f"{folder}/closed.tar", archive(entry("a")))
    os.chmod(f"{folder}/closed.tar", 0)
    if either.uid:
        assert "Permission denied" in either.refused(f"{folder}/closed.tar", "true")
    os.mkdir(f"{folder}/shut", 0o700)
    write(f"{folder}/shut/x.tar", archive(entry("a")))
    if either.uid == NOBODY:
        assert "Permission denied" in either.refused(f"{folder}/shut/x.tar", "true")
    assert "does not exist" in either.refused(f"{folder}/gone.tar", "true")


def test_devices_of_a_plain_user_are_said(plain: Dolium, folder: str, small: bytes) -> None:
    host = Host(plain.uid, folder)
    device = entry("lib/udev/null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    ended = host("run", write(f"{folder}/x.tar", device + small), "ls", "/dev/null")
    assert (ended.code, ended.stdout) == (0, "/dev/null\n") and "1 device node left out" in ended.stderr
    host.close()


def test_devices_of_root_cannot_be_opened_inside(root: Dolium, folder: str, small: bytes) -> None:
    host = Host(0, folder)
    device = entry("node", tarfile.CHRTYPE, devmajor=1, devminor=5, mode=0o666)
    for users in ("auto", "host"):
        ended = host("run", "--userns", users, write(f"{folder}/x.tar", device + small), "sh", "-c", "ls -l /node && cat /node")
        assert ended.code == 1 and ended.stdout.startswith("crw-rw-rw-") and "Permission denied" in ended.stderr, ended
    host.close()


def test_everything_goes_with_a_reset(root: Dolium, folder: str, small: bytes) -> None:
    host = Host(0, folder)
    host.command = ["unshare", "--net", *host.command]  # in a network of its own, for the host's bridge would go, too
    first(host, write(f"{folder}/x.tar", small), "true")
    ended: Ended = host("system", "reset")
    assert not os.path.exists(host.cache), ended
    host.close()


def test_rehearsed(root: Dolium, folder: str, small: bytes) -> None:
    host = Host(0, folder)
    path = write(f"{folder}/x.tar", small)
    ended = host("explain", "--rm", "--network", "none", "--until", "20", path, "true")
    assert ended.code == 0 and "20 of " in ended.stdout and len(host.unpacked()) == 1, ended
    assert len(host("prune").stdout.split()) == 1
    host.close()


def test_a_bigger_one_by_a_small_process(place: Host, folder: str) -> None:
    """Memory does not grow with the archive."""
    write(f"{folder}/x.tar", archive(*(entry(f"d{n}/f", data=bytes(4096)) for n in range(2000)), entry("zeros", data=bytes(24 << 20))))
    code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:]); "
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")  # fmt: skip
    argv = [*place.command[:-1], SYSTEM_PYTHON, "-IS", "-c", code, DOLIUM]
    ended = place("run", f"{folder}/x.tar", "/none", argv=argv)
    assert "cannot exec /none" in ended.stderr and int(ended.stdout) < 40_000, ended
