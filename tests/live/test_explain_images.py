"""`dolium explain IMAGE`: who asked for what, and that nothing is fetched or unpacked that was not asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from containers import Ended
from layouts import Made, write_layout
from machine import Machine
from registry_servers import Hostile
from test_images_run import done, layout, shell

__all__ = ["layout", "shell"]
CONFIG = {"Env": ["PATH=/bin", "LANG=C"], "Entrypoint": ["sh", "-c"], "Cmd": ["echo cmd"], "User": "web", "WorkingDir": "/made/deep",
          "Volumes": {"/data": {}}, "StopSignal": "SIGINT"}  # fmt: skip


@pytest.fixture
def registry(shell: bytes) -> Iterator[Hostile]:
    found = Hostile(Made([shell], CONFIG))
    yield found
    found.close()


def marks(ended: Ended) -> dict[str, str]:
    """The mark of each line, by its first words; of the image's fields all of the line."""
    assert ended.code == 0, ended
    return {found[2].strip(): found[1] for line in ended.stdout.splitlines() if (found := re.match(r" *\d* ([*i.]) .  (.{34})", line))}


def fields(ended: Ended) -> dict[str, str]:
    """field -> what became of it."""
    part = ended.stdout.partition("IMAGE         what it asks for\n")[2].partition("\n\n")[0]
    return {line[8:].split()[0]: line[43:].strip() for line in part.splitlines()}


def test_who_asked(registry: Hostile, machine: Machine) -> None:
    """What is marked as the image's is what the container of `dolium run` then is."""
    name = f"{registry.name}/image"
    machine("pull", "-q", name)
    asked = len(registry.seen)
    plain = machine("explain", "--network", "none", name)
    found = marks(plain)
    assert {found[each] for each in ("exec sh", "chdir /made/deep", "mkdir /made/deep", "mkdir /data", "setresuid 33, setresgid 44")} == {"i"}
    assert found["overlay of 1 layer + kept files"] == "i" and found["pivot_root"] == "." and found["set lo up"] == "*"
    assert fields(plain) == {**dict.fromkeys(CONFIG, "as it says"), "StopSignal": "what `dolium stop` sends"}
    yours = machine("explain", "--network", "none", "-u", "0", "-w", "/tmp", "-e", "A=1", "--stop-signal", "TERM", name, "pwd")
    found = marks(yours)
    assert {found[each] for each in ("exec sh", "chdir /tmp", "mkdir /tmp", "setresuid 0, setresgid 0")} == {"*"} and found["mkdir /data"] == "i"
    assert fields(yours) == {"Entrypoint": "with your words", "Cmd": "instead: your words", "Env": "with your --env", "User": "instead: your --user",
                             "WorkingDir": "instead: your --workdir", "Volumes": "as it says", "StopSignal": "instead: your --stop-signal"}  # fmt: skip
    assert fields(machine("explain", "--entrypoint", "pwd", name))["Entrypoint"] == "instead: your --entrypoint"
    assert "the image, by Entrypoint, Cmd, Env (process.args)" in machine("explain", "--step", "exec", name).stdout
    assert "you, by process.args; the image, by Entrypoint, Env" in machine("explain", "--step", "exec", name, "pwd").stdout
    assert "the image, by its layers (root.layers)" in machine("explain", "--step", "overlay", name).stdout
    rows = json.loads(machine("explain", "--json", name).stdout)["steps"]
    assert {row["by"] for row in rows} == {"image", "default"} and not any(row["asked"] for row in rows)
    shell = "id -u; id -g; pwd; echo $LANG; ls -d /data"
    assert done(machine("run", "--rm", "--network", "none", name, shell)).split() == ["33", "44", "/made/deep", "C", "/data"]
    assert len(registry.seen) == asked


