"""Containers that are made from images: what is in them is what the layers say, and they run as the image's config says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archives import DIRECTORY, SYMLINK, archive, entry
from containers import TOP, Dolium, Ended
from layouts import Made, descriptor, digest, write_layout
from machine import Machine
from registry_servers import Hostile

from dolium.engine import manifests

STATIC = "/bin/busybox"


def done(ended: Ended) -> str:
    assert (ended.code, ended.stderr) == (0, ""), ended
    return ended.stdout


@pytest.fixture(scope="session")
def shell(workshop: str) -> bytes:
    """A layer with a shell, and the usual directories."""
    if not os.path.exists(STATIC) or b"dynamic" in subprocess.run(["file", "-L", STATIC], capture_output=True).stdout:
        pytest.skip("no static busybox here (apt-get install busybox-static)")
    tools = ("sh", "cat", "ls", "id", "pwd", "env", "stat", "sleep", "touch", "true", "test", "mkdir", "rm", "echo", "grep", "mount")
    with open(STATIC, "rb") as file:
        program = entry("bin/busybox", data=file.read(), mode=0o755)
    passwd = entry("etc/passwd", data=b"root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/var/www:/bin/sh\n")
    return archive(entry("bin", DIRECTORY), entry("etc", DIRECTORY), entry("tmp", DIRECTORY, mode=0o1777), program, passwd,
                   entry("etc/group", data=b"root:x:0:\nweb:x:44:\nextra:x:55:web\n"),
                   *(entry(f"bin/{each}", SYMLINK, target="busybox") for each in tools))  # fmt: skip


@pytest.fixture
def layout(folder: str) -> str:
    return f"{folder}/layout"


def test_the_config_of_an_image(machine: Machine, shell: bytes, layout: str) -> None:
    """Env, Entrypoint, Cmd, User, WorkingDir, Volumes, StopSignal and Labels (image-spec conversion.md); flags have the last word."""
    config = {"Env": ["PATH=/bin", "A=1", "B=two words="], "Entrypoint": ["sh", "-c"], "Cmd": ["echo cmd"], "User": "web", "WorkingDir": "/made/deep",
              "Volumes": {"/data": {}, "/more/data": {}}, "StopSignal": "SIGINT", "Labels": {"org.x": "y", "dolium.control": "z"},
              "ExposedPorts": {"80/tcp": {}}}  # fmt: skip
    write_layout(layout, {"1": Made([shell], config)})
    image = f"oci:{layout}:1"

    def run(*words: str) -> str:
        return done(machine("run", "--network", "none", "--rm", *words))

    assert run(image) == "cmd\n"
    assert run(image, 'echo "$PATH $A $B"; id; pwd') == "/bin 1 two words=\nuid=33(web) gid=44(web) groups=55(extra)\n/made/deep\n"
    assert run("-e", "A=mine", "-u", "0", "-w", "/tmp", image, "echo $A; id -u; pwd") == "mine\n0\n/tmp\n"
    assert run("--entrypoint", "echo", image, "word") == "word\n"
    assert run("--entrypoint", "pwd", image) == "/made/deep\n", "Cmd is the old entrypoint's"
    assert run("--entrypoint=", image, "echo", "word") == "word\n"
    assert run(image, "ls -d /data /more/data").split() == ["/data", "/more/data"]
    identity = done(machine("run", "-d", "--network", "none", "--name", "x", "--label", "org.x=mine", image, "sleep 1000")).strip()
    shown = json.loads(done(machine("inspect", "x")))[0]
    assert shown["Config"]["Labels"] == {"org.x": "mine", "dolium.control": "z"} and shown["Config"]["StopSignal"] in ("SIGINT", 2, "INT")
    assert done(machine("exec", "x", "sh", "-c", "id -un; pwd; echo $A")) == "web\n/made/deep\n1\n"
    assert machine.rows()["x"]["Image"] == image and identity
    done(machine("stop", "-t", "0", "x"))


@pytest.mark.parametrize("config, problem", [
    ({"User": "a b"}, "User: "), ({"WorkingDir": "/a/../b"}, "WorkingDir: "), ({"StopSignal": "SIGNONE"}, "StopSignal: "),
    ({"Volumes": {"/../../etc": {}}}, "Volumes: "), ({"User": "nobody-here", "Cmd": ["true"]}, "no user `nobody-here`"), ({}, "says no program to run"),
])  # fmt: skip
def test_configs_that_cannot_be_meant(config: dict[str, Any], problem: str, machine: Machine, shell: bytes, layout: str) -> None:
    """Volumes with `..`: CVE-2022-23648."""
    write_layout(layout, {"1": Made([shell], {"Env": ["PATH=/bin"], **config})})
    ended = machine("run", "--network", "none", f"oci:{layout}:1", *(["true"] if config else []))
    assert ended.code == 125 and problem in ended.stderr and ended.stdout == "", ended
    assert machine.rows() == {}


def test_every_kind_of_archive(machine: Machine, shell: bytes, folder: str) -> None:
    """A layout, the same in a tar archive, and what `docker save` writes, old and new; each by name and alone."""
    made = Made([shell, archive(entry("hello", data=b"hello"))], {"Env": ["PATH=/bin"], "Cmd": ["cat", "/hello"]})
    write_layout(f"{folder}/layout", {"1": made, "2": Made([shell], {"Env": ["PATH=/bin"], "Cmd": ["echo", "two"]})})
    subprocess.run(["tar", "-C", f"{folder}/layout", "-czf", f"{folder}/layout.tar.gz", "."], check=True)
    for prefix in (f"oci:{folder}/layout", f"oci-archive:{folder}/layout.tar.gz"):
        assert done(machine("run", "--rm", "--network", "none", f"{prefix}:1")) == "hello"
        assert done(machine("run", "--rm", "--network", "none", f"{prefix}:2")) == "two\n"
        ended = machine("run", "--rm", f"{prefix}")
        assert ended.code == 125 and "it has 2 images" in ended.stderr and "there are 1, 2" in ended.stderr, ended
        assert "it has no `3`" in machine("run", "--rm", f"{prefix}:3").stderr
    old = _docker_save(f"{folder}/old.tar", [shell, archive(entry("hello", data=b"hello"))], {"Env": ["PATH=/bin"], "Cmd": ["cat", "/hello"]})
    for name in (old, f"{old}:x/y:1", f"{old}:docker.io/x/y:1"):
        assert done(machine("run", "--rm", "--network", "none", f"docker-archive:{name}")) == "hello"


def _docker_save(path: str, layers: list[bytes], config: dict[str, Any]) -> str:
    """As docker wrote it before 25: layers in directories, one that comes twice as a link."""
    made = Made(layers, config, compress=bytes)
    rows = [{"Config": f"{made.id[7:]}.json", "RepoTags": ["x/y:1"], "Layers": ["a/layer.tar", "b/layer.tar"]}]
    data = archive(entry("a", DIRECTORY), entry("a/VERSION", data=b"1.0"), entry("a/layer.tar", data=layers[0]), entry("c/layer.tar", data=layers[1]),
                   entry("b/layer.tar", SYMLINK, target="../c/layer.tar"), entry(f"{made.id[7:]}.json", data=made.blobs[made.id]),
                   entry("manifest.json", data=json.dumps(rows).encode()), entry("repositories", data=b"{}"))  # fmt: skip
    Path(path).write_bytes(data)
    return path


def test_a_kept_container_outlives_its_image(machine: Machine, shell: bytes, layout: str) -> None:
    """What it wrote is kept beside the image; without the image it starts again, as long as it is remembered."""
    write_layout(layout, {"1": Made([shell, archive(entry("hello", data=b"hello"))], {"Env": ["PATH=/bin"]})})
    assert machine("run", "--network", "none", "--name", "x", f"oci:{layout}:1", "sh", "-c", "cat /hello; echo more >>/hello; rm /etc/group").stdout == "hello"
    for _ in range(2):
        assert done(machine("prune", "--rootfs")) == ""
    done(machine("start", "x"))
    assert machine("run", "--rm", "--network", "none", f"oci:{layout}:1", "sh", "-c", "cat /hello; ls /etc/group").stdout == "hello/etc/group\n"


def test_what_explain_says(machine: Machine, shell: bytes, layout: str) -> None:
    """One line for all layers, also before they are unpacked."""
    layers = [shell, *(archive(entry(f"f{n}")) for n in range(6))]
    write_layout(layout, {"1": Made(layers, {"Env": ["PATH=/bin"], "WorkingDir": "/w"})})
    machine("run", "--rm", "--network", "none", f"oci:{layout}:1", "true")
    name = json.loads((Path(layout) / "index.json").read_text())["manifests"][0]["digest"]
    shown = machine("explain", name, "sh")
    assert shown.code == 0 and "overlay of 7 layers + " in shown.stdout and "mkdir /w" in shown.stdout, shown
    assert shown.stdout.count("overlay") == 1 and "sha256-" not in shown.stdout, shown


@pytest.mark.parametrize("count", [100, 300])
def test_hundreds_of_layers(machine: Machine, shell: bytes, layout: str, count: int) -> None:
    """Mounted, run, kept and started again."""
    layers = [shell, *(archive(entry(f"f{n}", data=b"%d" % n), entry("last", data=b"%d" % n)) for n in range(1, count))]
    write_layout(layout, {"1": Made(layers, {"Env": ["PATH=/bin"]})})
    line = "cat /last; echo; ls / | grep -c '^f'; test -e /kept && echo kept; echo x >/kept; echo y >/f1"
    assert done(machine("run", "--network", "none", "--name", "x", f"oci:{layout}:1", "sh", "-c", line)) == f"{count - 1}\n{count - 1}\n"
    assert done(machine("start", "-a", "x")) == f"{count - 1}\n{count - 1}\nkept\n"


def test_a_place_behind_a_link_that_leads_nowhere(plain: Dolium, shell: bytes, layout: str, folder: str) -> None:
    """A volume there cannot be made, which is nobody's loss; of a working directory it is said.  Of the four errnos that a plain
    user's container goes on with, this is the last."""
    layers = [shell, archive(entry("loop", SYMLINK, target="loop"))]
    write_layout(layout, {"1": Made(layers, {"Env": ["PATH=/bin"], "Volumes": {"/loop/data": {}}})})
    assert plain.output(f"oci:{layout}:1", "echo", "runs", env=_home(folder)) == "runs\n"
    ended = plain("run", "-w", "/loop/x", f"oci:{layout}:1", "true", env=_home(folder))
    assert ended.code == 125 and ended.stderr.startswith("error: cannot chdir /loop/x: "), ended


