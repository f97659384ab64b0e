"""Blobs: whole and verified, or not there; cut off and resumed; two at once."""

from __future__ import annotations

import os
import threading

import pytest
from layouts import digest, store

from dolium.engine import blobs
from dolium.errors import ImageError

__all__ = ["store"]
DATA = os.urandom(300_000)


def partials(store: str) -> list[str]:
    return os.listdir(f"{store}/images/partial")


@pytest.mark.usefixtures("store")
def test_whole() -> None:
    name = digest(DATA)
    assert not blobs.has(name)
    writer = blobs.ingest(name, len(DATA))
    for at in range(0, len(DATA), 70_000):
        assert writer.offset == at and not writer.done
        writer.write(memoryview(DATA)[at : at + 70_000])
        assert not blobs.has(name), "not before it is verified"
    writer.commit()
    assert writer.done and blobs.has(name) and blobs.size(name) == len(DATA) and blobs.read(name, 1 << 20) == DATA
    assert (os.stat(blobs.path(name)).st_mode & 0o777, [*blobs.every()]) == (0o600, [(name, len(DATA))])
    again = blobs.ingest(name, len(DATA))
    assert (again.done, again.offset) == (True, len(DATA))
    again.commit()
    again.close()


def test_a_cut_download_is_resumed(store: str) -> None:
    name = digest(DATA)
    first = blobs.ingest(name, len(DATA))
    first.write(DATA[:123_456])
    with pytest.raises(ImageError, match="ended after 123456 of 300000 bytes"):
        first.commit()
    first.close()
    second = blobs.ingest(name, len(DATA))
    assert second.offset == 123_456
    second.write(DATA[123_456:])
    second.commit()
    assert blobs.read(name, 1 << 20) == DATA and partials(store) == []


def test_what_cannot_be_resumed_begins_anew(store: str) -> None:
    name = digest(DATA)
    first = blobs.ingest(name, len(DATA))
    first.write(b"rubbish")
    first.close()
    second = blobs.ingest(name, len(DATA))
    assert second.offset == 7
    second.restart()
    second.write(DATA)
    second.commit()
    assert blobs.read(name, 1 << 20) == DATA
    longer = blobs.ingest(digest(b"x"), 100)
    longer.write(b"y" * 50)
    longer.close()
    assert blobs.ingest(digest(b"x"), 1).offset == 0, "more of it than there can be"


@pytest.mark.parametrize("sent, problem", [(DATA + b"x", "more than the 300000 bytes"), (DATA[:-1] + b"\0", "has the digest sha256:")])
def test_what_is_wrong_is_not_kept(store: str, sent: bytes, problem: str) -> None:
    assert sent != DATA
    writer = blobs.ingest(digest(DATA), len(DATA))
    with pytest.raises(ImageError, match=problem):
        writer.write(sent)
        writer.commit()
    assert partials(store) == [] and not blobs.has(digest(DATA))
    writer.close()


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize("name", ["", "sha256:", "sha256:" + "A" * 64, "sha256:" + "a" * 63, "md5:" + "a" * 32, "sha256:../../" + "a" * 58,
                                  "sha512:" + "a" * 64, "a" * 64])  # fmt: skip
def test_names_that_are_no_digests(name: str) -> None:
    for use in (blobs.path, blobs.has, blobs.open_blob, lambda name: blobs.ingest(name, 3)):
        with pytest.raises(ImageError, match="no sha256 or sha512 digest"):
            use(name)  # type: ignore[operator]


@pytest.mark.usefixtures("store")
def test_other_sizes_and_sums() -> None:
    assert blobs.put(b"x") == digest(b"x") == blobs.put(b"x")
    with pytest.raises(ImageError, match="it has 1 bytes, and 2 are claimed"):
        blobs.ingest(digest(b"x"), 2)
    with pytest.raises(ImageError, match="a size of -1 bytes"):
        blobs.ingest(digest(b"y"), -1)
    long = blobs.digest_of(b"hello", "sha512")
    writer = blobs.ingest(long, 5)
    writer.write(b"hello")
    writer.commit()
    assert blobs.read(long, 5) == b"hello" and len([*blobs.every()]) == 2
    with pytest.raises(ImageError, match="more than 4 bytes"):
        blobs.read(long, 4)
    with open(blobs.path(long), "wb") as file:
        file.write(b"hellO")
    with pytest.raises(ImageError, match="changed since it was stored"):
        blobs.read(long, 5)
    with pytest.raises(ImageError, match="not in the store"):
        blobs.read(digest(b"never"), 5)
    assert blobs.put(b"") == digest(b"") and blobs.read(digest(b""), 0) == b""


@pytest.mark.usefixtures("store")
def test_two_at_once_share_the_work() -> None:
    """The second waits, then has what the first wrote: all of it, or the beginning if the first gave up."""
    name, found = digest(DATA), []

    def wait() -> None:
        writer = blobs.ingest(name, len(DATA))
        found.append((writer.done, writer.offset))
        writer.close()

    for first_ends, wanted in ((False, (False, 1000)), (True, (True, len(DATA)))):
        first = blobs.ingest(name, len(DATA))
        first.write(DATA[first.offset : None if first_ends else 1000])
        second = threading.Thread(target=wait)
        second.start()
        if first_ends:
            first.commit()
        first.close()
        second.join()
        assert found.pop() == wanted


def test_a_writer_gives_up_while_another_waits(store: str) -> None:
    """Then the file that the other has waited for is gone, and it begins with one of its own."""
    name, found = digest(DATA), []
    first = blobs.ingest(name, len(DATA))

    def go_on() -> None:
        writer = blobs.ingest(name, len(DATA))
        found.append(writer.offset)
        writer.write(DATA)
        writer.commit()

    second = threading.Thread(target=go_on)
    second.start()
    with pytest.raises(ImageError):
        first.write(DATA + b"more")
    second.join()
    assert found == [0] and blobs.read(name, 1 << 20) == DATA and partials(store) == []


def test_what_was_left_is_forgotten_unless_somebody_goes_on(store: str) -> None:
    for text in (b"one", b"two"):
        writer = blobs.ingest(digest(text), 3)
        writer.write(text[:2])
        if text == b"one":
            writer.close()
    assert [*blobs.forget_partial()] == [(digest(b"one"), 2)]
    assert partials(store) == [digest(b"two").replace(":", "-")]
    writer.close()
