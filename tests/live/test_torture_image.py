"""The image of ../shared/tools/mkimage.py, with all that layers can have, pushed to a registry and pulled: each entry of the container's
root against what the layers say, by an oracle of the test's own, and against what umoci unpacks."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from containers import TOP, wait_for
from machine import Machine
from registry_servers import Debian, need
from test_images_run import must_keep_attributes

TAGS = ("gzip", "zstd", "plain", "multi", "xlink", "docker")
KINDS = {tarfile.REGTYPE: "-", tarfile.DIRTYPE: "d", tarfile.SYMTYPE: "l", tarfile.CHRTYPE: "c", tarfile.BLKTYPE: "b", tarfile.FIFOTYPE: "p",
         tarfile.GNUTYPE_SPARSE: "-"}  # fmt: skip
PAGE = 4096
About = dict[str, Any]
"""Of one entry: kind, mode, owner, mtime; of files also size, blocks, content, xattrs; target, device; `links` how many names its inode
has in its layer, `file` the least of the names in the whole tree that are of the same one."""


# ---- what the layers say


def oracle(layers: list[bytes]) -> dict[str, About]:
    """Apply them, one over the other (image-spec layer.md).  Directories that no layer describes have no `mtime`."""
    tree: dict[str, About] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
            members = [(os.path.normpath(each.name), each) for each in archive.getmembers()]
            for path, _ in members:
                above, name = os.path.split(path)
                if name == ".wh..wh..opq":
                    remove(tree, above, itself=False)
                elif name.startswith(".wh."):
                    remove(tree, os.path.join(above, name[4:]))
            fresh: list[About] = []
            for path, member in members:
                if path != "." and not os.path.basename(path).startswith(".wh."):
                    put(tree, path, member, archive, fresh)
            for each in fresh:
                if each["kind"] != "d":  # of which every file system has its own count
                    each["links"] = sum(found is each for found in tree.values())
    return {path: {**about, "file": min(name for name, other in tree.items() if other is about)} for path, about in tree.items()}


def remove(tree: dict[str, About], path: str, itself: bool = True) -> None:
    for each in [name for name in tree if name.startswith(f"{path}/") or (itself and name == path)]:
        del tree[each]


def put(tree: dict[str, About], path: str, member: tarfile.TarInfo, archive: tarfile.TarFile, fresh: list[About]) -> None:
    at = os.path.dirname(path)
    while at and at not in tree:
        tree[at] = {"kind": "d", "mode": 0o755, "owner": [0, 0], "xattrs": {}}
        at = os.path.dirname(at)
    if not (member.isdir() and path in tree and tree[path]["kind"] == "d"):
        remove(tree, path)
    if not member.islnk():
        tree[path] = described(member, archive)
        fresh.append(tree[path])
        return
    target = os.path.normpath(member.linkname)
    if not any(tree[target] is each for each in fresh):  # a file of a lower layer: overlayfs links no others
        tree[target] = {**tree[target]}
        fresh.append(tree[target])
    tree[path] = tree[target]


def described(member: tarfile.TarInfo, archive: tarfile.TarFile) -> About:
    seconds = Decimal(member.pax_headers.get("mtime", str(member.mtime)))
    about: About = {"kind": KINDS[member.type], "mode": member.mode, "owner": [member.uid, member.gid], "mtime": int(seconds * 10**9)}
    if member.issym():
        about |= {"mode": 0o777, "target": member.linkname}
    elif member.isdev() and not member.isfifo():
        about["device"] = [member.devmajor, member.devminor]
    elif not member.isfifo():
        prefix = "SCHILY.xattr."
        about["xattrs"] = {name.removeprefix(prefix): value.encode().hex() for name, value in member.pax_headers.items() if name.startswith(prefix)}
    if member.isreg():
        file = archive.extractfile(member)
        assert file
        content = file.read()
        pieces = [(0, len(content))] if member.sparse is None else member.sparse
        pages = {page for at, size in pieces for page in range(at // PAGE, -(-(at + size) // PAGE))}
        about |= {"size": len(content), "blocks": len(pages) * PAGE // 512, "content": hashlib.sha256(content).hexdigest()}
    return about


# ---- what is there


DUMP = """
import hashlib, json, os, stat, sys
top, hidden, found, files = sys.argv[1], sys.argv[2:], {}, {}
for directory, names, others in os.walk(top):
    names[:] = [each for each in names if os.path.relpath(os.path.join(directory, each), top) not in hidden]
    for path in (os.path.join(directory, each) for each in names + others):
        s, name = os.lstat(path), os.path.relpath(path, top)
        if name in hidden:
            continue
        kind = stat.filemode(s.st_mode)[0]
        about = found[name] = {"kind": kind, "mode": stat.S_IMODE(s.st_mode), "owner": [s.st_uid, s.st_gid], "mtime": s.st_mtime_ns}
        about |= {} if kind == "d" else {"links": s.st_nlink}
        files.setdefault((s.st_dev, s.st_ino), []).append(name)
        if kind == "-":
            with open(path, "rb") as file:
                about |= {"size": s.st_size, "blocks": s.st_blocks, "content": hashlib.file_digest(file, "sha256").hexdigest()}
        if kind in "-d":
            about["xattrs"] = {each: os.getxattr(path, each).hex() for each in os.listxattr(path)}
        if kind == "l":
            about["target"] = os.readlink(path)
        if kind in "bc":
            about["device"] = [os.major(s.st_rdev), os.minor(s.st_rdev)]
