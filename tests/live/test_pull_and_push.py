"""Images from a registry and back: Debian's docker-registry, filled and emptied by skopeo, and one of the tests' own that is cut off."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from containers import Dolium, Ended, wait_for
from layouts import Made, digest, layer, write_layout
from machine import Machine
from registry_servers import Debian, Hostile, Request, hostile, need, other

from dolium.engine import manifests

__all__ = ["hostile", "other"]
MADE = Made([layer("base"), layer("more")], {"Cmd": ["/bin/true"]})
BIG = Made([layer("base"), layer(*(f"file-{at}" for at in range(50)))])


class Place(Machine):
    """The command with directories and a home of its own."""

    def __init__(self, home: str) -> None:
        super().__init__()
        self.environment |= {"HOME": home}
        self.environment.pop("XDG_RUNTIME_DIR", None)
        self.home = home

    def pull(self, *words: str) -> Ended:
        return self("pull", *words, timeout=120)

    def digest(self, *words: str) -> str:
        ended = self.pull("-q", *words)
        assert (ended.code, ended.stderr) == (0, ""), ended
        return ended.stdout.strip()

    def fails(self, *words: str) -> str:
        ended = self(*words)
        assert ended.code == 125 and ended.stdout == "" and ended.stderr.startswith("error: "), ended
        return ended.stderr


@pytest.fixture
def place(root: Dolium, folder: str) -> Iterator[Place]:
    found = Place(f"{folder}/home")
    os.mkdir(found.home)
    yield found
    found.close()


@pytest.fixture
def here(folder: str) -> Iterator[Debian]:
    yield from a_registry(folder)


def a_registry(folder: str, **how: Any) -> Iterator[Debian]:
    need("docker-registry", "skopeo", "openssl")
    os.mkdir(f"{folder}/registry")
    found = Debian(f"{folder}/registry", **how)
    yield found
    found.close()


def skopeo(*words: str) -> str:
    ended = subprocess.run(["skopeo", *words], capture_output=True, text=True)
    assert ended.returncode == 0, ended
    return ended.stdout


def filled(server: Debian, folder: str, made: Made, tag: str, *words: str, creds: str = "") -> str:
    """Have skopeo push an image; the name it has there."""
    layout = write_layout(f"{folder}/layout-{tag}", {tag: made})
    more = ["--dest-creds", creds] if creds else []
    skopeo("copy", "--dest-tls-verify=false", *more, *words, f"oci:{layout}:{tag}", f"docker://{server.name}/org/image:{tag}")
    return f"{server.name}/org/image:{tag}"


def digest_by_skopeo(name: str, *words: str) -> str:
    return skopeo("inspect", "--tls-verify=false", *words, "--format", "{{.Digest}}", f"docker://{name}").strip()


# ---- pull


@pytest.mark.parametrize("words", [(), ("--dest-compress-format", "zstd"), ("--format", "v2s2"), ("--dest-decompress",)])
def test_what_skopeo_has_pushed(here: Debian, place: Place, folder: str, words: tuple[str, ...]) -> None:
    name = filled(here, folder, MADE, "v1", *words)
    assert place.digest(name) == digest_by_skopeo(name)
    ended = place.pull(name)
    assert ended.code == 0 and "is up to date" in ended.stderr and ended.stdout.strip() == digest_by_skopeo(name)


def test_a_tag_that_moves(here: Debian, place: Place, folder: str) -> None:
    name = filled(here, folder, MADE, "v1")
    first = place.digest(name)
    skopeo("copy", "--dest-tls-verify=false", f"oci:{write_layout(f'{folder}/new', {'x': BIG})}:x", f"docker://{name}")
    ended = place.pull(name)
    assert ended.code == 0 and "is new" in ended.stderr and ended.stdout.strip() != first
    assert place.digest(f"{here.name}/org/image@{first}") == first, "the old one by its digest"


def test_lines_events_and_nothing(here: Debian, place: Place, folder: str) -> None:
    name = filled(here, folder, MADE, "v1")
    ended = place.pull("--json", name)
    events = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.code == 0 and ended.stderr == "", ended
    states = [each["state"] for each in events if each["event"] == "layer"]
    assert sorted(states) == ["done", "done", "waiting", "waiting"]
    assert events[-1]["event"] == "image" and events[-1]["name"] == name and events[-1]["fresh"] is True
    other = filled(here, folder, BIG, "v2")
    ended = place.pull(other)
    lines = ended.stderr.splitlines()
    assert ended.code == 0 and any("there already" in each for each in lines) and any(": fetched, " in each for each in lines), ended


def test_bars_at_a_terminal(here: Debian, place: Place, folder: str) -> None:
    text = at_a_terminal(place, filled(here, folder, MADE, "v1"), 24, 80)
    assert "\x1b[" in text and text.count("fetched") >= 2, text
    final = text.rpartition("\x1b[J")[2].splitlines()
    assert [each.split()[1] for each in final[:2]] == ["fetched", "fetched"], "one line for each layer stays"


def test_more_layers_than_the_terminal_has_lines(hostile: Hostile, place: Place) -> None:
    """What is drawn again and again must fit, or it would scroll away with each drawing."""
    name = serve(hostile, Made([layer(f"file-{at}") for at in range(30)]))
    drawings = re.split(r"\x1b\[\d+A\x1b\[J", at_a_terminal(place, name, 8, 30))
    assert len(drawings) > 1
    for each in drawings:
        lines = [line for line in each.splitlines() if not line.startswith(("dolium: ", "sha256:"))]
        assert len(lines) <= 6 and max(map(len, lines), default=0) < 30, each


def at_a_terminal(place: Place, name: str, lines: int, columns: int) -> str:
    """What a pull writes there."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("4H", lines, columns, 0, 0))
    with place.start("pull", name, stderr=theirs, env={"TERM": "xterm"}) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 4096):
                shown += piece
        except OSError:  # nobody has the other end any more
            pass
        os.close(ours)
        assert process.wait() == 0, shown
    return shown.decode()


