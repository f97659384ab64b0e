"""The store of images: names, ids, what is collected and what is not."""

from __future__ import annotations

import os
import threading

import pytest
from layouts import Made, digest, layer, store

from dolium.engine import blobs, images, manifests
from dolium.errors import DoliumError, ImageError, NotFound

__all__ = ["store"]
pytestmark = pytest.mark.usefixtures("store")
ONE, TWO = Made([layer("base"), layer("one")]), Made([layer("base"), layer("two")], {"Cmd": ["two"]})


def names() -> dict[str, str]:
    return {name: each.digest for each in images.every() for name in each.names}


def test_record_and_find() -> None:
    assert images.every() == []
    made = ONE.put("docker.io/library/one:1")
    assert (made.digest, made.id, made.names, made.platform) == (ONE.digest, ONE.id, ["docker.io/library/one:1"], "linux/amd64")
    assert made.size == sum(map(len, ONE.blobs.values())) and made.created == "2023-11-14T22:13:20Z"
    assert made.manifest().layers and made.config().diff_ids == (digest(layer("base")), digest(layer("one")))
    TWO.put("docker.io/library/two:1")
    for word in ("docker.io/library/one:1", ONE.digest, ONE.id, ONE.id[7:], ONE.id[7:19], ONE.id[7:11], ONE.id[:20]):
        assert images.find(word).digest == ONE.digest, word
    for word in ("docker.io/library/none:1", "", ONE.id[7:10], "zzzz", "sha256:", "%", "' or 1"):
        with pytest.raises(NotFound):
            images.find(word)
    with pytest.raises(NotFound) as caught:
        images.find("docker.io/library/onn:1")
    assert caught.value.similar == ("docker.io/library/one:1",)
    assert [each.digest for each in images.every()] == [TWO.digest, ONE.digest]


def test_a_name_moves() -> None:
    ONE.put("x/y:latest")
    ONE.put("x/y:1")
    TWO.put("x/y:latest")
    assert names() == {"x/y:latest": TWO.digest, "x/y:1": ONE.digest}
    assert images.untag("x/y:1").names == [] and len(images.every()) == 2, "it stays, without a name"
    assert images.find(ONE.id).names == []
    with pytest.raises(NotFound):
        images.untag("x/y:1")


def test_what_is_not_whole_is_not_recorded() -> None:
    for missing, data in ONE.blobs.items():
        for each in ONE.blobs.values():
            blobs.put(each)
        blobs.remove(missing)
        with pytest.raises(ImageError, match="not in the store"):
            images.record("x:1", ONE.digest)
        with open(blobs.path(missing), "wb") as file:
            file.write(data[:-1])
        with pytest.raises(ImageError, match=r"changed since it was stored|and the manifest says"):
            images.record("x:1", ONE.digest)
        blobs.remove(missing)
    assert images.every() == []


def test_an_index_is_no_image() -> None:
    body = b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}'
    with pytest.raises(ImageError, match="an index of manifests"):
        images.record("x:1", blobs.put(body))


def test_what_is_collected() -> None:
    """What no image needs, and nothing that one needs; an index stays with the image that was chosen from it."""
    source = blobs.put(b'{"index": 1}')
    ONE.put()
    images.record("one:1", ONE.digest, source=source)
    TWO.put("two:1")
    stray = blobs.put(b"stray")
    cut = blobs.ingest(digest(b"cut off"), 7)
    cut.write(b"cut")
    cut.close()
    assert sorted(images.collect() or ()) == sorted([(stray, 5), (digest(b"cut off"), 3)])
    assert images.find("one:1").sources == {"one:1": source}
    assert not images.forget(ONE.digest), "it has a name"
    images.untag("one:1")
    assert images.collect() == [], "an image without a name is one"
    assert images.forget(ONE.digest) and not images.forget(ONE.digest)
    gone = {name for name, _ in images.collect() or ()}
    assert gone == {*ONE.blobs, source} - {*TWO.blobs}, "what both have stays"
    assert {name for name, _ in blobs.every()} == {*TWO.blobs}


def test_nothing_is_collected_while_a_pull_is_under_way() -> None:
    with images.hold(), images.hold():
        name = blobs.put(b"of an image that is on its way")
        assert images.collect() is None and blobs.has(name)
    assert images.collect() == [(name, 30)]


def test_a_pull_waits_for_whoever_collects() -> None:
    fd, order = images._lock_file(), []
    images.flock(fd, images.LOCK_EX)

    def pull() -> None:
        with images.hold():
            order.append("pull")

    pulling = threading.Thread(target=pull)
    pulling.start()
    order.append("collected")
    os.close(fd)
    pulling.join()
    assert order == ["collected", "pull"]


def test_many_at_once(store: str) -> None:
    """Processes that come first make one database; every name is there."""
    made = [Made([layer(f"f{n}")]) for n in range(6)]
    children = []
    for n, each in enumerate(made):
        pid = os.fork()
        if pid == 0:
            try:
                with images.hold():
                    each.put(f"n:{n}")
                images.collect()
                os._exit(0)
            finally:
                os._exit(1)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 6
    assert names() == {f"n:{n}": each.digest for n, each in enumerate(made)}
    for each in images.every():
        assert all(blobs.has(one.digest) for one in (*each.manifest().layers, each.manifest().config))


def test_a_database_that_is_damaged(store: str) -> None:
    ONE.put("x:1")
    with open(f"{store}/images/images.db", "r+b") as file:
        file.write(b"rubbish" * 100)
    with pytest.raises(DoliumError, match=r"images\.db`: file is not a database") as caught:
        images.every()
    assert "remove" in caught.value.hint


def test_the_directories_are_the_users_own(store: str) -> None:
    ONE.put("x:1")
    for each in ("", "/images", "/images/blobs", "/images/blobs/sha256", "/images/partial"):
        assert os.stat(store + each).st_mode & 0o777 == 0o700
    assert manifests.MOST_LAYERS == 500