for names in files.values():
    for each in names:
        found[each]["file"] = min(names)
print(json.dumps(found))
"""


def dump(top: str, *hidden: str) -> dict[str, About]:
    """All below a directory, in the oracle's words."""
    done = subprocess.run([sys.executable, "-c", DUMP, top, *hidden], capture_output=True, text=True)
    assert done.returncode == 0, done
    found: dict[str, About] = json.loads(done.stdout)
    return found


def in_a_container(machine: Machine, image: str) -> tuple[dict[str, About], list[str]]:
    """The root of one that runs, as the host's root sees it: with the host's users, so that owners are the image's.  And the
    places where something is mounted, which are not looked at."""
    ended = machine("run", "-d", "--userns", "host", "--name", "x", image, "sleep", "1000")
    assert (ended.code, ended.stderr) == (0, ""), ended
    try:
        pid = machine.rows()["x"]["Pid"]
        wait_for(lambda: Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        mounted = [line.split()[4][1:] for line in Path(f"/proc/{pid}/mountinfo").read_text().splitlines()]
        return dump(f"/proc/{pid}/root", *mounted), mounted
    finally:
        assert machine("rm", "-f", "x").code == 0


# ---- the image in a registry


class Published:
    """In a registry under every tag."""

    def __init__(self, folder: Path) -> None:
        self.layout = str(folder / "layout")
        shared = f"{os.path.dirname(TOP)}/shared"
        tool, base = f"{shared}/tools/mkimage.py", f"{shared}/rootfs/alpine-minirootfs-3.20.3-x86_64.tar.gz"
        for each in (tool, base):
            if not os.path.exists(each):
                pytest.skip(f"no {each}")
        need("docker-registry", "skopeo", "zstd")
        subprocess.run([sys.executable, tool, base, self.layout], check=True)
        (folder / "registry").mkdir()
        self.server = Debian(str(folder / "registry"))
        for tag in TAGS[:-1]:
            self.copy(f"oci:{self.layout}:{tag}", tag, "--all", "--preserve-digests")
        self.copy(f"oci:{self.layout}:gzip", "docker", "--format", "v2s2")

    def copy(self, source: str, tag: str, *words: str) -> None:
        subprocess.run(["skopeo", "copy", "-q", "--dest-tls-verify=false", *words, source, f"docker://{self.name(tag)}"], check=True)

    def name(self, tag: str) -> str:
        return f"{self.server.name}/torture:{tag}"

    def digest(self, tag: str) -> str:
        """Of the manifest for this machine."""
        raw = subprocess.run(["skopeo", "inspect", "--raw", "--tls-verify=false", f"docker://{self.name(tag)}"], check=True, capture_output=True).stdout
        listed = json.loads(raw).get("manifests")
        return str(listed[0]["digest"]) if listed else "sha256:" + hashlib.sha256(raw).hexdigest()

    def layers(self, tag: str) -> list[bytes]:
        """Of the image with that tag, uncompressed, the lowest first: as the layout has them, by their diff_id."""
        whole = {digest: data for digest, data in map(_plain, Path(self.layout, "blobs/sha256").iterdir())}
        config = json.loads(subprocess.run(["skopeo", "inspect", "--config", "--raw", "--tls-verify=false", f"docker://{self.name(tag)}"],
                                           check=True, capture_output=True).stdout)  # fmt: skip
        return [whole[each] for each in config["rootfs"]["diff_ids"]]


def _plain(path: Path) -> tuple[str, bytes]:
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = subprocess.run(["gzip", "-dc"], input=data, capture_output=True, check=True).stdout
    elif data[:4] == b"\x28\xb5\x2f\xfd":
        data = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=True).stdout
    return "sha256:" + hashlib.sha256(data).hexdigest(), data


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    found = Published(tmp_path_factory.mktemp("torture"))
    yield found
    found.server.close()


