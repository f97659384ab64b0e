"""Layers over layers: what overlayfs shows of them is what whoever made the image meant.  Only root may mount, so a plain user's
are looked at as `lookup.Layers` sees them."""

from __future__ import annotations

import json
import os
import shutil
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from archives import CHARACTER, DIRECTORY, FIFO, HARDLINK, SYMLINK, archive, entry, pax
from layouts import Made, digest, layer, store

from dolium.engine import blobs, images, layers, lookup
from dolium.engine import store as containers
from dolium.errors import ImageError

__all__ = ["store"]
pytestmark = pytest.mark.usefixtures("store")
ROOT = os.geteuid() == 0
OPAQUE = ".wh..wh..opq"
DUMP = """
import hashlib, json, os, stat, sys
top, found = os.fsencode(sys.argv[1]), {}
for directory, names, files in os.walk(top):
    for name in names + files:
        path = os.path.join(directory, name)
        s = os.lstat(path)
        kind = stat.filemode(s.st_mode)[0]
        about = {"kind": kind, "mode": stat.S_IMODE(s.st_mode), "owner": [s.st_uid, s.st_gid], "mtime": s.st_mtime_ns, "links": s.st_nlink, "inode": s.st_ino}
        if kind == "-":
            about |= {"size": s.st_size, "blocks": s.st_blocks, "content": hashlib.sha256(open(path, "rb").read()).hexdigest()}
        if kind == "l":
            about["target"] = os.fsdecode(os.readlink(path))
        if kind in "bc":
            about["device"] = [os.major(s.st_rdev), os.minor(s.st_rdev)]
        if kind in "-d":
            about["xattrs"] = {n: os.getxattr(path, n).hex() for n in os.listxattr(path) if "overlay" not in n}
        found[os.fsdecode(os.path.relpath(path, top))] = about
print(json.dumps(found))
"""


def unpack(*archives: bytes, name: str = "x:1") -> list[str]:
    """The trees of an image with those layers, the lowest first."""
    image = Made([*archives]).put(name)
    use = layers.provide(image)
    use.close()
    return [f"{layers.top_path()}/{each}" for each in layers.names(use.digest)]


def seen(trees: list[str], tmp_path: Path) -> dict[str, Any]:
    """What overlayfs shows of them."""
    (tmp_path / "empty").mkdir(exist_ok=True)
    (tmp_path / "mount").mkdir(exist_ok=True)
    lower = ":".join([*reversed(trees), f"{tmp_path}/empty"])
    line = f"mount -t overlay overlay -o ro,lowerdir={lower} {tmp_path}/mount && exec {sys.executable} -c \"$0\" {tmp_path}/mount"
    done = subprocess.run(["unshare", "--mount", "sh", "-c", line, DUMP], capture_output=True, text=True)
    assert done.returncode == 0, done
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def files(trees: list[str], tmp_path: Path) -> set[str]:
    """Names of what is to be seen, directories with a slash; both ways of looking agree."""
    top = lookup.Layers(trees)
    if not ROOT:
        return _walk(top, [])
    shown = {name + "/" * (about["kind"] == "d") for name, about in seen(trees, tmp_path).items()}
    assert shown == _walk(top, [])
    return shown


def _walk(top: lookup.Layers, parts: list[bytes]) -> set[str]:
    names: set[bytes] = set()
    for each in top.paths:
        try:
            names |= {*os.listdir(os.path.join(os.fsencode(each), *parts))}
        except OSError:
            pass
    found = set()
    for name in names:
        there = top.look([*parts, name])
        if there:
            there.close()
            path = os.fsdecode(b"/".join([*parts, name]))
            if stat.S_ISDIR(there.status.st_mode):
                found |= {path + "/", *_walk(top, [*parts, name])}
            else:
                found.add(path)
    return found


def directory(name: str, **more: Any) -> bytes:
    return entry(name, DIRECTORY, **more)