def test_for_another_machine(here: Debian, place: Place, folder: str) -> None:
    made = {each: Made([layer(each)], architecture=each) for each in ("amd64", "arm64")}
    layout = write_layout(f"{folder}/multi", made)
    body = {"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": [
        {"mediaType": manifests.OCI_MANIFEST, "digest": each.digest, "size": len(each.manifest), "platform": {"os": "linux", "architecture": name}}
        for name, each in made.items()]}  # fmt: skip
    data = json.dumps(body).encode()
    with open(f"{layout}/blobs/sha256/{digest(data)[7:]}", "wb") as file:
        file.write(data)
    about = {"schemaVersion": 2, "manifests": [{"mediaType": manifests.OCI_INDEX, "digest": digest(data), "size": len(data), "annotations": {"org.opencontainers.image.ref.name": "multi"}}]}
    with open(f"{layout}/index.json", "w") as file:
        json.dump(about, file)
    skopeo("copy", "--all", "--dest-tls-verify=false", f"oci:{layout}:multi", f"docker://{here.name}/org/multi:1")
    name = f"{here.name}/org/multi:1"
    assert place.digest("--platform", "linux/arm64", name) == made["arm64"].digest
    ours = manifests.this_platform().architecture
    assert place.digest(name) == made[ours].digest, "the same index, another choice"
    said = place.fails("pull", "--platform", "linux/s390x", name)
    assert "linux/s390x" in said and "linux/amd64, linux/arm64" in said
    # both are here now, with the index: so all of it goes
    assert place("push", "-q", name, f"{here.name}/again/multi:2").stdout.strip() == digest(data)
    skopeo("copy", "--all", "--src-tls-verify=false", f"docker://{here.name}/again/multi:2", f"oci:{folder}/back:x")
    assert {digest(data)[7:], *(each.digest[7:] for each in made.values())} <= {*os.listdir(f"{folder}/back/blobs/sha256")}


def test_what_is_not_there(here: Debian, place: Place, folder: str) -> None:
    filled(here, folder, MADE, "v1")
    assert "there is no `nope`" in place.fails("pull", f"{here.name}/org/image:nope")
    assert "or no such repository" in place.fails("pull", f"{here.name}/nobody/nothing")
    assert "connection refused" in place.fails("pull", "127.0.0.1:9/alpine")
    assert "is in no registry" in place.fails("pull", "oci:/tmp")


# ---- push


