"""`dolium commit`: what it makes of a container is what the container shows, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest
from archives import archive, entry
from containers import SYSTEM_PYTHON, TOP, Dolium, read_line, wait_for
from test_export import WRITES, everything
from test_tarballs import Host

from dolium.engine.stack import Stack
from dolium.engine.tar import DIRECTORY

EPOCH = {"SOURCE_DATE_EPOCH": "1700000000"}


@pytest.fixture(params=["plain", pytest.param("root", marks=pytest.mark.needs_root)])
def host(request: pytest.FixtureRequest, plain: Dolium, folder: str) -> Iterator[Host]:
    """The command with a store of its own, of root and of a plain user."""
    found = Host(plain.uid if request.param == "plain" else 0, folder, size="512m")
    found.forgets = False
    found.environment["XDG_CONFIG_HOME"] = folder
    os.chown(folder, found.uid, -1)
    yield found
    found.close()


@pytest.fixture
def root_of(host: Host, alpine: str, own_alpine: str) -> str:
    return own_alpine if host.uid else alpine


def good(host: Dolium, *words: str, **how: Any) -> str:
    ended = host(*words, **how)
    assert ended.code == 0, ended
    return ended.stdout


def layout(host: Host, folder: str, *names: str, form: str = "oci-dir") -> str:
    path = f"{folder}/{form}"
    good(host, "save", "--format", form, "-o", path, *names)
    return path


def blob(path: str, digest: str) -> Any:
    with open(f"{path}/blobs/{digest.replace(':', '/')}", "rb") as file:
        return json.load(file)


def described(path: str, at: int = 0) -> tuple[Any, Any]:
    """Manifest and config of an image in a layout."""
    with open(f"{path}/index.json") as file:
        manifest = blob(path, json.load(file)["manifests"][at]["digest"])
    return manifest, blob(path, manifest["config"]["digest"])


def left(host: Host) -> list[str]:
    """What is in the store besides whole blobs."""
    top = f"{host.data}/dolium/images/partial"
    return os.listdir(top) if os.path.isdir(top) else []


def blobs_of(host: Host) -> int:
    top = f"{host.data}/dolium/images/blobs/sha256"
    return len(os.listdir(top)) if os.path.isdir(top) else 0


def test_a_container_becomes_an_image(host: Host, root_of: str, folder: str) -> None:
    good(host, "run", "--name", "c", "-e", "A=b", "-w", "/root", "-l", "x=y", "--stop-signal", "INT", root_of, "sh", "-c", WRITES)
    ended = host("commit", "-m", "why", "-a", "me", "-c", 'ENV B="c d"', "--change", "EXPOSE 80", "-c", 'CMD ["true"]', "c", "my/app:1", env=EPOCH)
    assert ended.code == 0 and ended.stderr.startswith("dolium: 1 layer, "), ended
    path = layout(host, folder, "my/app:1")
    manifest, config = described(path)
    assert ended.stdout == manifest["config"]["digest"] + "\n"
    assert config["created"] == "2023-11-14T22:13:20Z" and config["author"] == "me" and config["os"] == "linux"
    assert config["config"] == {
        "Cmd": ["true"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=b", "B=c d"],
        "Labels": {"x": "y"}, "StopSignal": "SIGINT", "WorkingDir": "/root", "ExposedPorts": {"80/tcp": {}}}  # fmt: skip
    assert [(each["comment"], each["author"], each["created_by"][:6]) for each in config["history"]] == [("why", "me", "sh -c ")]
    assert len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == 1
    with tarfile.open(f"{path}/blobs/{manifest['layers'][0]['digest'].replace(':', '/')}") as layer, \
            tarfile.open(fileobj=io.BytesIO(host("export", "c").out)) as exported:  # fmt: skip
        assert everything(layer) == everything(exported)


def test_the_same_gives_the_same(host: Host, root_of: str) -> None:
    good(host, "run", "--name", "c", root_of, "sh", "-c", WRITES)
    assert good(host, "commit", "-q", "c", env=EPOCH) == good(host, "commit", "-q", "c", "a:b", env=EPOCH)
    assert good(host, "commit", "-q", "c", env={"SOURCE_DATE_EPOCH": "1"}) != good(host, "commit", "-q", "c", env=EPOCH)
    assert host("commit", "-q", "c").stderr == ""
    first, second = (host("save", "a:b").out for _ in range(2))
    assert first == second and b"docker.io/library/a:b" in first
    refused = host("commit", "c", env={"SOURCE_DATE_EPOCH": "x"})
    assert refused.code == 125 and "SOURCE_DATE_EPOCH: `x` is no number of seconds" in refused.stderr


def test_names_that_say_removed_are_refused(host: Host, root_of: str) -> None:
    good(host, "run", "--name", "c", root_of, "touch", "/.wh.motd")
    refused = host("commit", "c")
    assert refused.code == 125 and refused.stderr == (
        "error: `.wh.motd` cannot be in an image: names that begin with `.wh.` say there what was removed\n\n"
        "hint: rename it; `dolium export` takes it as it is\n")  # fmt: skip
    assert b".wh.motd" in host("export", "c").out and blobs_of(host) == 0 and left(host) == []


@pytest.mark.parametrize(("words", "problem"), [
    (("-c", "RUN x"), "error: -c: `RUN` does not change how an image is run"),
    (("c", "Big"), "error: image `Big`: names of images are in lower case"),
    (("c", "oci:x"), "error: `oci:x` cannot be the name of a new image"),
    (("gone",), "error: no container `gone`"),
])  # fmt: skip
def test_is_refused_before_anything_is_made(dolium: Dolium, words: tuple[str, ...], problem: str) -> None:
    refused = dolium("commit", *words)
    assert refused.code == 125 and refused.stderr.startswith(problem), refused


def test_this_hosts_programs_make_no_image(host: Host) -> None:
    good(host, "run", "--name", "c", "@host", "true")
    refused = host("commit", "c")
    assert refused.code == 125 and refused.stderr.startswith("error: unsupported: the files of @host:"), refused


# ---- a container that runs


class Busy:
    """A container that runs and has a file which takes its time to be compressed."""

    def __init__(self, host: Host, root: str) -> None:
        self.host = host
        code = "head -c 40000000 /dev/urandom > /big; echo ready; i=0; while :; do i=$((i+1)); echo $i > /a; echo $i > /b; done"
        self.process = host.start("run", "--name", "busy", root, "sh", "-c", code)
        assert read_line(self.process) == "ready"
        found = json.loads(good(host, "inspect", "busy"))[0]
        pid = found["State"]["Pid"]
        with open(f"/proc/{pid}/cgroup") as file:
            paths = [line.rstrip().partition("::")[2] for line in file if line.startswith("0::")]
        tops = [each for each in ("/sys/fs/cgroup/unified", "/sys/fs/cgroup") if os.path.exists(f"{each}{paths[0]}/cgroup.events")]
        self.events = f"{tops[0]}{paths[0]}/cgroup.events" if tops else ""

    def is_frozen(self) -> bool:
        with open(self.events) as file:
            return "frozen 1" in file.read()

    def close(self) -> None:
        self.host("kill", "busy")
        self.process.wait()
        self.process.communicate()


@pytest.fixture
def busy(root: Dolium, folder: str, alpine: str) -> Iterator[Busy]:
    place = Host(0, folder, size="512m")
    place.forgets = False
    found = Busy(place, alpine)
    yield found
    found.close()
    place.close()


def test_it_is_paused_meanwhile(busy: Busy) -> None:
    with busy.host.start("commit", "busy", "x:1") as process:
        wait_for(busy.is_frozen)
        assert process.wait() == 0
    assert not busy.is_frozen()
    ended = busy.host("save", "x:1")
    with tarfile.open(fileobj=io.BytesIO(ended.out)) as saved:
        sizes = {each.name: each.size for each in saved.getmembers()}
        layer = saved.extractfile(max(sizes, key=lambda each: sizes[each]))
        assert layer
        with tarfile.open(fileobj=layer) as files:
            numbers = [files.extractfile(each) for each in "ab"]
            first, second = (int(each.read() or b"-1") for each in numbers if each)
    assert first in (second, second + 1) or -1 in (first, second)  # it was stopped at one moment


def test_it_is_not_if_so_asked(busy: Busy) -> None:
    with busy.host.start("commit", "--pause=false", "busy", "x:1") as process:
        while process.poll() is None:
            assert not busy.is_frozen()
            time.sleep(0.01)
        assert process.returncode == 0


def test_it_goes_on_when_commit_is_killed(busy: Busy) -> None:
    with busy.host.start("commit", "-p", "busy", "x:1") as process:
        wait_for(busy.is_frozen)
        process.kill()
        process.wait()
    wait_for(lambda: not busy.is_frozen())
    assert left(busy.host) == [] and blobs_of(busy.host) == 0
    assert busy.host("save", "x:1").code == 125
    assert busy.host("commit", "busy", "x:1").code == 0


def test_a_plain_users_cannot_be_paused_everywhere(plain: Dolium, own_alpine: str) -> None:
    name = f"unpaused-{os.getpid()}"
    plain.forgets = False
    with plain.start("run", "--name", name, own_alpine, "sh", "-c", "echo ready; sleep 1000") as process:
        assert read_line(process) == "ready"
        try:
            ended = plain("commit", name)
            if ended.code:
                assert ended.stderr.startswith(f"error: unsupported: pausing `{name}`: it has no cgroup v2 of its own"), ended
                assert ended.stderr.endswith("hint: --pause=false takes its files while it goes on writing\n")
            assert plain("commit", "--pause=false", name).code == 0
        finally:
            plain("rm", "-f", name)
            process.wait()


# ---- of an image: its layers and one more


def python(host: Host, code: str, *words: str) -> str:
    """What a program in Python prints that runs where the host's commands do."""
    ended = host(*words, argv=[*host.command[:-1], SYSTEM_PYTHON, "-c", code], env={"PYTHONPATH": f"{TOP}/src", "PYTHONDONTWRITEBYTECODE": "1"})
    assert ended.code == 0, ended
    return ended.stdout


