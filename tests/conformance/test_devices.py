"""linux.devices: where nodes are made, and what is there already; each test is named after its rule."""

from __future__ import annotations

import os

from bundles import Bundle, script

NULL = {"type": "c", "major": 1, "minor": 3}


ASKED = [
    ("/dev/both", {"fileMode": 0o600, "uid": 5, "gid": 6}, "1:3 600 5:6"), ("/dev/uid", {"uid": 5}, "1:3 666 5:0"), ("/dev/gid", {"gid": 5}, "1:3 666 0:5"),
    ("/else/where", {"uid": 5}, "1:3 666 5:0"), ("/dev/null", {"uid": 5, "fileMode": 0o640}, "1:3 640 5:0"), ("/dev/deep/er/x", {}, "1:3 666 0:0"),
    ("/dev//shm/./x", {"gid": 7}, "1:3 666 0:7"), ("/dev/unbuffered", {"type": "u", "fileMode": 0o20640}, "1:3 640 0:0"),
]  # fmt: skip


def test_owner_mode_and_place(bundle: Bundle) -> None:
    """One that has its place in a mount of the config is made there, not below it."""
    devices = [{"path": path, **NULL, **about} for path, about, _ in ASKED]
    text = bundle.output(script(f"stat -c '%t:%T %a %u:%g' {' '.join(path for path, *_ in ASKED)}", linux__devices=devices))
    assert text.splitlines() == [shown for *_, shown in ASKED]


def test_a_node_that_is_there_already_is_taken(bundle: Bundle) -> None:
    os.mknod(f"{bundle.rootfs}/node", 0o20644, os.makedev(1, 3))
    assert bundle.output(script("stat -c %t:%T /node", linux__devices=[{"path": "/node", **NULL}])) == "1:3\n"
    assert bundle.output(script("stat -c %t:%T /dev/x", linux__devices=[{"path": "/dev/x", **NULL}, {"path": "/dev/x", **NULL}])) == "1:3\n"


def test_something_else_that_is_there_is_an_error(bundle: Bundle) -> None:
    """runtime-spec: "If a file already exists at path that does not match the requested device, the runtime MUST generate an error"."""
    path = f"{bundle.rootfs}/node"
    for make in (lambda: os.mknod(path, 0o100644), lambda: os.mknod(path, 0o20644, os.makedev(1, 5)),
                 lambda: os.mknod(path, 0o60644, os.makedev(1, 3)), lambda: os.symlink("/dev/null", path), lambda: os.mkdir(path)):  # fmt: skip
        make()
        line = bundle.refused(script("true", linux__devices=[{"path": "/node", **NULL}]))
        assert "mknod /node" in line and "something else is there already" in line
        os.rmdir(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def test_places_that_there_are_not(bundle: Bundle) -> None:
    for devices, words in (([{"path": "/dev/x"}, {"path": "/dev/x", "minor": 5}], "something else is there already"),
                           ([{"path": "/dev/../x"}], "linux.devices[0].path: leads upwards"), ([{"path": "/dev/pts/x"}], "/dev/pts/x")):
        assert words in bundle.refused(script("true", linux__devices=[{**NULL, **each} for each in devices]))