@pytest.mark.parametrize("tag", TAGS)
def test_each_entry_is_what_the_layers_say(tag: str, published: Published, machine: Machine) -> None:
    """Whole: holes, the names of one file, times to the nanosecond.  Where something is mounted the container has made a place."""
    must_keep_attributes(f"{machine.root}/var/lib/dolium")
    ended = machine("pull", "-q", published.name(tag))
    assert (ended.code, ended.stdout, ended.stderr) == (0, f"{published.digest(tag)}\n", ""), ended
    assert machine("image", "verify").code == 0
    seen, mounted = in_a_container(machine, published.name(tag))
    wanted = oracle(published.layers(tag))
    for tree in (wanted, seen):
        for place in (*mounted, "vol"):  # a volume of its config
            remove(tree, place)
            tree.get(os.path.dirname(place), {}).pop("mtime", None)
    assert {*seen} == {*wanted}
    for path, about in wanted.items():
        assert {key: value for key, value in seen[path].items() if key != "mtime" or key in about} == about, path
    assert wanted["t/sparse"]["blocks"] == 8 and wanted["t/sparse"]["size"] == 64 << 20
    assert "t/gone" not in seen and wanted["t/h2"]["file"] == "t/h2" and wanted["t/cap"]["mtime"] % 10**9
    assert (seen["t/h3"]["file"] if tag == "xlink" else "t/h2") == "t/h2"


@pytest.mark.needs_root
def test_umoci_unpacks_what_the_oracle_says(published: Published, tmp_path: Path) -> None:
    """But for holes, which it fills, and the time of a directory that it removes something from.  Of two names of which a layer above
    takes one away, the other counts one, for it unpacks into one tree.  The files of all tags are the same, and it knows no zstd (0.4.7)."""
    need("umoci")
    tag = "xlink"
    subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{published.name(tag)}", f"oci:{tmp_path}/layout:x"], check=True)
    subprocess.run(["umoci", "unpack", "--image", f"{tmp_path}/layout:x", f"{tmp_path}/bundle"], check=True, capture_output=True)
    seen, wanted = dump(f"{tmp_path}/bundle/rootfs"), oracle(published.layers(tag))
    assert {*seen} == {*wanted}
    for path, about in wanted.items():
        leave = {"blocks", "links"} if about["kind"] != "d" else {"mtime"} if path == "t" else set()
        assert {key: value for key, value in seen[path].items() if key in {*about} - leave} \
            == {key: value for key, value in about.items() if key not in leave}, path  # fmt: skip