BASE = archive(directory("d", mode=0o750), entry("d/a", data=b"a"), entry("d/b", data=b"b"), directory("d/sub"), entry("d/sub/s"), entry("f", data=b"f"))


@pytest.mark.parametrize("upper, left", [
    ([entry("d/.wh.a")], {"d/", "d/b", "d/sub/", "d/sub/s", "f"}),
    ([entry(".wh.d")], {"f"}),
    ([entry(".wh.f")], {"d/", "d/a", "d/b", "d/sub/", "d/sub/s"}),
    ([entry(".wh.nothing"), entry(".wh.d"), entry("g")], {"f", "g"}),
    ([entry(f"d/{OPAQUE}"), entry("d/new")], {"d/", "d/new", "f"}),
    ([entry("d/new"), entry(f"d/{OPAQUE}")], {"d/", "d/new", "f"}),
    ([directory("d"), entry("d/new"), entry(f"d/{OPAQUE}"), entry("d/more")], {"d/", "d/new", "d/more", "f"}),
    ([entry(OPAQUE), entry("g")], {"g"}),
    ([entry(".wh.d"), entry("d/new")], {"d/", "d/new", "f"}),
    ([entry("d/new"), entry(".wh.d")], {"d/", "d/new", "f"}),
    ([entry(".wh.d"), directory("d"), entry("d/new")], {"d/", "d/new", "f"}),
    ([entry(".wh.f"), entry("f", data=b"again")], {"d/", "d/a", "d/b", "d/sub/", "d/sub/s", "f"}),
    ([entry("f", data=b"again"), entry(".wh.f")], {"d/", "d/a", "d/b", "d/sub/", "d/sub/s", "f"}),
    ([entry("d")], {"d", "f"}),
    ([entry("d"), directory("d"), entry("d/x")], {"d/", "d/x", "f"}),
    ([directory("f"), entry("f/y")], {"d/", "d/a", "d/b", "d/sub/", "d/sub/s", "f/", "f/y"}),
    ([entry("f/y")], {"d/", "d/a", "d/b", "d/sub/", "d/sub/s", "f/", "f/y"}),
    ([directory("d/sub/deep"), entry("d/sub/.wh.s")], {"d/", "d/a", "d/b", "d/sub/", "d/sub/deep/", "f"}),
    ([entry("./d/./.wh.sub"), entry("d/sub/t")], {"d/", "d/a", "d/b", "d/sub/", "d/sub/t", "f"}),
    ([entry("d/.wh..wh.plnk"), entry(".wh..wh.aufs"), entry("d/.wh.b")], {"d/", "d/a", "d/sub/", "d/sub/s", "f"}),
    ([entry("d", SYMLINK, target="f")], {"d", "f"}),
    ([], {"d/", "d/a", "d/b", "d/sub/", "d/sub/s", "f"}),
])  # fmt: skip
def test_what_a_layer_removes(upper: list[bytes], left: set[str], tmp_path: Path) -> None:
    assert files(unpack(BASE, archive(*upper)), tmp_path) == left


def test_more_than_two(tmp_path: Path) -> None:
    """What one hides stays hidden by those above it; what comes again is new."""
    middle, top = archive(entry(".wh.d"), entry("e/x")), archive(directory("d"), entry("d/z"), entry("e/.wh.x"))
    assert files(unpack(BASE, middle, top), tmp_path) == {"d/", "d/z", "e/", "f"}
    assert files(unpack(BASE, archive(entry("d")), archive(directory("d"), entry("d/z"))), tmp_path) == {"d/", "d/z", "f"}