def test_what_was_pulled_is_pushed_and_is_the_same(here: Debian, place: Place, folder: str) -> None:
    name = filled(here, folder, MADE, "v1")
    place.digest(name)
    ended = place("push", name, f"{here.name}/elsewhere/copy:2")
    assert (ended.code, ended.stdout.strip()) == (0, MADE.digest) and ended.stderr.count("there already") == 3, "mounted: nothing is sent"
    skopeo("copy", "--src-tls-verify=false", f"docker://{here.name}/elsewhere/copy:2", f"oci:{folder}/back:x")
    for each, data in MADE.blobs.items():
        with open(f"{folder}/back/blobs/sha256/{each[7:]}", "rb") as file:
            assert file.read() == data
    ended = place("push", "--json", name)
    assert ended.code == 0 and json.loads(ended.stdout.splitlines()[-1])["digest"] == MADE.digest


def test_what_is_pushed_to_an_empty_registry(here: Debian, place: Place, hostile: Hostile, folder: str) -> None:
    """From one registry to another: all of it is sent."""
    hostile.made, hostile.blobs, hostile.tags = MADE, dict(MADE.blobs), {"latest": MADE.digest}
    assert place.digest(f"{hostile.name}/image") == MADE.digest
    ended = place("push", f"{hostile.name}/image", f"{here.name}/org/new:1")
    assert ended.code == 0, ended
    assert ended.stdout.strip() == MADE.digest and ended.stderr.count(": sent, ") == 3
    assert digest_by_skopeo(f"{here.name}/org/new:1") == MADE.digest


# ---- cut off


PIECE = os.urandom(3 << 20)


def slow(server: Hostile, started: threading.Event, go_on: threading.Event) -> tuple[Made, str]:
    """An image whose large layer stops in the middle until `go_on`; the digest of that layer."""
    from archives import archive, entry

    made = Made([layer("base"), archive(entry("big", data=PIECE))], compress=bytes)
    server.made, server.blobs, server.tags = made, dict(made.blobs), {"latest": made.digest}
    large = max(made.blobs, key=lambda each: len(made.blobs[each]))

    def stop(request: Request) -> bool:
        if not request.path.endswith(large) or go_on.is_set():
            return False
        data = made.blobs[large]
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: 2 << 20])
        request.wfile.flush()
        started.set()
        go_on.wait(60)
        request.hang_up()
        return True

    server.tricks.append(stop)
    return made, large


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_killed_in_the_middle_and_gone_on_with(hostile: Hostile, place: Place, how: signal.Signals) -> None:
    started, go_on = threading.Event(), threading.Event()
    made, large = slow(hostile, started, go_on)
    name = f"{hostile.name}/image"
    partial = f"{place.root}/var/lib/dolium/images/partial/{large.replace(':', '-')}"
    with place.start("pull", name) as process:
        assert started.wait(60)
        wait_for(lambda: os.path.exists(partial) and os.path.getsize(partial) >= 1 << 20)
        os.killpg(process.pid, how) if process.pid == os.getpgid(process.pid) else process.send_signal(how)
        process.wait(60)
        assert process.returncode == (130 if how == signal.SIGINT else -how)
    go_on.set()
    hostile.seen.clear()
    assert "there is no" not in place("ps", "-a").stderr
    assert place.digest(name) == made.digest
    ranges = [each[2].get("Range", "") for each in hostile.asked(large)]
    assert len(ranges) == 1 and int(ranges[0].removeprefix("bytes=").rstrip("-")) >= 1 << 20, "not from the beginning"
    assert not os.listdir(os.path.dirname(partial))


def test_two_at_once_fetch_each_blob_once(hostile: Hostile, place: Place) -> None:
    started, go_on = threading.Event(), threading.Event()
    made, _ = slow(hostile, started, go_on)
    name = f"{hostile.name}/image"
    with place.start("pull", "-q", name) as first:
        assert started.wait(60)
        with place.start("pull", "-q", name) as second:
            time.sleep(0.5)
            go_on.set()
            assert {first.communicate(timeout=60)[0], second.communicate(timeout=60)[0]} == {f"{made.digest}\n".encode()}
    got = [each for each in hostile.asked("/blobs/") if each[0] == "GET"]
    assert len({each[1] for each in got}) == len(got) - 1, "one was cut off by the test, and no other was asked for twice"