def test_a_plain_user(plain: Dolium, shell: bytes, layout: str, folder: str) -> None:
    """Whiteouts, opaque directories and users.  What root alone can make is left out, and said."""
    must_keep_attributes(folder)
    layers = [shell, archive(entry("d", DIRECTORY), entry("d/a"), entry("d/b"), entry("e", DIRECTORY), entry("e/x")),
              archive(entry("d/.wh.a"), entry("e", DIRECTORY), entry("e/.wh..wh..opq"), entry("e/y"), entry("h", b"1", target="d/b"))]  # fmt: skip
    write_layout(layout, {"1": Made(layers, {"Env": ["PATH=/bin"], "WorkingDir": "/made"})})
    subprocess.run(["chmod", "-R", "a+rX", layout], check=True)
    assert plain.output(f"oci:{layout}:1", "sh", "-c", "pwd; ls /d /e; test /h -ef /d/b && echo same; rm /d/b; ls /d", env=_home(folder)) \
        == "/made\n/d:\nb\n\n/e:\ny\nsame\n"  # fmt: skip


def must_keep_attributes(path: str) -> None:
    try:
        os.setxattr(path, "user.x", b"")
        os.removexattr(path, "user.x")
    except OSError:
        pytest.skip(f"the file system of {path} keeps no attributes of users (tmpfs before Linux 6.6)")


