"""SIGKILL at every moment at which a store of images has changed a file or is about to; the next command goes on as if nothing was."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from layouts import Made, digest, layer, store

from dolium.engine import blobs, images, layers

__all__ = ["store"]
pytestmark = pytest.mark.usefixtures("store")
MADE = Made([layer("base"), layer("more")])
MOMENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate", "fcntl.flock", "sqlite3.connect", "sqlite3.connect/handle")


def killed_at(moment: int, work: object) -> bool:
    """Whether a process that does the work was killed at its so-manieth change; False: it came to its end before."""
    pid = os.fork()
    if pid == 0:
        count = 0

        def hear(event: str, _: object) -> None:
            nonlocal count
            if event in MOMENTS:
                count += 1
                if count == moment:
                    os.kill(os.getpid(), signal.SIGKILL)

        try:
            sys.addaudithook(hear)
            for name in ("write", "fsync"):  # no events of Python's own
                real = getattr(os, name)
                setattr(os, name, lambda *given, real=real: (hear("open", None), real(*given))[1])
            work()  # type: ignore[operator]
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(pid, 0)
    assert status in (0, signal.SIGKILL), status
    return status != 0


def pull() -> None:
    with images.hold():
        MADE.put("x:1")


def test_a_pull_that_is_killed() -> None:
    moment = 1
    while killed_at(moment, pull):
        for each in images.every():
            assert (each.digest, each.names) == (MADE.digest, ["x:1"]), "all of it, or nothing"
        for name, _ in blobs.every():
            assert blobs.read(name, 1 << 20) == MADE.blobs[name], "what has a name is whole"
        pull()
        assert images.find("x:1").config().diff_ids
        images.untag("x:1")
        images.forget(MADE.digest)
        assert images.collect() is not None and [*blobs.every()] == []
        moment += 1
    assert moment > 30
    assert images.find("x:1").digest == MADE.digest


def test_a_collection_that_is_killed() -> None:
    moment = 1
    while True:
        pull()
        stray = blobs.put(b"stray")
        cut = blobs.ingest(digest(b"cut off"), 7)
        cut.write(b"cut")
        cut.close()
        killed = killed_at(moment, lambda: [*(images.collect() or ())])
        assert images.find("x:1").digest == MADE.digest and all(blobs.has(each) for each in MADE.blobs)
        assert images.collect() is not None and not blobs.has(stray) and {name for name, _ in blobs.every()} == {*MADE.blobs}
        if not killed:
            break
        moment += 1
    assert moment > 5


def test_a_name_that_is_taken_away_while_killed() -> None:
    moment = 1

    def remove() -> None:
        images.untag("x:1")
        images.forget(MADE.digest)
        images.collect()

    while True:
        pull()
        killed = killed_at(moment, remove)
        for each in images.every():
            assert each.config().diff_ids and all(blobs.has(layer.digest) for layer in each.manifest().layers)
        if not killed:
            break
        moment += 1
    assert images.every() == [] and [*blobs.every()] == []


def test_layers_that_are_unpacked_while_killed() -> None:
    """Also one that depends on the one below it, whose place is found out last."""
    made = Made([layer("d/base"), layer("d/more")])
    image = made.put("x:1")
    moment = 1
    while killed_at(moment, lambda: layers.provide(images.find("x:1")).close()):
        layers.provide(image).close()
        layers.mend()
        assert len(os.listdir(layers.top_path())) == 3, "two, and the stacks"
        images.untag("x:1")
        images.forget(made.digest)
        assert len(layers.collect() or ()) == 2 and os.listdir(layers.top_path()) == ["stacks"]
        image = images.record("x:1", made.digest)
        moment += 2
    assert moment > 30


def test_layers_that_are_collected_while_killed() -> None:
    moment = 1
    while True:
        kept, gone = MADE.put("x:1"), Made([layer("base"), layer("other")]).put("y:1")
        use = layers.provide(kept)
        use.close()
        layers.provide(gone).close()
        images.untag("y:1")
        images.forget(gone.digest)
        killed = killed_at(moment, lambda: [*(layers.collect() or ())])
        layers.must_be_there("x:1", use.digest)
        assert layers.collect() is not None and len(os.listdir(layers.top_path())) == 3
        if not killed:
            break
        moment += 1
    assert moment > 5