def unpacked(host: Host, name: str) -> list[str]:
    """The directories of an image, the uppermost first."""
    code = ("import json, sys; from dolium.engine import images, layers\n"
            "use = layers.provide(images.find(sys.argv[1])); use.close()\n"
            "print(json.dumps([layers.top_path() + '/' + each for each in reversed(layers.names(use.digest))]))")  # fmt: skip
    return [host_path(host, each) for each in json.loads(python(host, code, name))]


def host_path(host: Host, path: str) -> str:
    """Of what is below the data directory, which is in a mount namespace for root."""
    return path.replace("/var/lib", host.data, 1) if host.data.startswith("/proc") else path


def upper_of(host: Host, name: str) -> str:
    return host_path(host, good(host, "inspect", "--format", "{{.Dolium.Upper}}", name).strip())


def shown(paths: list[str], rootless: bool) -> dict[str, Any]:
    """What a stack of directories shows, the uppermost first."""
    stack = Stack([os.open(each, os.O_RDONLY | os.O_DIRECTORY) for each in paths], rootless=rootless)
    try:
        return {os.fsdecode(each.name): (each.kind, each.mode, each.uid, each.gid, each.mtime, each.size, each.target, each.xattrs,
                                         content and b"".join(content)) for each, content in stack.everything()}  # fmt: skip
    finally:
        stack.close()