def _home(folder: str) -> dict[str, str]:
    os.chmod(folder, 0o777)
    return {"HOME": folder}


def test_the_library(root: Dolium, shell: bytes, layout: str) -> None:
    import dolium

    write_layout(layout, {"1": Made([shell], {"Env": ["PATH=/bin", "A=1"], "User": "web", "WorkingDir": "/made", "Entrypoint": ["false"]})})
    name = f"oci:{layout}:1"
    ended = dolium.run(["sh", "-c", "pwd; id -u; echo $A $B"], image=name, env={"B": "2"}, text=True)
    assert (ended.returncode, ended.stdout) == (0, "/made\n33\n1 2\n"), ended
    assert dolium.run(["id", "-u"], image=name, user="0", text=True, cwd="/").stdout == "0\n"
    with dolium.Sandbox(image=name, env={"B": "2"}) as box:
        assert box.run(["sh", "-c", "pwd; id -u; echo $A $B"], text=True).stdout == "/made\n33\n1 2\n"
        assert box.run(["id", "-u"], user="0", text=True).stdout == "0\n"


# ---- out of a registry


@pytest.fixture
def registry(shell: bytes) -> Iterator[Hostile]:
    """One that does nothing wrong."""
    found = Hostile(Made([shell], {"Env": ["PATH=/bin"], "Cmd": ["echo", "one"]}))
    yield found
    found.close()