def test_an_unchanged_image_takes_one_request(hostile: Hostile, place: Place) -> None:
    name = f"{hostile.name}/image"
    first = place.digest(name)
    hostile.seen.clear()
    assert place.digest(name) == first
    assert [each[:2] for each in hostile.seen] == [("HEAD", "/v2/image/manifests/latest")]
    hostile.seen.clear()
    assert place.digest(f"{hostile.name}/image@{first}") == first and place.digest(f"{hostile.name}/image@{first}") == first
    assert [each[0] for each in hostile.seen].count("GET") == 1, "a digest that is here is asked for nowhere"


# ---- unpacked


def large(count: int) -> list[bytes]:
    """Layers of 4 MiB that no compression makes small, with a file of the same name."""
    from archives import archive, entry

    return [archive(entry("common", data=str(at).encode()), entry(f"big-{at}", data=os.urandom(4 << 20))) for at in range(count)]


def trees(place: Place) -> dict[str, list[str]]:
    """What is unpacked, by the name of its directory."""
    top = f"{place.root}/var/lib/dolium/layers"
    return {each: sorted(os.listdir(f"{top}/{each}/tree")) for each in os.listdir(top) if each != "stacks"}


def serve(server: Hostile, made: Made) -> str:
    server.made, server.blobs, server.tags = made, dict(made.blobs), {"latest": made.digest}
    return f"{server.name}/image"


def test_a_layer_that_takes_from_the_one_below_it(hostile: Hostile, place: Place) -> None:
    """A hard link to a file of the layer below, and a directory that only that one has."""
    from archives import DIRECTORY, HARDLINK, archive, entry

    first = archive(entry("d", DIRECTORY, mode=0o711), entry("d/file", data=b"below"), entry("big", data=os.urandom(9 << 20)))
    made = Made([first, archive(entry("d/link", HARDLINK, target="d/file")), archive(entry("d/more", data=b"x"))], compress=bytes)
    assert place.digest(serve(hostile, made)) == made.digest
    found = trees(place)
    assert sorted(each.partition("-")[0] for each in found) == ["chain", "chain", "sha256"], found
    for each in found:
        assert os.stat(f"{place.root}/var/lib/dolium/layers/{each}/tree/d").st_mode & 0o7777 == 0o711


def test_a_layer_is_unpacked_while_it_comes(hostile: Hostile, place: Place) -> None:
    """Its first files are there before the last byte has been sent."""
    made = Made(large(1), compress=bytes)
    go_on = threading.Event()

    def half(request: Request) -> bool:
        if "/blobs/" not in request.path or len(data := hostile.blobs[request.path.rpartition("/")[2]]) < 1 << 20:
            return False
        request.send_response(200)
        request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: len(data) // 2])
        request.wfile.flush()
        go_on.wait(60)
        request.wfile.write(data[len(data) // 2 :])
        return True

    name = serve(hostile, made)
    hostile.tricks.append(half)
    top = f"{place.root}/var/lib/dolium/layers"
    with place.start("pull", "-q", name) as process:
        wait_for(lambda: any(names for _, _, names in os.walk(top)), 60)
        assert trees_there(top) == []
        go_on.set()
        assert process.wait(60) == 0
    assert len(trees_there(top)) == 1


def trees_there(top: str) -> list[str]:
    return [each for each in os.listdir(top) if os.path.isdir(f"{top}/{each}/tree")]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_while_layers_are_unpacked(hostile: Hostile, place: Place, how: signal.Signals) -> None:
    layers = large(4)
    made = Made(layers, compress=bytes)
    name = serve(hostile, made)
    top = f"{place.root}/var/lib/dolium/layers"
    with place.start("pull", "-q", name) as process:
        wait_for(lambda: os.path.isdir(top) and len(os.listdir(top)) > 0, 60)
        process.send_signal(how)
        process.wait(60)
    assert place.digest(name) == made.digest
    assert {*trees(place)} == {f"sha256-{digest(each)[7:]}" for each in layers}
    assert all(os.path.isdir(f"{top}/{each}/tree") and not os.path.exists(f"{top}/{each}/new") for each in trees(place))