@pytest.mark.parametrize("bad, problem", [
    (entry("d/.wh."), "a whiteout of nothing"), (entry(".wh..."), "a whiteout of nothing"), (entry("x/.wh../y"), "a whiteout is no directory"),
    (entry(".wh.."), "a whiteout of nothing"),
    (entry("d/.wh.a/b"), "a whiteout is no directory"), (directory("d/.wh.a"), "no regular file"), (entry("d/.wh.a", SYMLINK, target="/etc"), "no regular file"),
    (directory(f"d/{OPAQUE}"), "no regular file"), (entry("d/.wh.a", HARDLINK, target="f"), "no regular file"),
    (entry("../.wh.x"), "would lead out"), (entry("x/../../.wh.x"), "would lead out"),
    (entry("h", HARDLINK, target="d/none"), "no file before it has that name"), (entry("h", HARDLINK, target="d/sub"), "which is a directory"),
    (archive(entry(".wh.f"), entry("h", HARDLINK, target="f"))[:-1024], "no file before it has that name"),
    (archive(entry(f"d/{OPAQUE}"), entry("h", HARDLINK, target="d/a"))[:-1024], "no file before it has that name"),
])  # fmt: skip
def test_tricks(bad: bytes, problem: str, store: str) -> None:
    with pytest.raises(ImageError, match=problem):
        unpack(BASE, archive(bad))
    assert len([each for each in os.listdir(layers.top_path()) if each != "stacks"]) == 1, "nothing of it is left"


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    """A parent that is a link, of this layer or one below, leads where it would lead in the container."""
    outside = tmp_path / "outside"
    outside.mkdir()
    base = archive(directory("usr"), directory("usr/lib"), entry("lib", SYMLINK, target="usr/lib"), entry("up", SYMLINK, target="/../../.."),
                   entry("out", SYMLINK, target=str(outside)), entry("loop", SYMLINK, target="loop"), entry("usr/lib/old"))  # fmt: skip
    top = archive(entry("lib/new"), entry("lib/.wh.old"), entry("up/here"), entry("out/there"))
    shown = files(unpack(base, top), tmp_path)
    inside = str(outside)[1:]
    assert {"usr/lib/new", "lib", "here", f"{inside}/there", "out", "up"} <= shown and "usr/lib/old" not in shown
    assert os.listdir(outside) == []
    with pytest.raises(ImageError, match="symbolic links"):
        unpack(base, archive(entry("loop/x")))


@pytest.mark.skipif(not ROOT, reason="owners are root's to give")
def test_directories_that_are_taken_for_granted(tmp_path: Path) -> None:
    """They stay as the layers below have them: owner, mode, time, attributes."""
    base = archive(directory("d", mode=0o1770, uid=7, gid=8, mtime=1_500_000_000), pax(**{"SCHILY.xattr.user.note": "x"}), directory("d/e", mode=0o2711, uid=9))
    shown = seen(unpack(base, archive(entry("d/e/f"), entry("new/x"), entry("d/.wh.gone"))), tmp_path)
    assert [shown["d"][key] for key in ("mode", "owner", "mtime")] == [0o1770, [7, 8], 1_500_000_000 * 10**9]
    assert [shown["d/e"][key] for key in ("mode", "owner", "xattrs")] == [0o2711, [9, 0], {"user.note": b"x".hex()}]
    assert [shown["new"][key] for key in ("mode", "owner")] == [0o755, [0, 0]]


def test_layers_are_shared(store: str) -> None:
    """Two images with the same first layer have one tree of it; one whose second depends on the first has its own."""
    one, two = unpack(BASE, archive(directory("g"), entry("g/1"))), unpack(BASE, archive(directory("g"), entry("g/2")), name="y:1")
    assert one[0] == two[0] and one[1] != two[1] and "sha256-" in one[1]
    implied = archive(entry("d/new"))
    first, other = unpack(BASE, implied), unpack(archive(directory("d", mode=0o700)), implied, name="z:1")
    assert "chain-" in first[1] and "chain-" in other[1] and first[1] != other[1]
    assert stat.S_IMODE(os.stat(f"{other[1]}/d").st_mode) == 0o700 and stat.S_IMODE(os.stat(f"{first[1]}/d").st_mode) == 0o750
    assert "sha256-" in unpack(implied, name="w:1")[0], "the lowest depends on nothing"
    assert not any(each for each in os.listdir(layers.top_path()) if not os.path.isdir(f"{layers.top_path()}/{each}/tree") and each != "stacks")