def test_a_container_that_is_there(registry: Hostile, machine: Machine) -> None:
    """Its marks are kept with it."""
    machine("run", "--network", "none", "--name", "x", "-w", "/tmp", f"{registry.name}/image")
    shown = machine("explain", "--id", "x")
    found = marks(shown)
    assert found["exec sh"] == "i" and found["chdir /tmp"] == "*" and fields(shown)["WorkingDir"] == "instead: your --workdir"


def test_against_what_the_image_says_by_itself(registry: Hostile, machine: Machine) -> None:
    name = f"{registry.name}/image"
    machine("pull", "-q", name)
    assert "No step of" in done(machine("explain", "--diff", name))
    shown = done(machine("explain", "--diff", "-u", "0", name))
    assert "weaker   root inside" in shown and "they weaken the container." in shown


def test_nothing_is_fetched(registry: Hostile, machine: Machine) -> None:
    """Unless `--pull` says so."""
    name = f"{registry.name}/image"
    for words in ((), ("--pull", "never")):
        ended = machine("explain", *words, name)
        assert (ended.code, ended.stdout) == (125, ""), ended
        assert ended.stderr.startswith(f"error: no image `{name}`\n\nhint: `dolium pull {name}` fetches it"), ended
    assert registry.seen == [] and done(machine("images", "-aq")) == ""
    assert machine("explain", "--pull", "missing", name).stdout.startswith(f"Plan for `sh` in {name}: ")
    asked = len(registry.seen)
    assert asked and marks(machine("explain", name))["exec sh"] == "i" and len(registry.seen) == asked
    near = machine("explain", f"{name}s")
    assert f"did you mean `{name}:latest`? `dolium pull {name}s` fetches it" in near.stderr, near


def test_a_layout_is_read_if_so_asked(machine: Machine, shell: bytes, layout: str) -> None:
    write_layout(layout, {"1": Made([shell], CONFIG)})
    ended = machine("explain", f"oci:{layout}:1")
    assert ended.code == 125 and "so does `dolium explain --pull missing`" in ended.stderr, ended
    assert marks(machine("explain", "--pull", "missing", f"oci:{layout}:1"))["exec sh"] == "i"
    assert "weaken" in machine("explain", "--pull", "missing", "--diff", "-u", "0", f"oci:{layout}:1").stdout


def test_a_user_of_layers_that_are_not_unpacked(machine: Machine, shell: bytes, layout: str, folder: str) -> None:
    """Whom the image's config names stands in a file of a layer."""
    write_layout(layout, {"1": Made([shell], CONFIG)})
    machine("explain", "--pull", "missing", f"oci:{layout}:1")
    image = done(machine("images", "-aq")).split()[0]
    done(machine("tag", image, "app:1"))
    done(machine("save", "--format", "docker-archive", "-o", f"{folder}/app.tar", "app:1"))
    for words in (("rmi", "app:1"), ("image", "prune", "-f"), ("prune", "-f")):
        machine(*words)
    done(machine("load", "-i", f"{folder}/app.tar"))
    ended = machine("explain", "app:1")
    assert ended.code == 125 and "explain --user web: the image's config says so, and nothing is known of users in `app:1`" in ended.stderr, ended
    assert "dolium explain --pull missing" in ended.stderr
    assert marks(machine("explain", "-u", "7", "app:1"))["setresuid 7, setresgid 0"] == "*"
    assert marks(machine("explain", "--pull", "missing", "app:1"))["setresuid 33, setresgid 44"] == "i"
    assert marks(machine("explain", "app:1"))["setresuid 33, setresgid 44"] == "i", "it is unpacked now"


def test_another_machines(machine: Machine, shell: bytes, layout: str) -> None:
    write_layout(layout, {"1": Made([shell], CONFIG)})
    machine("explain", "--pull", "missing", f"oci:{layout}:1")
    image = done(machine("images", "-aq")).split()[0]
    ended = machine("explain", "--platform", "linux/s390x", image)
    assert ended.code == 125 and "not linux/s390x" in ended.stderr, ended
