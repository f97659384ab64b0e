"""`dolium images` and its kin, on images that others have made and for others to read."""

from __future__ import annotations

import json
import os
import subprocess

import pytest
from archives import DIRECTORY, HARDLINK, archive, entry, pax
from containers import Ended
from layouts import Made, layer, write_layout
from machine import Machine

from dolium.cli import images

BASE = layer("base")
ONE = Made([BASE, layer("one")], {"Cmd": ["/bin/one"], "Labels": {"kind": "test"}, "Env": ["A=1"], "Volumes": {"/v": {}}})
TWO = Made([BASE, layer("two")], {"Cmd": ["/bin/two"]}, created="2023-11-15T00:13:21.5+02:00")
"""A second after ONE, by a clock two hours ahead."""


def done(ended: Ended) -> str:
    assert (ended.code, ended.stderr) == (0, ""), ended
    return ended.stdout


def fails(ended: Ended, code: int = 125) -> str:
    assert ended.code == code and ended.stderr.startswith("error: ") and "Traceback" not in ended.stderr, ended
    return ended.stderr


@pytest.fixture
def place(machine: Machine, folder: str) -> Machine:
    """Two images in the store, out of archives: by a pipe, and by name and compressed."""
    for name, made in (("one", ONE), ("two", TWO)):
        layout = write_layout(f"{folder}/{name}", {f"docker.io/library/{name}:1": made})
        subprocess.run(["tar", "-C", layout, "-cf", f"{folder}/{name}.tar", "."], check=True)
    with open(f"{folder}/one.tar", "rb") as file:
        assert done(machine("load", stdin=file)) == "Loaded image: one:1\n"
    subprocess.run(["gzip", f"{folder}/two.tar"], check=True)
    assert done(machine("load", "-i", f"{folder}/two.tar.gz")) == "Loaded image: two:1\n"
    return machine


def rows(machine: Machine, *words: str) -> dict[str, dict[str, str]]:
    return {f"{row['Repository']}:{row['Tag']}": row for row in map(json.loads, done(machine("images", "--format", "json", *words)).splitlines())}


def test_the_list(place: Machine) -> None:
    lines = done(place("images")).splitlines()
    assert lines[0].split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"] and len(lines) == 3
    assert lines[2].split()[:3] == ["one", "1", ONE.id[7:19]] and "years ago" in lines[2]
    assert done(place("images", "-q")).split() == [TWO.id[7:19], ONE.id[7:19]] == done(place("image", "ls", "-q")).split()
    assert done(place("images", "-q", "--no-trunc", "one")) == f"{ONE.id}\n"
    assert ONE.digest in done(place("images", "--digests", "one")) and "DIGEST" in done(place("images", "--digests"))
    assert done(place("images", "--format", "{{.Repository}}={{.Tag}}")) == "two=1\none=1\n"
    found = rows(place)
    assert {*found} == {"one:1", "two:1"} and found["one:1"]["Digest"] == ONE.digest and found["one:1"]["Containers"] == "0"
    for words, left in ((["one"], {"one:1"}), (["o*"], {"one:1"}), (["docker.io/library/two"], {"two:1"}), (["none"], set()),
                        (["-f", "label=kind=test"], {"one:1"}), (["-f", "label=kind=x"], set()), (["-f", "dangling=true"], set()),
                        (["-f", "reference=*:1", "-f", "label=kind"], {"one:1"}), (["-a"], {"one:1", "two:1"}),
                        (["-f", "since=one:1"], {"two:1"}), (["-f", f"before={TWO.id[7:19]}"], {"one:1"}), (["-f", "before=one:1"], set())):  # fmt: skip
        assert {*rows(place, *words)} == left, words
    for bad in ("size=3", "dangling", "dangling=x"):
        assert "no filter" in fails(place("images", "-f", bad))
    assert "no image `gone`" in fails(place("images", "-f", "since=gone"))
    assert [place("image", "exists", each).code for each in ("one:1", ONE.id[7:19], "gone", "one:2")] == [0, 0, 1, 1]


