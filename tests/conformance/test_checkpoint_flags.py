"""Flags of `checkpoint` and `restore`: without one criu refuses, or does something else."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import checkpoints
import pytest
from bundles import config, script, wait_for
from checkpoints import COUNT, Taken

MISSING = checkpoints.missing()
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
TALK = """nc -l -p 5555 >/dev/shm/heard & sleep 0.3
while :; do echo word; sleep 0.05; done | nc 127.0.0.1 5555; echo cut; while :; do sleep 1; done"""
ADDRESS = "127.0.0.1:27341"


def refused(one: Taken, words: str, *flags: str, **how: Any) -> None:
    """And it goes on."""
    ended = one.checkpoint(*flags, **how)
    assert ended.code == 1 and words in ended.err + one.log("dump"), (ended, one.log("dump"))
    assert one.bundle.status() == "running"


def heard(one: Taken) -> int:
    return int(one.exec("wc -l </dev/shm/heard 2>/dev/null || echo 0"))


def test_tcp_established(one: Taken) -> None:
    one.run(script(TALK))
    wait_for(lambda: heard(one) > 2)
    refused(one, "tcp-established")
    one.taken("--tcp-established")
    one.restored("--tcp-established")
    before = heard(one)
    wait_for(lambda: heard(one) > before)
    assert one.read() == ""


def test_tcp_close(one: Taken) -> None:
    one.run(script(TALK))
    wait_for(lambda: heard(one) > 2)
    one.taken("--tcp-established")
    one.restored("--tcp-close")
    wait_for(lambda: "cut" in one.read())


@pytest.mark.parametrize("method", ["nftables", "iptables", "skip"])
def test_network_lock(one: Taken, method: str) -> None:
    """How the network is held still meanwhile: with iptables it cannot be where those are not there."""
    tools = f"{one.bundle.directory}/tools"
    os.mkdir(tools)
    for name in ("criu", "tar", "gzip"):
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
        assert found
        os.symlink(found, f"{tools}/{name}")
    one.run()
    one.counts(1)
    env = {**one.bundle.environment, "PATH": tools}
    if method == "iptables":
        refused(one, "iptables-restore", "--network-lock", method, env=env)
        env = one.bundle.environment
    one.taken("--network-lock", method, env=env)
    last = one.last()
    one.restored()
    one.counts(last)


def test_file_locks(one: Taken) -> None:
    one.run(script("flock /dev/shm/lock sh -c 'while :; do sleep 0.1; done'"))
    held = "flock -n /dev/shm/lock true; echo $?"
    wait_for(lambda: one.exec(held) == "1\n")
    refused(one, "file-locks")
    one.taken("--file-locks")
    one.restored("--file-locks")
    assert one.exec(held) == "1\n"


def test_settings_in_a_file(one: Taken) -> None:
    """That the config names: they overrule the flags."""
    path = f"{one.bundle.directory}/settings"
    with open(path, "w") as file:
        file.write("file-locks\n")
    one.run(script("flock /dev/shm/lock sh -c 'while :; do sleep 0.1; done'", annotations={"org.criu.config": path}))
    held = "flock -n /dev/shm/lock true; echo $?"
    wait_for(lambda: one.exec(held) == "1\n")
    one.taken()
    one.restored()
    assert one.exec(held) == "1\n"


def test_link_remap(one: Taken) -> None:
    """A file that has lost the name by which it was opened, and has another."""
    one.run(script(f"exec 3>/first; ln /first /second; rm /first; {COUNT}"))
    one.counts(1)
    refused(one, "link-remap")
    one.taken("--link-remap")
    one.restored()
    one.counts(one.last())
    assert one.exec("readlink /proc/1/fd/3").startswith("/")


@contextmanager
def at_a_terminal(one: Taken, *words: str) -> Iterator[int]:
    """A verb in the foreground of a terminal; its other end."""
    master, slave = os.openpty()

    def control() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)

    process = subprocess.Popen([one.bundle.runtime, "--root", one.bundle.root, *words, "--bundle", one.bundle.directory, one.bundle.id],
                               stdin=slave, stdout=slave, stderr=slave, preexec_fn=control, env=one.bundle.environment, pass_fds=[slave])  # fmt: skip
    os.close(slave)
    try:
        wait_for(lambda: one.bundle.status() == "running" or process.poll() is not None)
        assert process.poll() is None, (os.read(master, 4096), one.log("restore"))
        yield master
    finally:
        one.bundle.verb("delete", "--force", one.bundle.id)
        process.wait(20)
        os.close(master)


@pytest.mark.parametrize("flags", [(), ("--shell-job",)], ids=["without", "shell-job"])
def test_a_terminal_of_the_callers(one: Taken, flags: tuple[str, ...]) -> None:
    """A container at somebody's terminal, that is none of its own, comes to that of who restores it, with --shell-job or without."""
    one.rewrite(script("while read line; do echo got $line; done"))
    with at_a_terminal(one, "run") as master:
        os.write(master, b"one\n")
        wait_for(lambda: b"got one" in os.read(master, 4096))
        one.taken(*flags)
    with at_a_terminal(one, "restore", "--image-path", one.images, "--work-path", one.work, *flags) as master:
        os.write(master, b"two\n")
        wait_for(lambda: b"got two" in os.read(master, 4096))