def test_a_hard_link_to_a_file_of_a_lower_layer(tmp_path: Path) -> None:
    """Which podman, docker and containerd refuse: the file is copied, with all that it is, and both names are of one."""
    capability = struct.pack("<5I", 0x0200_0001, 1 << 13, 0, 0, 0)
    base = archive(directory("d", mode=0o711), pax(**{"SCHILY.xattr.security.capability": capability, "SCHILY.xattr.user.note": b"n"}),
                   entry("d/file", data=b"content" * 1000, mode=0o4751, uid=5, gid=6), entry("link", SYMLINK, target="d/file"), entry("p", FIFO, mode=0o620))  # fmt: skip
    top = archive(entry("e/hard", HARDLINK, target="./d/file"), entry("more", HARDLINK, target="d/file"), entry("soft", HARDLINK, target="link"),
                  entry("pipe", HARDLINK, target="p"))  # fmt: skip
    trees = unpack(base, top)
    one, other = os.lstat(f"{trees[1]}/e/hard"), os.lstat(f"{trees[1]}/d/file")
    assert one.st_ino == other.st_ino == os.lstat(f"{trees[1]}/more").st_ino and one.st_nlink == 3
    assert os.readlink(f"{trees[1]}/soft") == "d/file" and stat.S_ISFIFO(os.lstat(f"{trees[1]}/pipe").st_mode)
    if ROOT:
        shown = seen(trees, tmp_path)
        assert shown["e/hard"] | {"links": 3} == shown["d/file"] and shown["d"]["mode"] == 0o711
        wanted = {"mode": 0o4751, "owner": [5, 6], "size": 7000, "mtime": 1_700_000_000 * 10**9}
        assert wanted.items() <= shown["e/hard"].items()
        assert shown["e/hard"]["xattrs"] == {"user.note": b"n".hex(), "security.capability": capability.hex()}
    through = archive(entry("lib", SYMLINK, target="d"), directory("d"), entry("d/file", data=b"x"))
    assert "h" in files(unpack(through, archive(entry("h", HARDLINK, target="lib/file")), name="y:1"), tmp_path)


@pytest.mark.skipif(not ROOT, reason="they are root's to make")
def test_a_device_stays_one(tmp_path: Path) -> None:
    shown = seen(unpack(archive(entry("null", CHARACTER, devmajor=1, devminor=3, mode=0o666)), archive(entry("zero", CHARACTER, devmajor=0, devminor=0))), tmp_path)
    assert shown["null"]["device"] == [1, 3] and "zero" not in shown


@pytest.mark.parametrize("value", [b"y", b"x"])
def test_an_archive_does_not_steer_the_overlay(value: bytes, tmp_path: Path) -> None:
    """trusted.overlay.redirect and opaque, as an attribute of an entry, would show what the layer has not."""
    names = [f"SCHILY.xattr.{kind}.overlay.{name}" for kind in ("user", "trusted") for name in ("opaque", "redirect", "metacopy", "whiteout")]
    shown = files(unpack(BASE, archive(pax(**dict.fromkeys(names, value)), directory("d"), pax(**dict.fromkeys(names, value)), entry("z"))), tmp_path)
    assert shown == {"d/", "d/a", "d/b", "d/sub/", "d/sub/s", "f", "z"}


# ---- digests, and what is left


@pytest.mark.parametrize("change, problem", [
    (lambda made, about: about["rootfs"]["diff_ids"].__setitem__(1, digest(b"other")), "and the config says sha256:"),
])  # fmt: skip
def test_a_wrong_diff_id(change: Any, problem: str) -> None:
    made = Made([BASE, layer("x")])
    about = json.loads(made.blobs[made.id])
    change(made, about)
    wrong = Made([BASE, layer("x")], rootfs=about["rootfs"])
    with pytest.raises(ImageError, match=problem):
        layers.provide(wrong.put("x:1"))
    assert len([each for each in os.listdir(layers.top_path()) if each != "stacks"]) == 1