def test_names(place: Machine) -> None:
    """A name more, and away again; the image goes with its last one, and what both have stays."""
    done(place("tag", "one:1", "other", "localhost:5000/x/y:z"))
    assert {*rows(place)} == {"one:1", "two:1", "other:latest", "localhost:5000/x/y:z"}
    assert done(place("rmi", "other")) == "Untagged: docker.io/library/other:latest\n"
    assert "known by 2 names" in fails(place("rmi", ONE.id[7:19]), 1)
    assert done(place("tag", ONE.id[7:19], "two:1")) == "" and {*rows(place)} == {"one:1", "two:1", "localhost:5000/x/y:z", "<none>:<none>"}
    assert {*rows(place, "-f", "dangling=true")} == {"<none>:<none>"}
    ended = place("image", "prune")
    assert ended.stdout == f"Deleted: {TWO.id}\n" and "freed" in ended.stderr, ended
    ended = place("rmi", "-f", ONE.id[7:19], "none:1")
    assert ended.code == 0 and ended.stdout.count("Untagged: ") == 3 and f"Deleted: {ONE.id}\n" in ended.stdout, ended
    assert rows(place) == {} and not os.listdir(f"{place.root}/var/lib/dolium/images/blobs/sha256")
    assert "no image `one:1`" in fails(place("rmi", "one:1"), 1) and done(place("rmi", "-f", "one:1")) == ""
    for bad in ("UPPER", "x@sha256:" + "0" * 64, "oci:x"):
        assert fails(place("tag", "two:1", bad))


def test_what_a_container_needs(place: Machine) -> None:
    """Its image is not removed; by force its name is, and the container starts all the same."""
    ended = place("run", "--network", "none", "--name", "x", "one:1", "x")
    assert ended.code == 127, ended
    ended = place("run", "-d", "--network", "none", "--name", "x", "-v", "/bin:/bin:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "-v", "/usr:/usr:ro",
                  "one:1", "sleep", "1000")  # fmt: skip
    assert ended.code == 0, ended
    assert rows(place)["one:1"]["Containers"] == "1" and json.loads(done(place("image", "inspect", "one:1")))[0]["Dolium"]["Containers"] == ["x"]
    said = fails(place("rmi", "one:1"), 1)
    assert "image `one:1` is what container x was made from, not removed" in said and "dolium rm x" in said
    assert done(place("rmi", "-f", "one:1")) == "Untagged: docker.io/library/one:1\n" and "<none>:<none>" in rows(place)
    for words in (("image", "prune", "-a"), ("prune", "--rootfs")):
        assert place(*words).code == 0
    assert "<none>:<none>" in rows(place) and "two:1" not in rows(place)
    done(place("stop", "-t", "0", "x"))
    done(place("start", "x"))
    assert place("exec", "x", "/usr/bin/test", "-e", "/one").code == 0
    done(place("rm", "-f", "x"))
    ended = place("prune")
    assert ended.code == 0 and f"Deleted: {ONE.id}\n" in ended.stdout and rows(place) == {}, ended
    assert os.listdir(f"{place.root}/var/lib/dolium/layers") == ["stacks"]


def test_inspect_and_history(place: Machine) -> None:
    found = json.loads(done(place("image", "inspect", "one:1")))[0]
    assert found["Id"] == ONE.id and found["RepoTags"] == ["one:1"] and found["RepoDigests"] == [f"one@{ONE.digest}"]
    assert found["Config"]["Cmd"] == ["/bin/one"] and found["Config"]["Volumes"] == {"/v": {}} and found["Architecture"] == "amd64"
    assert len(found["RootFS"]["Layers"]) == 2 and found["Dolium"]["Unpacked"] is False
    assert done(place("image", "inspect", "-f", "{{.Config.Labels.kind}}", "one:1")) == "test\n"
    ended = place("image", "inspect", "one:1", "none:1")
    assert ended.code == 1 and len(json.loads(ended.stdout)) == 1 and "no image `none:1`" in ended.stderr
    lines = done(place("history", "one:1")).splitlines()
    assert lines[0].split()[:2] == ["IMAGE", "CREATED"] and ["layer 1" in lines[1], "layer 0" in lines[2]] == [True, True] and len(lines) == 3
    assert done(place("history", "-q", "one:1")) == f"{ONE.id[7:19]}\n<missing>\n"
    assert [*json.loads(done(place("images", "--format", "{{json .}}", "one")))] == [*images.FIELDS]
    assert [*json.loads(done(place("history", "--format", "{{json .}}", "one:1")).splitlines()[0])] == [*images.EVENT_FIELDS]
    assert [json.loads(line)["CreatedBy"] for line in done(place("history", "--no-trunc", "--format", "json", "one:1")).splitlines()] == ["layer 1", "layer 0"]


