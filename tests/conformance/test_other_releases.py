"""Containers that another release of Dolium has made: this one starts, shows, execs into, pauses, kills and deletes them.

Of the release before in full where the history is there; everywhere by what it had written down, recorded, with processes of today."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
from bundles import RUNTIME, Bundle, config, script, wait_for
from containers import TOP

BEFORE = "2e7d5f0"
"""The last commit of the day before."""
RECORDED = f"{os.path.dirname(os.path.abspath(__file__))}/recorded"


@pytest.fixture(scope="module")
def before(workshop: str) -> Iterator[str]:
    """Its dolium-oci, built."""
    path = f"{workshop}/before"
    if subprocess.run(["git", "-C", TOP, "cat-file", "-e", f"{BEFORE}^{{commit}}"], capture_output=True).returncode:
        pytest.skip(f"no git history with {BEFORE}")
    os.mkdir(path)
    archive = subprocess.run(["git", "-C", TOP, "archive", BEFORE], capture_output=True, check=True)
    subprocess.run(["tar", "x", "-C", path], input=archive.stdout, check=True)
    built = subprocess.run(["sh", "make/setup.sh", "helpers"], cwd=path, capture_output=True, text=True)
    assert built.returncode == 0, built
    yield f"{path}/bin/dolium-oci"
    shutil.rmtree(path)


def use(bundle: Bundle) -> None:
    """All that is done with a container that runs."""
    assert bundle.status() == "running"
    assert bundle.verb("exec", bundle.id, "sh", "-c", "id -u; exit 4").code == 4
    assert bundle.verb("pause", bundle.id).code == 0 and bundle.status() == "paused"
    assert bundle.verb("resume", bundle.id).code == 0 and bundle.status() == "running"
    assert bundle.verb("update", "--pids-limit", "50", bundle.id).code == 0
    assert json.loads(bundle.verb("ps", "--format", "json", bundle.id).out) == [bundle.state()["pid"]]
    assert json.loads(bundle.verb("events", "--stats", bundle.id).out)["data"]["pids"]["limit"] == 50
    assert bundle.verb("kill", bundle.id, "KILL").code == 0
    bundle.wait()
    assert bundle.verb("delete", bundle.id).code == 0
    assert bundle.status() == "gone" and os.listdir(bundle.root) == []


def test_a_container_of_the_release_before(bundle: Bundle, before: str) -> None:
    bundle.runtime = before
    bundle.running(config(process__args=["sleep", "1000"], annotations={"a": "b"}))
    bundle.runtime = RUNTIME
    assert bundle.state()["annotations"] == {"a": "b"}
    use(bundle)


def test_one_that_it_has_created_is_started(bundle: Bundle, before: str) -> None:
    touch = {"path": "/bin/sh", "args": ["sh", "-c", "echo stopped >$0/poststop", bundle.directory]}
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "touch /ran"]}
    bundle.runtime = before
    assert bundle.create(script("echo $$; test -e /ran && echo hook; exec sleep 1000", hooks={"startContainer": [hook], "poststop": [touch]})).code == 0
    bundle.runtime = RUNTIME
    assert bundle.status() == "created" and bundle.start().code == 0
    wait_for(lambda: bundle.read("out") == "1\nhook\n")
    use(bundle)
    assert bundle.read("poststop") == "stopped\n"


def test_one_that_ended_under_it_is_deleted(bundle: Bundle, before: str) -> None:
    bundle.runtime = before
    bundle.running(config())
    bundle.runtime = RUNTIME
    bundle.wait()
    assert bundle.verb("delete", bundle.id).code == 0 and bundle.status() == "gone"


def replaced(recorded: Any, values: dict[str, Any]) -> Any:
    """With what is of this machine and this moment in the place of `$NAME`."""
    if isinstance(recorded, dict):
        return {key: replaced(value, values) for key, value in recorded.items()}
    if isinstance(recorded, list):
        return [replaced(each, values) for each in recorded]
    if isinstance(recorded, str) and recorded.startswith("$"):
        return values[recorded[1:]]
    return recorded


@pytest.mark.parametrize("name", sorted(os.listdir(RECORDED)))
def test_what_was_written_down(bundle: Bundle, name: str) -> None:
    """A state of that release, of processes that live: this release finds everything in it that it needs."""
    bundle.running(config(process__args=["sleep", "1000"]))
    where = f"{bundle.root}/{bundle.id}"
    with open(f"{where}/state.json") as file:
        fields = json.load(file)
    values = {each.upper(): fields[each] for each in ("id", "bundle", "rootfs", "pid", "maker", "groups", "versions")}
    values["GROUP"] = f"/dolium/{bundle.id}"
    with open(f"{RECORDED}/{name}") as file:
        recorded = replaced(json.load(file), values)
    for each in ("state", "config"):
        with open(f"{where}/{each}.json", "w") as file:
            json.dump(recorded[each], file)
    use(bundle)


def test_a_format_of_the_future_is_named_and_left_alone(bundle: Bundle) -> None:
    bundle.running()
    path = f"{bundle.root}/{bundle.id}/state.json"
    with open(path) as file:
        kept = file.read()
    with open(path, "w") as file:
        file.write(kept.replace('"format":1', '"format":99'))
    assert "format" in kept and bundle.status() == "gone"
    for verb in (("state",), ("kill",), ("delete",), ("exec",)):
        ended = bundle.verb(*verb, bundle.id, *(["true"] if verb == ("exec",) else []))
        assert ended.code and "was not written by this version of Dolium, nor by the one before" in ended.err, ended
    with open(path, "w") as file:
        file.write(kept)
    assert bundle.status() == "running"
