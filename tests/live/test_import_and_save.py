"""`dolium import` and `save`: images of archives, and archives of images, whole or not at all."""

from __future__ import annotations

import io
import json
import os
import pty
import shutil
import subprocess
import tarfile
import time

import pytest
from archives import archive, entry
from containers import Dolium
from test_commit import EPOCH, blobs_of, described, good, host, layout, left, made, root_of
from test_export import everything
from test_tarballs import Host

__all__ = ["host", "made", "root_of"]


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