def test_others_read_what_was_loaded(place: Machine, folder: str) -> None:
    """skopeo, of what `dolium save` writes; and dolium again, of what skopeo makes of it."""
    if subprocess.run(["sh", "-c", "command -v skopeo"], capture_output=True).returncode:
        pytest.skip("no skopeo here (apt-get install skopeo)")
    with open(f"{folder}/saved.tar", "wb") as file:
        assert place("save", "one:1", stdout=file).code == 0
    subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{folder}/saved.tar", f"docker-archive:{folder}/old.tar:app:7"], check=True)
    subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{folder}/saved.tar", f"oci-archive:{folder}/new.tar:app:8"], check=True)
    assert done(place("load", "-i", f"{folder}/old.tar")) == "Loaded image: app:7\n"
    ended = place("load", "-i", f"{folder}/new.tar")
    assert ended.code == 0 and ended.stdout.startswith("Loaded image"), ended
    assert rows(place, "app:7")["app:7"]["ID"] == ONE.id, "the config is the same"


@pytest.mark.parametrize("data, problem", [
    (b"rubbish" * 200, "no tar archive"), (archive(entry("etc/passwd", data=b"x")), "neither index.json nor manifest.json"),
    (archive(entry("manifest.json", data=b"{}")), "is no list of images"), (archive(entry("manifest.json", data=b"[{}]")), "without config"),
    (archive(entry("manifest.json", data=b'[{"Config": "c", "Layers": ["l"], "RepoTags": null}]')), "`c` is missing"),
    (archive(entry("manifest.json", data=b'[{"Config": "../../etc/passwd", "Layers": [], "RepoTags": []}]')), "is missing in it"),
    (archive(entry("manifest.json", data=b'[{"Config": "c", "Layers": [], "RepoTags": ["UP"]}]')), "lower case"),
    (archive(entry("index.json", data=b"{}")), "does not say that its version is 1.0.0"),
    (archive(entry("blobs/sha256/" + "a" * 64, data=b"other")), "has the digest"),
    (archive(entry("c", HARDLINK, target="c"), entry("manifest.json", data=b'[{"Config": "c", "Layers": []}]')), "is missing in it"),
])  # fmt: skip
def test_archives_that_are_no_images(machine: Machine, folder: str, data: bytes, problem: str) -> None:
    with open(f"{folder}/x.tar", "wb") as file:
        file.write(data)
    assert problem in fails(machine("load", "-i", f"{folder}/x.tar"))
    assert done(machine("images", "-q")) == ""
    assert machine("prune").code == 0 and not os.listdir(f"{machine.root}/var/lib/dolium/images/blobs/sha256"), "nothing of it is left"


def test_a_disk_without_attributes(machine: Machine, folder: str) -> None:
    """What an image has is never left out in silence: ramfs has none, as tmpfs before Linux 6.6."""
    machine.sh("mount -t ramfs -o mode=700 none /var/lib/dolium")
    made = Made([archive(pax(SCHILY__xattr__user__note="x"), entry("noted"))], {"Cmd": ["x"]})
    done(machine("load", "-i", write_layout(f"{folder}/layout", {"docker.io/library/noted:1": made})))
    said = fails(machine("run", "--network", "none", "noted:1"))
    assert "`noted`: Operation not supported\n\nhint: the file system that it is unpacked to keeps no extended attributes" in said, said


def test_verify(place: Machine) -> None:
    """Blobs and what was unpacked, entry by entry."""
    made = Made([archive(entry("d", DIRECTORY), *(entry(f"d/{name}", data=b"as it was") for name in "abcdefg"), entry("e"))])
    layout = write_layout(f"{place.root}/run/layout", {"docker.io/library/three:1": made})
    subprocess.run(["tar", "-C", layout, "-cf", f"{place.root}/run/three.tar", "."], check=True)
    done(place("load", "-i", "/run/three.tar"))
    assert place("run", "--rm", "--network", "none", "three:1", "/none").code == 127
    assert done(place("image", "verify")) == "docker.io/library/three:1: as it was published\n" + "".join(
        f"docker.io/library/{each}:1: as it was published\n" for each in ("two", "one"))  # fmt: skip
    (tree,) = json.loads(done(place("image", "inspect", "three:1")))[0]["Dolium"]["Trees"]
    top = f"{place.root}{tree}/d"
    with open(f"{top}/a", "r+b") as file:
        file.write(b"AS")
    os.unlink(f"{top}/b")
    os.chmod(f"{top}/c", 0o600)
    os.chown(f"{top}/d", 5, 5)
    os.truncate(f"{top}/e", 3)
    os.unlink(f"{top}/f")
    os.symlink("g", f"{top}/f")
    os.setxattr(f"{top}/g", "user.x", b"y")
    with open(f"{top}/new", "w"):
        pass
    ended = place("image", "verify", "three:1")
    wanted = ["a: another content", "b is missing", "c: another mode", "d: another owner", "e: another size", "f: another kind", "g: another attribute",
              "new is in no layer"]  # fmt: skip
    assert ended.code == 1 and [line.partition("/d/")[2] for line in ended.stderr.splitlines()] == wanted, ended
    blob = f"{place.root}/var/lib/dolium/images/blobs/sha256/{json.loads(made.manifest)['layers'][0]['digest'][7:]}"
    with open(blob, "r+b") as file:
        file.seek(40)
        file.write(b"\0\0\0\0")
    ended = place("image", "verify", "three:1", "one:1")
    assert ended.code == 1 and "layer " in ended.stderr and ended.stdout == "docker.io/library/one:1: as it was published\n", ended
    assert sorted(os.listdir(f"{place.root}/var/lib/dolium/layers"))[-1] == "stacks", "nothing of the comparison is left"


