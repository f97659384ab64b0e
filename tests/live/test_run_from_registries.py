"""`dolium run` of what is in a registry: fetched when it is wanted, and only then."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterator

import pytest
from containers import Dolium
from layouts import Made
from machine import Machine
from registry_servers import Hostile, hostile

__all__ = ["hostile"]


class Place(Machine):
    """The command with directories and a home of its own."""

    def __init__(self, home: str) -> None:
        super().__init__(size="256m")
        self.environment["HOME"] = home
        self.environment.pop("XDG_RUNTIME_DIR", None)
        self.forgets = True


@pytest.fixture
def place(root: Dolium, folder: str) -> Iterator[Place]:
    os.mkdir(f"{folder}/home")
    found = Place(f"{folder}/home")
    yield found
    found.close()


@pytest.fixture
def name(hostile: Hostile, alpine: str) -> str:
    """A registry's image of Alpine, whose version is told by ENV."""
    publish(hostile, alpine, "1")
    return f"{hostile.name}/image"


def publish(server: Hostile, alpine: str, version: str) -> None:
    import io
    import tarfile

    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add(alpine, ".")
    made = Made([data.getvalue()], {"Env": ["PATH=/bin", f"VERSION={version}"], "Cmd": ["sh", "-c", "echo version $VERSION"]},
                compress=lambda raw: gzip.compress(raw, 1))  # fmt: skip
    server.made, server.tags = made, {"latest": made.digest}
    server.blobs |= made.blobs


def test_what_is_missing_is_fetched_and_what_is_there_is_not(hostile: Hostile, place: Place, name: str) -> None:
    ended = place("run", "--pull", "never", name)
    assert ended.code == 125 and hostile.seen == [] and "no image" in ended.stderr
    assert place("run", name, timeout=120).stdout == "version 1\n"
    hostile.seen.clear()
    ended = place("run", "--pull=missing", name)
    assert (ended.code, ended.stdout, ended.stderr, hostile.seen) == (0, "version 1\n", "", [])


def test_always(hostile: Hostile, place: Place, name: str, alpine: str) -> None:
    assert place("run", name, timeout=120).stdout == "version 1\n"
    publish(hostile, alpine, "2")
    assert place("run", "--pull", "missing", name).stdout == "version 1\n"
    assert place("run", "--pull", "always", name, timeout=120).stdout == "version 2\n"
    hostile.seen.clear()
    assert place("run", "--pull", "always", name).stdout == "version 2\n"
    assert [each[0] for each in hostile.seen] == ["HEAD"]


def test_a_registry_that_is_not_there(place: Place) -> None:
    ended = place("run", "127.0.0.1:9/image")
    assert ended.code == 125 and "cannot pull 127.0.0.1:9/image:latest: 127.0.0.1:9: nothing listens there" in ended.stderr
