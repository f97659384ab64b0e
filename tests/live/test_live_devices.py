"""The device filter, by cgroup v1 where the host has `devices` there, and by a BPF program: seen from inside."""

import os

import pytest
from containers import DOLIUM, Dolium

pytestmark = pytest.mark.needs_root

WITHOUT = "for each in {}; do umount -l $each 2>/dev/null; done; exec \"$@\""
UNMOUNTED = {"as it is": "", "by BPF": "/sys/fs/cgroup/devices",
             "none": "/sys/fs/cgroup/devices /sys/fs/cgroup/unified $(findmnt -nt cgroup2 -o TARGET)"}  # fmt: skip


def on_a_host(root: Dolium, kind: str) -> Dolium:
    """The command where those cgroup file systems are not mounted."""
    root.command = ["unshare", "-m", "sh", "-c", WITHOUT.format(UNMOUNTED[kind]), "sh", DOLIUM]
    return root


@pytest.fixture(params=["as it is", "by BPF"])
def filtered(root: Dolium, request: pytest.FixtureRequest) -> Dolium:
    return on_a_host(root, request.param)


def test_a_device_that_can_only_be_read(filtered: Dolium) -> None:
    """In a container with users of its own, which has no filter else."""
    inside = "head -c 3 /dev/zero | tr '\\0' z; echo x >/dev/zero || echo x >/dev/null && echo; head -c 9 /dev/urandom | wc -c"
    ended = filtered("run", "--device", "/dev/zero:/dev/zero:r", "@host", "sh", "-c", inside)
    assert ended.stdout == "zzz\n9\n" and "/dev/zero: Operation not permitted" in ended.stderr, ended
    inside = "echo x >/dev/in && head -c 1 /dev/in"
    ended = filtered("run", "--device", "/dev/null:/dev/in:w", "@host", "sh", "-c", inside)
    assert ended.code == 1 and ended.stderr.startswith("head: ") and "Operation not permitted" in ended.stderr, ended


def test_nodes_of_disks_with_the_hosts_users(filtered: Dolium) -> None:
    """They can be made, as with docker, and not be opened."""
    inside = ("mknod /dev/disk b 7 0 && mknod /dev/memory c 1 1 && mknod /dev/hole c 1 3 && echo made; echo x >/dev/hole && echo fine;"
              "for each in /dev/disk /dev/memory; do (: <$each); (: >>$each); done")  # fmt: skip
    ended = filtered("run", "--userns", "host", "@host", "sh", "-c", inside)
    assert ended.stdout == "made\nfine\n" and ended.stderr.count("Operation not permitted") == 4, ended


def test_what_every_program_expects_with_the_hosts_users(filtered: Dolium) -> None:
    inside = ("import os, pty; ours, theirs = pty.openpty(); os.write(theirs, b'x'); assert os.read(ours, 9) == b'x'; "
              "[os.close(os.open('/dev/' + name, os.O_RDWR)) for name in ('null', 'zero', 'full', 'random', 'urandom', 'ptmx')]; print('fine')")
    assert filtered.output("--userns", "host", "@host", "/usr/bin/python3", "-c", inside) == "fine\n"


def test_a_block_device(filtered: Dolium) -> None:
    if not os.path.exists("/dev/loop0"):
        pytest.skip("no /dev/loop0 here")
    inside = ": </dev/disk && echo read; : >>/dev/disk"
    for userns in "host", "auto":
        words = ["--userns", userns, "--device", "/dev/loop0:/dev/disk:r", "@host", "sh", "-c", inside]
        ended = filtered("run", *words)
        assert ended.stdout == "read\n" and "/dev/disk: Operation not permitted" in ended.stderr, ended


def test_another_process_is_under_it_too(filtered: Dolium) -> None:
    filtered.forgets = False
    name = filtered.output("-d", "--device", "/dev/zero:/dev/zero:r", "@host", "sleep", "1000").strip()
    try:
        ended = filtered("exec", name, "sh", "-c", "head -c 1 /dev/zero | wc -c; echo x >/dev/zero")
        assert ended.stdout == "1\n" and "/dev/zero: Operation not permitted" in ended.stderr, ended
    finally:
        filtered("rm", "-f", name)


def test_where_there_is_no_filter(root: Dolium) -> None:
    """What needs one is refused, and no node can be made."""
    bare = on_a_host(root, "none")
    said = bare.refused("--pids-limit", "-1", "--device", "/dev/zero:/dev/zero:r", "@host", "true")
    assert said.startswith("error: unsupported: --device /dev/zero:/dev/zero:r: less than `rw` takes a device filter: neither"), said
    assert "device filter" in bare.refused("--pids-limit", "-1", "--userns", "host", "--cap-add", "MKNOD", "@host", "true")
    ended = bare("run", "--pids-limit", "-1", "--userns", "host", "@host", "mknod", "/dev/hole", "c", "1", "3")
    assert ended.code == 1 and "Operation not permitted" in ended.stderr, ended


def test_a_plain_user_has_none(plain: Dolium) -> None:
    said = plain.refused("--device", "/dev/zero:/dev/zero:r", "@host", "true")
    assert "takes a device filter: it belongs to root on this host" in said and "hint: run it as root of the host; or give it `rw`" in said