def test_a_blob_that_was_changed() -> None:
    made = Made([BASE])
    image = made.put("x:1")
    where = blobs.path(image.manifest().layers[0].digest)
    with open(where, "r+b") as file:
        file.seek(30)
        file.write(b"\0\0\0")
    with pytest.raises(ImageError, match=r"damaged|changed since|has the digest|archive"):
        layers.provide(image)


def test_other_compressions(tmp_path: Path) -> None:
    import bz2
    import lzma

    plain = Made([BASE], compress=bytes).put("plain:1")
    use = layers.provide(plain)
    use.close()
    if not shutil.which("zstd"):
        pytest.skip("no zstd here, whose archives are read")
    zstd = subprocess.run(["zstd", "-qc"], input=BASE, capture_output=True, check=True).stdout
    assert layers.provide(Made([BASE, layer("q")], compress=lambda data: zstd if data == BASE else data).put("zstd:1")).notes == []
    for work in (bz2.compress, lzma.compress):
        with pytest.raises(ImageError, match="which no layer is"):
            layers.provide(Made([layer("only")], compress=work).put("bad:1"))


def test_an_image_without_layers(tmp_path: Path) -> None:
    assert [os.listdir(each) for each in unpack()] == [[]]
    assert files(unpack(archive(), BASE, archive()), tmp_path) >= {"d/", "f"}


def test_a_layer_that_comes_twice(tmp_path: Path) -> None:
    """Docker's own empty layer does, in old images; overlayfs does not take one directory twice."""
    twice = archive(entry(".wh.f"), entry("d/a", data=b"twice"), entry(f"d/sub/{OPAQUE}"))
    trees = unpack(BASE, twice, archive(entry("f"), entry("d/.wh.a"), entry("d/sub/t")), twice)
    assert files(trees, tmp_path) == {"d/", "d/a", "d/b", "d/sub/"}


def test_what_is_collected() -> None:
    """Layers of no image and no container; not those that somebody uses."""
    image = Made([BASE, layer("1")]).put("x:1")
    use = layers.provide(image)
    unpack(BASE, layer("2"), name="y:1")
    assert layers.collect() == []
    for name in ("x:1", "y:1"):
        images.forget(images.untag(name).digest)
    assert [name for name, _ in layers.collect() or ()] == [digest(layer("2")).replace(":", "-")], "what is used stays, and what both have"
    trees = layers.names(use.digest)
    assert all(os.path.isdir(f"{layers.top_path()}/{each}") for each in trees)
    with images.hold():
        assert layers.collect() is None
    container, held = containers.create("x:1", _options(), None, digest=use.digest)
    use.close()
    held.__exit__()
    assert layers.collect() == []
    layers.must_be_there("x:1", container.digest)
    with containers.hold(container):
        containers.remove(container)
    assert len(layers.collect() or ()) == 2 and os.listdir(layers.top_path()) == ["stacks"] and os.listdir(f"{layers.top_path()}/stacks") == []


def _options() -> Any:
    from dolium.engine.config import Options

    options = Options()
    options.argv = ["true"]
    return options


def test_several_at_once() -> None:
    """One of them unpacks, the others wait for it."""
    made = Made([archive(*(entry(f"{n}/{m}", data=b"x" * 1000) for n in range(20) for m in range(20)))] + [layer(str(n)) for n in range(5)])
    image = made.put("x:1")
    children = []
    for _ in range(5):
        pid = os.fork()
        if pid == 0:
            try:
                layers.provide(image).close()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 5
    assert len(os.listdir(layers.top_path())) == 7 and layers.collect() == []
