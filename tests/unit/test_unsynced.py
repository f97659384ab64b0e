"""What a power failure leaves of images that the disk had not yet: another boot id, and files that are not what they were."""

from __future__ import annotations

import os

import pytest
from archives import archive, entry
from layouts import Made, store

from dolium.engine import blobs, images, layers, unsynced
from dolium.errors import NotFound
from dolium.runtime import places, process

__all__ = ["store"]
pytestmark = pytest.mark.usefixtures("store")
MADE = Made([archive(entry("file", data=b"right")), archive(entry("other", data=b"right"))])


@pytest.fixture
def reboot(monkeypatch: pytest.MonkeyPatch) -> object:
    return lambda: monkeypatch.setattr(process, "_boot_id", "22222222-2222-4222-8222-222222222222")


def unpacked() -> str:
    """The file in the lowest layer of the image, which is there now."""
    use = layers.provide(images.find("x:1"))
    use.close()
    return f"{layers.top_path()}/{layers.names(use.digest)[0]}/file"


def damage(path: str) -> None:
    with open(path, "wb"):  # what is typical: the name is there, and nothing in it
        pass


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def notes() -> list[str]:
    top = f"{places.data_path()}/unsynced"
    return sorted(name for boot in os.listdir(top) for name in os.listdir(f"{top}/{boot}"))


def test_trees_of_another_boot_are_made_anew(reboot: object) -> None:
    MADE.put("x:1")
    damage(unpacked())
    assert read(unpacked()) == b"", "a tree of this boot is trusted: no process takes away what is written"
    assert len(notes()) == 2
    reboot()  # type: ignore[operator]
    assert read(unpacked()) == b"right"
    assert os.listdir(f"{places.data_path()}/unsynced") == [process.boot_id()]


def test_a_container_of_another_boot_finds_its_trees(reboot: object) -> None:
    made = MADE.put("x:1")
    path = unpacked()
    damage(path)
    use = layers.provide(made)
    use.close()
    reboot()  # type: ignore[operator]
    layers.must_be_there("x:1", use.digest, made.digest)
    assert read(path) == b"right"
    layers.trees.erase(layers.top_path())
    with pytest.raises(NotFound):
        layers.must_be_there("x:1", use.digest, "sha256:" + "0" * 64)


def test_blobs_of_another_boot_are_computed(reboot: object) -> None:
    right, wrong, kept = (blobs.digest_of(data) for data in (b"right", b"wrong", b"kept"))
    for data, durable in ((b"right", False), (b"wrong", False), (b"kept", True)):
        writer = blobs.ingest(blobs.digest_of(data), len(data))
        writer.write(data)
        writer.commit(durable)
    assert notes() == sorted([right, wrong])
    damage(blobs.path(wrong))
    reboot()  # type: ignore[operator]
    images.hold().close()
    assert [blobs.has(each) for each in (right, wrong, kept)] == [True, False, True]
    assert notes() == []


def test_what_the_disk_has_is_trusted(reboot: object) -> None:
    """It was told to write it: what is not right later was changed by somebody."""
    MADE.put("x:1")
    path = unpacked()
    unsynced.settle()
    assert len(notes()) == 2, "those of a moment ago stay"
    for name in notes():
        os.utime(f"{places.data_path()}/unsynced/{process.boot_id()}/{name}", (1, 1))
    unsynced.settle()
    assert notes() == []
    damage(path)
    reboot()  # type: ignore[operator]
    assert read(unpacked()) == b""


def test_mending_goes_on_where_it_was_killed(reboot: object) -> None:
    """One of two trees has gone, with its note or without."""
    MADE.put("x:1")
    path = unpacked()
    damage(path)
    first, second = notes()
    layers.trees.discard(f"{layers.top_path()}/{first}")
    os.unlink(f"{places.data_path()}/unsynced/{process.boot_id()}/{first}")
    layers.trees.discard(f"{layers.top_path()}/{second}")
    reboot()  # type: ignore[operator]
    assert read(unpacked()) == b"right"
