"""`dolium commit`, `import` and `save`: what they make is what others read, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import pty
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


# ---- import and save


def test_an_archive_becomes_an_image(host: Host, folder: str) -> None:
    data = archive(entry("bin/", tarfile.DIRTYPE), entry("bin/x", data=b"program" * 1000, mode=0o4755, uid=7))
    ended = host("import", "-c", "ENTRYPOINT /bin/x", "-m", "by hand", "--platform", "linux/arm64/v8", "-", "x:1", input=data, env=EPOCH)
    assert ended.code == 0 and ended.stderr == "", ended
    for kind, packed in (("tar", data), ("tar.gz", subprocess.run(["gzip"], input=data, capture_output=True).stdout)):
        with open(f"{folder}/y.{kind}", "wb") as file:
            file.write(packed)
        assert good(host, "import", "--change", "ENTRYPOINT /bin/x", "--message", "by hand", "--platform", "linux/arm64/v8",
                    f"{folder}/y.{kind}", env=EPOCH) == ended.stdout, "the same, however it comes"  # fmt: skip
    manifest, config = described(layout(host, folder, "x:1"))
    assert (config["architecture"], config["variant"], config["os"]) == ("arm64", "v8", "linux")
    assert config["config"] == {"Entrypoint": ["/bin/sh", "-c", "/bin/x"]} and config["history"][0]["comment"] == "by hand"
    with tarfile.open(f"{folder}/oci-dir/blobs/{manifest['layers'][0]['digest'].replace(':', '/')}") as layer:
        assert layer.getmember("bin/x").mode == 0o4755 and layer.getmember("bin/x").uid == 7


@pytest.mark.parametrize(("data", "problem"), [
    (b"", "it is empty"), (b"x" * 2000, "it is no tar archive"), (archive(entry("a"))[:-1024], "it is cut short"), (bytes(1024), "the archive is empty"),
    (archive(entry("a/../../b")), "`..` would lead out of the rootfs"),
])  # fmt: skip
def test_what_is_no_archive_makes_no_image(host: Host, data: bytes, problem: str) -> None:
    refused = host("import", "-", "x:1", input=data)
    assert refused.code == 125 and problem in refused.stderr.splitlines()[0], refused
    assert blobs_of(host) == 0 and left(host) == []


def test_addresses_and_nothing_are_not_imported(dolium: Dolium, folder: str) -> None:
    refused = dolium("import", "https://x.example/y.tar")
    assert refused.code == 125 and refused.stderr.endswith("hint: curl -L https://x.example/y.tar | dolium import - NAME\n")
    refused = dolium("import", f"{folder}/none.tar")
    assert refused.code == 125 and refused.stderr == f"error: cannot import `{folder}/none.tar`: No such file or directory\n"


def test_shared_blobs_are_saved_once(host: Host, folder: str) -> None:
    data = archive(entry("x", data=os.urandom(100_000)))
    for name in ("x:1", "y:2"):
        good(host, "import", "-m", name, "-", name, input=data)
    ended = host("save", "x:1", "y:2", "x:1")
    with tarfile.open(fileobj=io.BytesIO(ended.out)) as saved:
        names = saved.getnames()
        assert len(names) == len({*names}) and len([each for each in saved.getmembers() if each.size > 90_000]) == 1
        file = saved.extractfile("manifest.json")
        assert file and [each["RepoTags"] for each in json.load(file)] == [["docker.io/library/x:1"], ["docker.io/library/y:2"]]
    assert len(ended.out) < 150_000


def test_where_it_is_saved(host: Host, folder: str) -> None:
    """To standard output, by whatever name; `-o` of a pipe is no file that is not there."""
    good(host, "import", "-", "x:1", input=archive(entry("x")))
    whole = host("save", "x:1").out
    assert whole
    for path in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"):
        ended = host("save", "-o", path, "x:1", cwd=folder)
        assert (ended.code, ended.out, ended.stderr) == (0, whole, ""), path
    os.mkfifo(f"{folder}/fifo", 0o666)
    os.chmod(f"{folder}/fifo", 0o666)
    with subprocess.Popen(["cat", f"{folder}/fifo"], stdout=subprocess.PIPE) as reader:
        good(host, "save", "-o", f"{folder}/fifo", "x:1")
        assert reader.communicate()[0] == whole
    good(host, "save", "-o", f"{folder}/file", "x:1")
    with open(f"{folder}/file", "rb") as file:
        assert file.read() == whole
    assert "-" not in os.listdir(folder)
    master, terminal = pty.openpty()
    ended = host("save", "-o", "-", "x:1", stdout=terminal)
    os.close(terminal)
    os.close(master)
    assert ended.code == 125 and ended.stderr.startswith("error: an archive is not written to a terminal"), ended


def test_save_refuses(host: Host, folder: str) -> None:
    good(host, "import", "-", "x:1", input=archive(entry("x")))
    for words, problem in (
        (("--format", "oci-dir", "x:1"), "--format oci-dir needs a directory to write"),
        (("--format", "oci-dir", "-o", "-", "x:1"), "--format oci-dir needs a directory to write"), (("--format", "zip", "x:1"), "--format: no format `zip`"),
        (("gone:1",), "no image `"), (("--format", "oci-dir", "-o", "/proc", "x:1"), "cannot write `/proc`: there is something already"),
    ):  # fmt: skip
        refused = host("save", "-q", *words)
        assert refused.code == 125 and refused.out == b"" and refused.stderr.startswith(f"error: {problem}"), refused


def test_killed_at_any_moment(host: Host, root_of: str, folder: str) -> None:
    """Nothing is half there, and the next command works."""
    good(host, "run", "--name", "c", root_of, "sh", "-c", "head -c 8000000 /dev/urandom > /big")
    good(host, "export", "-o", f"{folder}/x.tar", "c")
    good(host, "commit", "c", "whole:1")
    before = blobs_of(host)
    for words in (("commit", "c", "half:1"), ("import", f"{folder}/x.tar", "half:1")):
        for wait in (0.1, 0.3, 0.5):
            with host.start(*words, env=EPOCH) as process:
                time.sleep(wait)
                process.kill()
                process.wait()
            assert left(host) == []
        assert host("save", "-o", "/dev/null", "whole:1").code == 0
        good(host, *words, env=EPOCH)
        assert host("save", "-o", "/dev/null", "half:1").code == 0
    assert blobs_of(host) <= before + 5
    for form in ("docker-archive", "oci-dir"):
        for wait in (0.1, 0.2):
            with host.start("save", "--format", form, "-o", f"{folder}/saved", "half:1") as process:
                time.sleep(wait)
                process.kill()
                process.wait()
            if os.path.isdir(f"{folder}/saved"):
                assert os.path.exists(f"{folder}/saved/oci-layout")
                shutil.rmtree(f"{folder}/saved")
            elif os.path.exists(f"{folder}/saved"):
                assert tarfile.is_tarfile(f"{folder}/saved")
                os.unlink(f"{folder}/saved")
            for each in os.listdir(folder):
                if each.startswith(".saved."):  # a directory has a name while it is filled; it says that it is none
                    shutil.rmtree(f"{folder}/{each}")


# ---- other people's programs


def needs(*programs: str) -> None:
    for each in programs:
        if not shutil.which(each):
            pytest.skip(f"no {each} here")


def test_skopeo_reads_it(host: Host, root_of: str, folder: str) -> None:
    needs("skopeo")
    good(host, "run", "--name", "c", root_of, "sh", "-c", WRITES)
    image = good(host, "commit", "-q", "c", "my/app:1").strip()
    good(host, "save", "-o", f"{folder}/d.tar", "my/app:1")
    layout(host, folder, "my/app:1")
    layout(host, folder, "my/app:1", form="oci-archive")
    for at, source in enumerate((f"docker-archive:{folder}/d.tar:my/app:1", f"oci:{folder}/oci-dir:1", f"oci-archive:{folder}/oci-archive")):
        subprocess.run(["skopeo", "inspect", source], check=True, capture_output=True)
        subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", source, f"dir:{folder}/copy{at}"], check=True)
        assert image.partition(":")[2] in os.listdir(f"{folder}/copy{at}"), "the config is the same byte for byte"


@pytest.mark.needs_root
def test_podman_loads_and_runs_it(host: Host, root_of: str, folder: str) -> None:
    if host.uid:
        pytest.skip("podman is root's here")
    needs("podman")
    good(host, "run", "--name", "c", root_of, "sh", "-c", WRITES)
    image = good(host, "commit", "-q", "c", "my/app:1").strip().partition(":")[2]
    good(host, "import", "-", "other:2", input=archive(entry("x")))
    podman = ["podman", "--root", f"{folder}/store", "--runroot", f"{folder}/run", "--storage-driver", "vfs"]
    try:
        good(host, "save", "-o", f"{folder}/d.tar", "my/app:1", "other:2")
        layout(host, folder, "my/app:1", form="oci-archive")
        for each in ("d.tar", "oci-archive"):
            subprocess.run([*podman, "load", "-q", "-i", f"{folder}/{each}"], check=True, capture_output=True)
            found = subprocess.run([*podman, "images", "-q", "--no-trunc", "docker.io/my/app:1"], check=True, capture_output=True, text=True)
            assert found.stdout.strip() == f"sha256:{image}"
        mounted = subprocess.run([*podman, "image", "mount", "my/app:1"], check=True, capture_output=True, text=True).stdout.strip()
        with tarfile.open(fileobj=io.BytesIO(host("export", "c").out)) as exported:
            _must_be_in(mounted, exported)
    finally:
        subprocess.run([*podman, "image", "umount", "-a"], capture_output=True)
        subprocess.run(["rm", "-rf", f"{folder}/store", f"{folder}/run"], check=True)


def test_umoci_unpacks_it(host: Host, root_of: str, folder: str) -> None:
    needs("umoci")
    if host.uid:
        pytest.skip("owners are root's to give")
    good(host, "run", "--name", "c", root_of, "sh", "-c", WRITES)
    good(host, "commit", "-q", "c", "my/app:1")
    path = layout(host, folder, "my/app:1")
    subprocess.run(["umoci", "unpack", "--image", f"{path}:1", f"{folder}/bundle"], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(host("export", "c").out)) as exported:
        _must_be_in(f"{folder}/bundle/rootfs", exported)


def _must_be_in(top: str, exported: tarfile.TarFile, but: tuple[str, ...] = ()) -> None:
    """Every entry of an archive is below a directory, as it is, and nothing else."""
    for name, (_, mode, uid, gid, mtime, size, target, _, content) in everything(exported).items():
        if name in but:
            continue
        path = f"{top}/{name}"
        status = os.lstat(path)
        member = exported.getmember(name)
        if name != ".":
            assert (status.st_uid, status.st_gid) == (uid, gid), name
            if not member.issym():
                assert status.st_mode & 0o7777 == mode, name
        if member.isreg():
            with open(path, "rb") as file:
                assert file.read() == content, name
            assert abs(status.st_mtime - mtime) < 1 and status.st_size == size, name
        elif member.islnk():
            assert os.path.samefile(path, f"{top}/{target}"), name
        elif member.issym():
            assert os.readlink(path) == target, name
    found = {os.path.relpath(f"{directory}/{each}", top) for directory, names, files in os.walk(top) for each in (*names, *files)}
    assert found == {each for each in exported.getnames() if each != "." and each not in but}


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


def test_others_unpack_it_alike(host: Host, made: str, folder: str) -> None:
    needs("umoci")
    if host.uid:
        pytest.skip("owners are root's to give")
    good(host, "commit", "-q", "c", "next:1")
    subprocess.run(["umoci", "unpack", "--image", f"{layout(host, folder, 'next:1')}:1", f"{folder}/bundle"], check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(host("export", "c").out)) as exported:
        _must_be_in(f"{folder}/bundle/rootfs", exported, but=("etc/resolv.conf", "data"))  # a volume is of no layer


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


def test_saved_loaded_and_run(host: Host, made: str, folder: str) -> None:
    """All the way round, through each format: the container of what was loaded shows the same, and does what the config says."""
    good(host, "cp", f"{folder}/base.tar", "c:/tmp/in")
    good(host, "cp", "c:/tmp/in", f"{folder}/out")
    assert os.path.getsize(f"{folder}/out") == os.path.getsize(f"{folder}/base.tar")
    before = host("export", "c").out
    good(host, "commit", "-q", "-c", 'CMD ["-c", "cat /root/new; echo $A"]', "c", "next:1")
    for form in ("docker-archive", "oci-archive", "oci-dir"):
        good(host, "save", "--format", form, "-o", f"{folder}/saved", "next:1")
        good(host, "rmi", "-f", "next:1")
        source = f"oci:{folder}/saved:1" if form == "oci-dir" else "next:1"
        if form != "oci-dir":
            good(host, "load", "-i", f"{folder}/saved")
        assert good(host, "run", "--name", "again", source) == "new\nbase\n", form
        found, wanted = (everything(tarfile.open(fileobj=io.BytesIO(each))) for each in (host("export", "again").out, before))  # noqa: SIM115
        for each in (".", "data", "secret" if host.uid else "data", "etc/resolv.conf", "etc"):
            found.pop(each, None)
            wanted.pop(each, None)
        assert found == wanted, form
        good(host, "rm", "again")
        good(host, "commit", "-q", "-c", 'CMD ["-c", "cat /root/new; echo $A"]', "c", "next:1")
        subprocess.run(["rm", "-r", f"{folder}/saved"], check=True)


DOCKERD = """
mount -t tmpfs none /run && ip link set lo up
dockerd --data-root "$1/docker" --exec-root /run/docker -H unix:///run/docker.sock --iptables=false --ip6tables=false --bridge=none -s vfs \\
    --pidfile /run/docker.pid >"$1/dockerd.log" 2>&1 &