def test_words_that_are_wrong(machine: Machine) -> None:
    assert "no `lst`" in fails(machine("image", "lst")) and "did you mean `ls` or `list`?" in fails(machine("image", "lst"))
    assert "needs" in fails(machine("image")) and "needs" in fails(machine("rmi")) and "needs" in fails(machine("tag", "x"))
    assert "error: " in fails(machine("load", "-i", "/nowhere"))
    assert "--platform" in fails(machine("load", "--platform", "a/b/c/d", "-i", "/nowhere"))


def test_a_layout_is_loaded_as_it_lies(machine: Machine, folder: str) -> None:
    layout = write_layout(f"{folder}/layout", {"docker.io/library/one:1": ONE, "docker.io/library/two:1": TWO})
    assert done(machine("load", "-i", layout)) == "Loaded image: one:1\nLoaded image: two:1\n"
    assert {*rows(machine)} == {"one:1", "two:1"}
    os.mkdir(f"{folder}/none")
    said = fails(machine("load", "-i", f"{folder}/none/"))
    assert said.startswith("error: cannot load `none`: it is a directory without index.json") and "dolium run ./DIR" in said
    assert f"tar -C {folder}/none -c . | dolium import - NAME" in fails(machine("import", f"{folder}/none", "x"))


def test_a_layout_that_is_run_again_is_stored_once(machine: Machine, folder: str) -> None:
    layout = write_layout(f"{folder}/layout", {"x": ONE})
    for _ in range(2):
        assert "127" in str(machine("run", "--network", "none", f"oci:{layout}:x").code)
        assert len(done(machine("images", "-q")).split()) == 1


def test_inspect_knows_images_too(place: Machine) -> None:
    """A container of that name comes first, as with docker."""
    ended = place("run", "-d", "--network", "none", "--name", "one", "-v", "/bin:/bin:ro", "-v", "/lib:/lib:ro", "-v", "/lib64:/lib64:ro", "-v", "/usr:/usr:ro",
                  "two:1", "true")  # fmt: skip
    assert ended.code == 0, ended
    assert [each["Id"] for each in json.loads(done(place("inspect", "two:1", ONE.id[7:19])))] == [TWO.id, ONE.id]
    assert done(place("inspect", "-f", "{{.Name}}", "one")) == "one\n"
    assert done(place("inspect", "--type", "image", "-f", "{{.Id}}", "one:1")) == f"{ONE.id}\n"
    assert "no container `two:1`" in fails(place("inspect", "--type", "container", "--format", "json", "two:1"), 1)
    assert "no container or image `three`" in fails(place("inspect", "-f", "json", "three"), 1)
    assert "no type `volume`" in fails(place("inspect", "--type", "volume", "x"))


def test_settings_that_are_malformed(place: Machine, folder: str) -> None:
    """They matter where a registry is asked, and there alone."""
    place.environment["HOME"] = folder
    os.makedirs(f"{folder}/.config/dolium")
    with open(f"{folder}/.config/dolium/registries.toml", "w") as file:
        file.write('short = "docker.io/library"\n[registry."x.test"\nmirrors = []\n')
    ended = place("run", "--network", "none", "one:1")
    assert "registries.toml" in ended.stderr and "no registry was asked" in ended.stderr and "/bin/one" in ended.stderr, ended
    assert done(place("tag", "one:1", "other:1")) == "" and "Untagged" in place("rmi", "other:1").stdout
    for words in (["pull", "one:1"], ["run", "--network", "none", "absent:1"], ["push", "one:1"], ["run", "--pull", "always", "one:1"]):
        said = fails(place(*words))
        assert "registries.toml" in said and "line 2" in said, words