def test_what_is_missing_is_pulled(registry: Hostile, machine: Machine, shell: bytes) -> None:
    name = f"{registry.name}/image"

    def run(*words: str) -> Ended:
        return machine("run", "--rm", "--network", "none", *words, name)

    ended = run("--pull", "never")
    assert ended.code == 125 and f"no image `{name}`" in ended.stderr and f"dolium pull {name}" in ended.stderr and not registry.seen, ended
    assert run().stdout == "one\n"
    asked = len(registry.seen)
    assert asked and done(run()) == "one\n" and done(run("--pull=never")) == "one\n" and len(registry.seen) == asked, "it is here"
    again = Made([shell], {"Env": ["PATH=/bin"], "Cmd": ["echo", "two"]})
    registry.blobs |= again.blobs
    registry.tags["latest"] = again.digest
    assert done(run("--pull", "missing")) == "one\n" and len(registry.seen) == asked
    assert run("--pull", "always").stdout == "two\n" and len(registry.seen) > asked
    assert "--pull: " in machine("run", "--pull", "often", name).stderr


def test_a_pulled_image_is_limited(registry: Hostile, machine: Machine) -> None:
    ended = machine("run", "--rm", "--network", "none", "--memory", "32m", f"{registry.name}/image", "sh", "-c", "a=x; while :; do a=$a$a; done")
    assert ended.code == 137 and "killed: memory limit of 32 MiB" in ended.stderr, ended


def test_the_image_for_another_machine(registry: Hostile, machine: Machine, shell: bytes) -> None:
    """That its programs run here all the same is because they are this machine's."""
    made = {each: Made([shell], {"Env": ["PATH=/bin", f"MACHINE={each}"]}, architecture=each) for each in ("amd64", "arm64")}
    listed = [descriptor(one.manifest, manifests.OCI_MANIFEST, platform={"os": "linux", "architecture": each}) for each, one in made.items()]
    index = json.dumps({"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": listed}).encode()
    registry.blobs |= {digest(index): index, **made["amd64"].blobs, **made["arm64"].blobs}
    registry.tags["latest"] = digest(index)

    def run(*words: str) -> str:
        ended = machine("run", "--rm", "--network", "none", *words, f"{registry.name}/image", "sh", "-c", "echo $MACHINE")
        assert ended.code == 0, ended
        return ended.stdout

    here = str(manifests.this_platform()).split("/")[1]
    assert run() == f"{here}\n"
    for each in ("arm64", "amd64"):
        assert run("--platform", f"linux/{each}") == f"{each}\n"
    ended = machine("run", "--platform", "linux/s390x", f"{registry.name}/image", "true")
    assert ended.code == 125 and "nothing for linux/s390x" in ended.stderr and "it is for linux/amd64, linux/arm64" in ended.stderr, ended
    ended = machine("run", "--platform", "linux/s390x", "--pull", "never", f"{registry.name}/image", "true")
    assert ended.code == 125 and "not linux/s390x" in ended.stderr, ended


OLD_KERNEL = """
import sys
sys.path.insert(0, {source!r})
from dolium.runtime import host
host.facts().kernel = (6, 1)
import dolium
print(dolium.run(["sh", "-c", "cat /last; echo; ls / | grep -c '^f'"], image={image!r}, text=True).stdout)
with dolium.Sandbox(image={image!r}) as box:
    print(box.run(["cat", "/last"], text=True).stdout)
"""


@pytest.mark.parametrize("count", [3, 70, 106, 107])
def test_layers_where_the_kernel_takes_one_line(machine: Machine, shell: bytes, layout: str, count: int) -> None:
    """Linux before 6.5, played by a fact: by short names up to 106, more are refused before anything is made."""
    layers = [shell, *(archive(entry(f"f{n}"), entry("last", data=b"%d" % n)) for n in range(1, count))]
    write_layout(layout, {"1": Made(layers, {"Env": ["PATH=/bin"]})})
    code = OLD_KERNEL.format(source=f"{TOP}/src", image=f"oci:{layout}:1")
    ended = subprocess.run([*machine.enter, sys.executable, "-c", code], capture_output=True, text=True)
    if count == 107:
        assert ended.returncode and "an image of 107 layers" in ended.stderr, ended
    else:
        assert (ended.returncode, ended.stdout.split()) == (0, [str(count - 1)] * 3), ended