for at in $(seq 300); do docker version >/dev/null 2>&1 && break; sleep 0.2; done
docker load -q -i "$1/saved.tar" && docker inspect --format '{{.Id}}' my/app:1 other:2 &&
docker create --name made my/app:1 >/dev/null && docker export -o "$1/docker.tar" made &&
docker import "$1/exported.tar" again:1 >/dev/null && docker create --name remade again:1 x >/dev/null && docker export -o "$1/again.tar" remade
code=$?
kill $(cat /run/docker.pid)
wait
exit $code
"""


@pytest.mark.needs_root
def test_docker_loads_it(host: Host, made: str, folder: str) -> None:
    """In namespaces of its own, with a daemon that ends with them."""
    if host.uid:
        pytest.skip("docker is root's")
    needs("dockerd", "docker", "containerd", "unshare", "ip")
    image = good(host, "commit", "-q", "c", "my/app:1").strip()
    other = good(host, "import", "-", "other:2", input=archive(entry("x"))).strip()
    good(host, "save", "-o", f"{folder}/saved.tar", "my/app:1", "other:2")
    good(host, "export", "-o", f"{folder}/exported.tar", "c")
    words = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    done = subprocess.run([*words, "sh", "-c", DOCKERD, "sh", folder], capture_output=True, text=True, timeout=200,
                          env={**os.environ, "DOCKER_HOST": "unix:///run/docker.sock"})  # fmt: skip
    subprocess.run(["rm", "-rf", f"{folder}/docker"], check=True)
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[-2:] == [image, other]
    with tarfile.open(f"{folder}/exported.tar") as ours:
        wanted = everything(ours)
    for name in ("docker.tar", "again.tar"):
        with tarfile.open(f"{folder}/{name}") as theirs:
            found = everything(theirs)
        for path, each in wanted.items():
            if path in (".", "etc/hosts", "etc/hostname", "etc/resolv.conf", "etc/mtab", "dev", "etc", "proc", "sys", "data"):
                continue  # docker puts its own there
            other_kind, mode, *_, content = found[path]
            assert (mode & 0o7777, *found[path][2:4], found[path][6]) == (*each[1:4], each[6]), path
            assert other_kind == (tarfile.REGTYPE if each[0] == tarfile.GNUTYPE_SPARSE else each[0]) and content == each[-1], path