SPEAK = """
import socket, time
speaker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
speaker.connect("PATH/ear")
while True:
    speaker.send(b"word")
    time.sleep(0.05)
"""


def test_ext_unix_sk(one: Taken) -> None:
    """A socket whose other end is the host's, at the same path there."""
    outside = f"{one.bundle.directory}/outside"
    os.mkdir(outside)
    spec = config(process__args=["/usr/bin/python3", "-IS", "-c", SPEAK.replace("PATH", outside)])
    libraries = "/lib/x86_64-linux-gnu"
    for place, source in ((outside, outside), ("/usr", "/usr"), ("/lib64", "/lib64"), (libraries, libraries)):
        spec["mounts"].append({"destination": place, "type": "bind", "source": source, "options": ["rbind"]})
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "network"]  # criu looks in its own
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(f"{outside}/ear")
        ear.settimeout(20)
        one.run(spec)
        assert ear.recv(9) == b"word"
        refused(one, "ext-unix-sk")
        one.taken("--ext-unix-sk")
        ear.setblocking(False)
        try:
            while ear.recv(9):
                pass
        except BlockingIOError:
            pass
        ear.settimeout(20)
        one.restored("--ext-unix-sk")
        assert ear.recv(9) == b"word"


@contextmanager
def criu(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["criu", *words]) as process:
        try:
            yield process
        finally:
            process.kill()


def is_listening(port: str) -> bool:
    with open("/proc/net/tcp") as file:
        return any(line.split()[1].endswith(f":{int(port):04X}") and line.split()[3] == "0A" for line in list(file)[1:])


def test_page_server(one: Taken) -> None:
    """Memory goes to another directory, by way of a server."""
    pages = f"{one.bundle.directory}/pages"
    os.mkdir(pages)
    address, _, port = ADDRESS.partition(":")
    one.run()
    one.counts(1)
    with criu("page-server", "--images-dir", pages, "--address", address, "--port", port) as server:
        wait_for(lambda: is_listening(port))
        one.taken("--page-server", ADDRESS)
        server.wait(20)
    last = one.last()
    moved = [name for name in os.listdir(pages) if name.startswith("page")]
    assert moved and not [name for name in os.listdir(one.images) if name.startswith("page")]
    for name in moved:
        shutil.move(f"{pages}/{name}", one.images)
    one.restored()
    one.counts(last)


def tracks_memory() -> bool:
    return subprocess.run(["criu", "check", "--feature", "mem_dirty_track"], capture_output=True, check=False).returncode == 0