@pytest.fixture
def made(host: Host, root_of: str, folder: str) -> str:
    """A container of the image base:1 that has done what WRITES does; where it keeps that."""
    subprocess.run(["tar", "-C", root_of, "-cf", f"{folder}/base.tar", "."], check=True)
    good(host, "import", "-c", 'ENTRYPOINT ["sh"]', "-c", "ENV A=base", "-c", "VOLUME /data", f"{folder}/base.tar", "base:1", env=EPOCH)
    good(host, "run", "--name", "c", "base:1", "-c", WRITES)
    return upper_of(host, "c")


def test_an_image_and_one_layer_more(host: Host, made: str, folder: str) -> None:
    """What the layers of the new image show, unpacked, is what the container shows."""
    base = described(layout(host, folder, "base:1", form="oci-dir"))
    shutil.rmtree(f"{folder}/oci-dir")
    good(host, "commit", "-m", "more", "c", "next:1", env=EPOCH)
    path = layout(host, folder, "next:1")
    manifest, config = described(path)
    assert manifest["layers"][:1] == base[0]["layers"] and len(manifest["layers"]) == len(config["rootfs"]["diff_ids"]) == 2
    assert config["config"]["Env"][-1] == "A=base" and config["config"]["Volumes"] == {"/data": {}}
    assert config["config"]["Entrypoint"] == ["sh"] and config["config"]["Cmd"] == ["-c", WRITES]
    assert config["history"][:1] == base[1]["history"] and config["history"][1]["comment"] == "more"
    with tarfile.open(f"{path}/blobs/{manifest['layers'][1]['digest'].replace(':', '/')}") as layer:
        names = layer.getnames()
    assert {"etc/.wh.motd", "etc/apk/.wh.keys", "root/second", "etc/shells/in"} <= {*names} and "bin/busybox" in names
    assert not [each for each in names if ".wh..wh." in each or each in (".", "etc/resolv.conf", "data") or each.startswith(("usr", "lib", "proc"))]
    before = shown([made, *unpacked(host, "docker.io/library/base:1")], rootless=bool(host.uid))
    after = shown(unpacked(host, "docker.io/library/next:1"), rootless=bool(host.uid))
    for each in ("etc/resolv.conf", "", "data"):
        before.pop(each, None)
        after.pop(each, None)
    if host.uid:  # closed to himself: unpacked so that he can remove it
        assert before.pop("secret")[1] == 0 and after.pop("secret")[1] == 0o700
    assert before.keys() == after.keys()
    assert {name: (before[name], after[name]) for name in before if before[name] != after[name]} == {}


