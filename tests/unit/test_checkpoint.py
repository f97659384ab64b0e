"""What criu is told: messages as protocol buffers have them, and which mounts are the host's."""

from __future__ import annotations

import pytest

from dolium.errors import DoliumError, SpecError, Unsupported, UsageError
from dolium.plan import checkpoint, criu_messages

OWN = """10 1 254:0 /b/rootfs / rw - ext4 /dev/vda rw
11 10 0:50 / /proc rw - proc proc rw
12 10 0:51 / /dev rw - tmpfs tmpfs rw
13 12 0:52 / /dev/pts rw - devpts devpts rw
14 11 0:51 /null /proc/keys rw - tmpfs tmpfs rw
15 11 0:50 /sys /proc/sys ro - proc proc rw
"""
BOUND = """20 10 254:0 /host/a\\040b /data rw - ext4 /dev/vda rw
21 20 0:60 / /data/below rw - tmpfs none rw
22 21 0:61 / /data/below/own rw - tmpfs none rw
23 10 0:44 /null /hidden rw - tmpfs none rw
24 10 0:70 / /sys/fs/cgroup ro - tmpfs cgroup rw
25 24 0:30 /dolium/x /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory
"""


def test_what_is_its_own_is_not_named() -> None:
    assert checkpoint.external(OWN, {}, {11, 12, 13}, False) == {}


def test_what_is_the_hosts() -> None:
    """Bind mounts, what is below them but for other mounts of the config's, and what shows a part that nothing else shows."""
    found = checkpoint.external(OWN + BOUND, {20: "/var/data"}, {11, 12, 13, 22, 24}, False)
    assert found == {"/data": ("/var/data", ""), "/data/below": ("/var/data", "/below"), "/hidden": (checkpoint.DEVICE, "/null")}
    with_groups = checkpoint.external(OWN + BOUND, {20: "/var/data"}, {11, 12, 13, 22, 24}, True)
    assert {*with_groups} - {*found} == {"/sys/fs/cgroup/memory"}
    assert with_groups["/sys/fs/cgroup/memory"] == (checkpoint.GROUP, "memory")


def test_a_name_that_begins_like_another_is_not_above_it() -> None:
    text = OWN + "20 10 254:0 /b/rootfs2 /data rw - ext4 /dev/vda rw\n"
    assert checkpoint.external(text, {}, set(), False) == {"/data": (checkpoint.DEVICE, "/b/rootfs2")}


def test_when_it_is_restored() -> None:
    kept = {"/data": ["/var/data", ""], "/data/below": ["/var/data", "/below"], "/hidden": [checkpoint.DEVICE, "/null"],
            "/sys/fs/cgroup/memory": [checkpoint.GROUP, "memory"]}  # fmt: skip
    assert checkpoint.sources(kept, {"/var/data": "/other"}, {"memory": "/sys/fs/cgroup/memory/y"}) == [
        "mnt[/data]:/other", "mnt[/data/below]:/other/below", "mnt[/hidden]:/dev/null",
        "mnt[/sys/fs/cgroup/memory]:/sys/fs/cgroup/memory/y"]  # fmt: skip
    with pytest.raises(SpecError, match="has a bind mount on `/var/data`"):
        checkpoint.sources(kept, {}, {"memory": "/x"})


@pytest.mark.parametrize(("text", "found"), [("127.0.0.1:27", ("127.0.0.1", 27)), ("[::1]:27", ("::1", 27)), ("host:65535", ("host", 65535))])
def test_page_server(text: str, found: tuple[str, int]) -> None:
    assert checkpoint.page_server(text) == found


@pytest.mark.parametrize("text", ["", "host", ":1", "host:", "host:0", "host:65536", "host:x", "host:\u0661"])
def test_page_server_that_makes_no_sense(text: str) -> None:
    with pytest.raises(UsageError):
        checkpoint.page_server(text)


def test_options() -> None:
    found = checkpoint.options({"tcp-established": "true", "manage-cgroups-mode": "full"})
    assert found["tcp_established"] is True and found["manage_cgroups_mode"] == 4 and "file_locks" not in found
    assert not {*found} - {*criu_messages.OPTIONS}
    assert not {*checkpoint.SWITCHES.values()} - {*criu_messages.OPTIONS}
    for name in checkpoint.REFUSED:
        with pytest.raises(Unsupported, match=f"--{name}"):
            checkpoint.options({name: "x"})


def test_messages() -> None:
    """Byte by byte, as protoc writes them."""
    data = criu_messages.request(criu_messages.DUMP, {"images_dir_fd": -1, "pid": 300, "root": "/r", "external": ["a", "b"],
                                                      "inherit_fd": [("k", 10)], "leave_running": True})  # fmt: skip
    options = (b"\x08" + b"\xff" * 9 + b"\x01" + b"\x10\xac\x02" + b"\x6a\x02/r" + b"\xaa\x02\x01a" + b"\xaa\x02\x01b"
               + b"\xda\x01\x05\x0a\x01k\x10\x0a" + b"\x18\x01")  # fmt: skip
    assert data == b"\x08\x01\x12" + bytes([len(options)]) + options
    assert criu_messages.request(criu_messages.FEATURES) == b"\x08\x09\x2a\x02\x08\x01"
    assert criu_messages.heard() == b"\x08\x06\x18\x01"


def test_answers() -> None:
    found = criu_messages.Answer(b"\x08\x06\x10\x01\x2a\x15\x0a\x10setup-namespaces\x10\xac\x02")
    assert (found.kind, found.fine, found.script, found.pid) == (criu_messages.NOTIFY, True, "setup-namespaces", 300)
    failed = criu_messages.Answer(b"\x08\x01\x10\x00\x38\x03\x4a\x02no\x80\x01\x05\x8d\x01abcd\x89\x01abcdefgh")
    assert (failed.fine, failed.errno, failed.words) == (False, 3, "no")
    assert criu_messages.Answer(b"\x08\x09\x10\x01\x42\x02\x08\x01").tracks_memory


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x05abc", b"\x0b", b"\x0d\x01", b"\x08" + b"\xff" * 12], ids=["number", "text", "group", "fixed", "long"])
def test_what_is_no_message(data: bytes) -> None:
    with pytest.raises(DoliumError):
        criu_messages.fields(data)


def test_without_death_signal() -> None:
    """All else stays as it was, and what comes after it."""
    thread = b"\x28\x07\x40\x09\x4a\x01x"
    core = b"\x08\x01\x2a" + bytes([len(thread)]) + thread + b"\x1a\x01y"
    image = b"MAGICMAG" + len(core).to_bytes(4, "little") + core + b"more"
    fresh = b"\x08\x01\x2a\x05\x28\x07\x4a\x01x\x1a\x01y"
    assert criu_messages.without_death_signal(image) == b"MAGICMAG" + len(fresh).to_bytes(4, "little") + fresh + b"more"
