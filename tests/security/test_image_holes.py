"""Images that want more than to be run: one test for each published hole, named after it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from archives import CHARACTER, DIRECTORY, HARDLINK, SYMLINK, archive, entry, fingerprint, pax
from containers import TOP, Ended
from layouts import Made, write_layout
from machine import Machine

pytestmark = pytest.mark.needs_root
BUSYBOX = "/bin/busybox"


@pytest.fixture(scope="module")
def shell() -> bytes:
    try:
        program = Path(BUSYBOX).read_bytes()
    except OSError:
        pytest.skip(f"no {BUSYBOX} here (apt-get install busybox-static)")
    names = ("sh", "cat", "id", "env", "ls", "true", "dd")
    return archive(entry("bin", DIRECTORY), entry("bin/busybox", data=program, mode=0o755), entry("etc", DIRECTORY),
                   *(entry(f"bin/{name}", SYMLINK, target="busybox") for name in names))  # fmt: skip


def run(machine: Machine, folder: str, layers: list[bytes], *words: str, config: dict[str, Any] | None = None) -> Ended:
    layout = write_layout(f"{folder}/{hashlib.sha256(repr((layers, words)).encode()).hexdigest()[:9]}", {"1": Made(layers, {"Env": ["PATH=/bin"], **(config or {})})})
    return machine("run", "--rm", "--network", "none", f"oci:{layout}:1", *words)


HOSTILE: dict[str, Callable[[str], list[bytes]]] = {
    "CVE-2014-6407: a link, then through it": lambda out: [entry("out", SYMLINK, target=out), entry("out/pwned", data=b"x")],
    "CVE-2014-6407: a hard link to a file of the host": lambda out: [entry("h", HARDLINK, target=f"{out}/secret")],
    "up by doubled slashes": lambda out: [entry("..//..//pwned", data=b"x")],
    "CVE-2018-15664: a link that goes up": lambda out: [entry("up", SYMLINK, target=f"../../../../../../../../{out[1:]}"), entry("up/pwned", data=b"x")],
    "zip-slip": lambda out: [entry(f"a/../../../../../../../../{out[1:]}/pwned", data=b"x")],
    "absolute": lambda out: [entry(f"{out}/pwned", data=b"x")],
    "a whiteout that goes up": lambda out: [entry(f"a/../../../{out[1:]}/.wh.secret")],
    "a whiteout through a link": lambda out: [entry("out", SYMLINK, target=out), entry("out/.wh.secret")],
    "an opaque directory through a link": lambda out: [entry("out", SYMLINK, target=out), entry("out/.wh..wh..opq")],
    "a whiteout of the parent": lambda out: [entry("d/.wh...")],
    "a whiteout of everything": lambda out: [entry(".wh..")],
    "a link to /proc": lambda out: [entry("p", SYMLINK, target="/proc/self/root"), entry(f"p/{out[1:]}/pwned", data=b"x")],
    "a hard link through a link": lambda out: [entry("out", SYMLINK, target=out), entry("h", HARDLINK, target="out/secret")],
    "CVE-2025-4517: a chain of long links": lambda out: [entry("a" * 200, DIRECTORY), *(entry(f"{'a' * 200}/{n}", SYMLINK, target="../" * 30 + out[1:]) for n in range(3)),
                                             entry("b", SYMLINK, target="a" * 200 + "/0"), entry("b/pwned", data=b"x")],
    "a PAX name": lambda out: [pax(path=f"../../../{out[1:]}/pwned"), entry("innocent", data=b"x")],
    "a PAX link": lambda out: [pax(linkpath=f"{out}/secret"), entry("h", HARDLINK, target="innocent")],
    "a sparse name": lambda out: [pax(GNU__sparse__name=f"../{out[1:]}/pwned", GNU__sparse__size="3", GNU__sparse__map="0,1"), entry("innocent", data=b"x")],
    "a directory over a link": lambda out: [entry("d", SYMLINK, target=out), entry("d", DIRECTORY, mode=0o777), entry("d/x")],
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("below", ["lowest", "upper"])
def test_layers_that_reach_out(name: str, below: str, machine: Machine, shell: bytes, folder: str) -> None:
    """Also where what leads out is in the layer below; and whatever comes of it, nothing of the host has changed."""
    outside = f"{folder}/outside"
    os.mkdir(outside)
    Path(outside, "secret").write_text("secret of the host")
    before = fingerprint(outside)
    entries = HOSTILE[name](outside)
    layers = [shell, archive(*entries)] if below == "upper" else [archive(*entries), shell]
    if below == "upper" and len(entries) == 2:
        layers = [shell, archive(entries[0]), archive(entries[1])] if not name.startswith(("a PAX", "a sparse")) else layers
    ended = run(machine, folder, layers, "cat", "/h", "/out/secret", "/d/secret")
    assert "secret of the host" not in ended.stdout and fingerprint(outside) == before, ended
    assert ended.code in (1, 125) and "Traceback" not in ended.stderr, ended


def test_cve_2022_23648_a_volume_that_goes_up(machine: Machine, shell: bytes, folder: str) -> None:
    ended = run(machine, folder, [shell], "true", config={"Volumes": {"/../../../../etc": {}}})
    assert ended.code == 125 and "Volumes: " in ended.stderr, ended


def test_a_volume_or_working_directory_through_a_link(machine: Machine, shell: bytes, folder: str) -> None:
    """They are made in the container, wherever links of the image lead (CVE-2018-15664's kind)."""
    os.mkdir(f"{folder}/outside")
    links = archive(entry("there", DIRECTORY), entry("in", SYMLINK, target="/../../there"), entry("out", SYMLINK, target=f"{folder}/outside"))
    ended = run(machine, folder, [shell, links], "ls", "/there", config={"Volumes": {"/in/volume": {}}, "WorkingDir": "/in/work"})
    assert (ended.code, ended.stdout) == (0, "volume\nwork\n"), ended
    ended = run(machine, folder, [shell, links], "true", config={"Volumes": {"/out/volume": {}}})
    assert ended.code == 125 and "cannot mkdir /out/volume" in ended.stderr, "no such place in the container"
    assert os.listdir(f"{folder}/outside") == []


def test_cve_2026_53488_labels_are_notes(machine: Machine, shell: bytes, folder: str) -> None:
    """No label of an image, whatever it is called, is a word to Dolium."""
    labels = {key: "true" for key in ("dolium", "dolium.privileged", "dolium.init", "userns", "io.kubernetes.cri.container-type", "run.oci.keep_original_groups",
                                      "org.criu.config", "run.oci.hooks.stderr", "dolium.cap_add")}  # fmt: skip
    for config in ({}, {"Labels": labels}):
        ended = run(machine, folder, [shell], "cat", "/proc/self/status", config=config)
        assert ended.code == 0, ended
        lines = [line for line in ended.stdout.splitlines() if line.startswith(("Cap", "Uid", "NoNewPrivs", "Seccomp:"))]
        if not config:
            wanted = lines
    assert lines == wanted


@pytest.mark.parametrize("passwd", ["device", "huge", "link", "fifo"])
def test_cve_2024_9676_a_passwd_that_has_no_end(passwd: str, machine: Machine, shell: bytes, folder: str) -> None:
    """A user is looked up in the image's own passwd, of which a little is read, and only if it is a file."""
    made = {
        "device": entry("etc/passwd", CHARACTER, devmajor=1, devminor=5),
        "huge": pax(GNU__sparse__size=str(10 << 30), GNU__sparse__map="0,5") + entry("etc/passwd", data=b"a:b:c"),
        "link": entry("etc/passwd", SYMLINK, target="/proc/self/environ"),
        "fifo": entry("etc/passwd", b"6"),
    }[passwd]
    ended = run(machine, folder, [shell, archive(made)], "id", config={"User": "somebody"})
    assert ended.code == 125 and "somebody" in ended.stderr and "Traceback" not in ended.stderr, ended


def test_cve_2019_5736_an_image_whose_program_is_the_helper(machine: Machine, shell: bytes, folder: str) -> None:
    """/proc/self/exe, as program or interpreter: the image's own program at most, and nothing of ours can be written."""
    ours = [f"{TOP}/src/dolium/programs/{name}" for name in ("dolium-init", "dolium-keep")]
    before = [hashlib.sha256(Path(each).read_bytes()).hexdigest() for each in ours]
    script = archive(entry("bin/evil", data=b"#!/proc/self/exe\n", mode=0o755))
    for argv in (["/bin/evil"], ["/proc/self/exe"], ["sh", "-c", "dd if=/bin/busybox of=/proc/1/exe"]):
        assert run(machine, folder, [shell, script], *argv).code != 0
    assert [hashlib.sha256(Path(each).read_bytes()).hexdigest() for each in ours] == before


def test_a_device_in_a_layer_cannot_be_opened(machine: Machine, shell: bytes, folder: str) -> None:
    """The whole overlay is mounted nodev: a node of the host's memory or of its disk is a name without a thing."""
    nodes = archive(entry("mem", CHARACTER, devmajor=1, devminor=1, mode=0o666), entry("zero", CHARACTER, devmajor=1, devminor=5, mode=0o666))
    for name in ("mem", "zero"):
        ended = run(machine, folder, [shell, nodes], "dd", f"if=/{name}", "of=/dev/null", "bs=1", "count=1")
        assert ended.code == 1 and "Permission denied" in ended.stderr, ended


def test_cve_2021_41190_one_document_two_meanings(machine: Machine, shell: bytes, folder: str) -> None:
    made = Made([shell], {"Env": ["PATH=/bin"]})
    layout = write_layout(f"{folder}/layout", {"1": made})
    body = {**json.loads(made.manifest), "manifests": []}
    data = json.dumps(body).encode()
    name = hashlib.sha256(data).hexdigest()
    Path(layout, "blobs/sha256", name).write_bytes(data)
    index = json.loads(Path(layout, "index.json").read_text())
    index["manifests"][0] |= {"digest": f"sha256:{name}", "size": len(data)}
    Path(layout, "index.json").write_text(json.dumps(index))
    ended = machine("run", "--rm", f"oci:{layout}:1", "true")
    assert ended.code == 125 and "both an index" in ended.stderr, ended