def test_a_second_commit_of_nothing_new(host: Host, made: str) -> None:
    """Of one whose image has lost its name, and then is removed."""
    first = good(host, "commit", "-q", "c", "next:1", env=EPOCH)
    good(host, "import", "-", "base:1", input=archive(entry("x")))
    assert good(host, "commit", "-q", "c", "next:2", env=EPOCH) == first, "the image that it has, not the one of that name"
    python(host, "from dolium.engine import images\nfor each in images.every():\n    if not each.names: images.forget(each.digest)")
    refused = host("commit", "c")
    assert refused.code == 125 and refused.stderr == (
        "error: no image `base:1`\n\nhint: it has been removed; pull or load it again, or `dolium export` the container\n")


NAMES = ("a", "b", "c", "d")


def some_path(choose: random.Random) -> str:
    return "/t/" + "/".join(choose.choice(NAMES) for _ in range(choose.randint(1, 3)))


def some_lines(choose: random.Random, count: int) -> str:
    """What programs do to files: anything that fails changes nothing."""
    kinds = ("mkdir -p {0}", "echo {2} > {0}", "rm -rf {0}", "mv {0} {1}", "ln {0} {1}", "ln -s {1} {0}", "chmod {3} {0}", "rm -rf {0}; mkdir {0}",
             "rm -rf {0}; echo {2} > {0}", "mkfifo {0}-fifo", "chown {2}:7 {0}", "touch -h {0}", "cp -a {0} {1}", "echo {2} >> {0}")  # fmt: skip
    lines = []
    for at in range(count):
        lines.append(choose.choice(kinds).format(some_path(choose), some_path(choose), at, choose.choice(("700", "755", "1777", "4755", "644"))))
    return "\n".join(f"{line} 2>/dev/null" for line in lines) + "\ntrue"


@pytest.mark.parametrize("seed", [3, 4, 5])
def test_whatever_is_done_to_it(host: Host, alpine: str, folder: str, seed: int) -> None:
    """One commit upon the other: what the layers show is what the container shows."""
    choose = random.Random(seed)
    base = f"{folder}/base"
    os.makedirs(f"{base}/t")
    for each in ("bin/busybox", "lib/ld-musl-x86_64.so.1"):
        os.makedirs(os.path.dirname(f"{base}/{each}"), exist_ok=True)
        shutil.copy2(f"{alpine}/{each}", f"{base}/{each}")
    for each in ("sh", "mkdir", "rm", "mv", "ln", "chmod", "mkfifo", "chown", "touch", "cp", "true"):
        os.symlink("busybox", f"{base}/bin/{each}")
    subprocess.run(["sh", "-c", some_lines(choose, 60).replace("/t/", f"{base}/t/").replace(":7 ", ":0 " if host.uid else ":7 ")], check=True)
    subprocess.run(["chown", "-hR", f"{host.uid}:{host.uid}", base] if host.uid else ["true"], check=True)
    subprocess.run(["tar", "-C", base, "-cf", f"{folder}/base.tar", "."], check=True)
    good(host, "import", f"{folder}/base.tar", "base:1")
    for name, source in (("first", "base:1"), ("second", "first:2"), ("third", "second:2")):
        good(host, "run", "--name", name, source, "sh", "-c", some_lines(choose, 60))
        below = unpacked(host, f"docker.io/library/{source}")
        good(host, "commit", "-q", name, f"{name}:2")
        before, after = shown([upper_of(host, name), *below], bool(host.uid)), shown(unpacked(host, f"docker.io/library/{name}:2"), bool(host.uid))
        changed = {line[2:]: line[0] for line in good(host, "diff", name).splitlines()}
        opened = 0o700 if host.uid else 0  # directories are unpacked so that a plain user can remove them
        kept, found = ({path: (each[0], each[1] | opened, *each[2:]) if each[0] == DIRECTORY else each for path, each in what.items()
                        if path.startswith("t/")} for what in (before, after))  # fmt: skip
        assert found == kept
        original = shown(below, bool(host.uid))
        for path in {*original, *before} - {""}:
            if path.startswith("t/"):
                expected = "D" if path not in before else "A" if path not in original else "C" if before[path] != original[path] else None
                if expected == "D":  # or the directory that it was in
                    assert any(changed.get("/" + "/".join(path.split("/")[:at])) in ("D", "C") for at in range(1, 5)), path
                elif expected:
                    assert changed.get(f"/{path}") == expected, path
