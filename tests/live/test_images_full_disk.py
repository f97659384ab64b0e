"""Images on a disk that is full: what frees it must work."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from archives import archive, entry
from containers import Dolium
from layouts import Made, write_layout
from machine import Machine

ONE, TWO = (Made([archive(entry(name, data=os.urandom(4 << 20)))]) for name in ("one", "two"))


@pytest.fixture
def place(root: Dolium, folder: str) -> Iterator[Machine]:
    """Two images on 24 MiB, unpacked, and something else on the rest."""
    found = Machine(size="24m")
    layout = write_layout(f"{folder}/layout", {f"docker.io/library/{name}:1": made for name, made in (("one", ONE), ("two", TWO))})
    assert found("load", "-i", layout).code == 0
    for name in ("one:1", "two:1"):
        assert found("run", "--network", "none", name, "x").code == 127
    found.sh("for size in 4096 1; do dd if=/dev/zero of=/var/lib/dolium/other$size bs=$size 2>/dev/null; done; true")
    yield found
    found.close()


def free(machine: Machine) -> int:
    there = os.statvfs(f"{machine.root}/var/lib/dolium")
    return there.f_bavail * there.f_frsize


def test_images_are_listed_and_removed(place: Machine) -> None:
    assert free(place) == 0
    for _ in range(2):
        assert place("images", "-q").stdout.split() == [TWO.id[7:19], ONE.id[7:19]]
    assert free(place) == 0, "the room that was needed for that is kept again"
    ended = place("rmi", "two:1")
    assert (ended.code, ended.stdout) == (0, f"Untagged: docker.io/library/two:1\nDeleted: {TWO.id}\n") and "freed" in ended.stderr, ended
    assert free(place) > 6 << 20
    assert place("run", "--network", "none", "one:1", "x").code == 127


def test_pruned(place: Machine) -> None:
    ended = place("image", "prune", "-a")
    assert ended.code == 0 and "freed" in ended.stderr and free(place) > 14 << 20, ended


def test_who_makes_something_is_told_how_to_make_room(place: Machine) -> None:
    for words in (("run", "--network", "none", "one:1", "x"), ("import", "-", "x:1")):
        ended = place(*words, input=archive(entry("x", data=os.urandom(1 << 20))))
        assert ended.code == 125 and "No space left on device" in ended.stderr.splitlines()[0], ended
        hint = ended.stderr.splitlines()[2]
        assert hint.startswith("hint: `df /var/lib/dolium` says") and "`dolium image prune -a`" in hint, ended


def test_without_room_of_its_own_it_says_so(place: Machine) -> None:
    """And advises nobody to remove the database."""
    place.sh("cat /dev/zero >/var/lib/dolium/more 2>/dev/null; rm /var/lib/dolium/images/spare; cat /dev/zero >>/var/lib/dolium/more 2>/dev/null; true")
    ended = place("rmi", "two:1")
    assert ended.code != 0 and "the disk is full" in ended.stderr and "images.db*" not in ended.stderr, ended
    place.sh("rm /var/lib/dolium/more")
    assert place("rmi", "two:1").code == 0