def size(path: str) -> int:
    return sum(os.stat(f"{path}/{name}").st_blocks for name in os.listdir(path) if name.startswith("pages-"))


def test_pre_dump_and_parent_path(one: Taken) -> None:
    """What has not changed since is in the earlier images alone."""
    one.run(script(f"big=$(head -c 3000000 /dev/zero | tr '\\0' x); {COUNT}"))
    one.counts(1)
    final, one.images = one.images, f"{one.bundle.directory}/before"
    if not tracks_memory():
        for flags in (("--pre-dump",), ("--parent-path", ".")):
            refused(one, f"{flags[0]}: this kernel does not say which memory has changed", *flags)
        return
    one.taken("--pre-dump")
    assert one.bundle.status() == "running"
    one.images = final
    refused(one, "--parent-path: expected a directory relative to --image-path", "--parent-path", "/")
    one.taken("--parent-path", "../before")
    assert size(final) < size(f"{one.bundle.directory}/before") / 4
    one.restored()
    one.counts(one.last())


def test_auto_dedup(one: Taken) -> None:
    """Images give back what has been restored."""
    one.run()
    one.counts(1)
    one.taken()
    before = size(one.images)
    one.restored("--auto-dedup")
    one.counts(one.last())
    assert size(one.images) < before


@pytest.mark.parametrize("mode", ["ignore", "soft", "full"])
def test_manage_cgroups_mode(one: Taken, mode: str) -> None:
    """Whichever: it is in its groups, with the limits of the config."""
    pid = one.run(script(COUNT, linux__resources={"pids": {"limit": 50}}))
    before = checkpoints.status(pid)["cgroup"], checkpoints.groups_of(one.bundle)
    one.taken("--manage-cgroups-mode", mode)
    pid = one.restored("--manage-cgroups-mode", mode)
    assert (checkpoints.status(pid)["cgroup"], checkpoints.groups_of(one.bundle)) == before


@pytest.mark.parametrize(("flags", "words"), [
    (("--manage-cgroups-mode", "some"), "--manage-cgroups-mode: expected ignore, soft, full, strict, got `some`"),
    (("--network-lock", "some"), "--network-lock: expected iptables, nftables, skip, got `some`"),
    (("--empty-ns", "pid"), "--empty-ns: expected network, got `pid`"),
    (("--page-server", "some"), "--page-server: expected ADDRESS:PORT, got `some`"),
    (("--lazy-pages",), "--lazy-pages: memory is restored with the container, not after it"),
    (("--status-fd", "1"), "--status-fd: is for --lazy-pages, which there is not"),
    (("--lsm-profile", "apparmor:x"), "--lsm-profile"),
    (("--lsm-mount-context", "x"), "--lsm-mount-context"),
], ids=["manage-cgroups-mode", "network-lock", "empty-ns", "page-server", "lazy-pages", "status-fd", "lsm-profile", "lsm-mount-context"])  # fmt: skip
def test_words_that_make_no_sense(one: Taken, flags: tuple[str, ...], words: str) -> None:
    pid = one.run()
    ended = one.checkpoint(*flags)
    assert ended.code == 1 and words in ended.err and ended.err.count("\n") == 1, ended
    assert one.bundle.state()["pid"] == pid


def test_empty_ns(one: Taken) -> None:
    """`network`, which docker says, is what happens anyway."""
    one.run()
    one.taken("--empty-ns", "network")
    one.restored("--empty-ns", "network", "--no-subreaper", "--no-pivot")
    assert "LOOPBACK,UP" in one.exec("ip link show lo")


def test_without_work_path_the_logs_are_with_the_images(one: Taken) -> None:
    one.run()
    ended = one.bundle.verb("checkpoint", "--image-path", one.images, one.bundle.id)
    assert ended.code == 0 and os.path.exists(f"{one.images}/dump.log"), ended
    assert os.stat(one.images).st_mode & 0o777 == 0o700, "there are secrets in a memory"
