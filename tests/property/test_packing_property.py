"""What is packed on all processors is one gzip stream, the same however it comes."""

from __future__ import annotations

import gzip
import os
import subprocess
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolium.engine import packing


def packed(data: bytes, step: int) -> bytes:
    out: list[bytes] = []
    packer = packing.Packer(lambda piece: out.append(bytes(piece)))
    for at in range(0, len(data), step):
        packer.add(memoryview(data)[at : at + step])
    packer.finish()
    return b"".join(out)


SIZES = st.one_of(st.integers(0, 5000), st.sampled_from([packing.PIECE - 1, packing.PIECE, packing.PIECE + 1, 3 * packing.PIECE, 7_654_321]))


@settings(max_examples=25, deadline=None)
@given(SIZES, st.sampled_from([700, 1 << 17, 1 << 20, 1 << 23]), st.binary(min_size=1, max_size=300))
def test_any_gzip_reads_it(size: int, step: int, pattern: bytes) -> None:
    data = (pattern * (size // len(pattern) + 1))[:size]
    found = packed(data, step)
    assert gzip.decompress(found) == data
    assert found == packed(data, 1 << 19)
    assert subprocess.run(["gzip", "-t"], input=found, capture_output=True).returncode == 0


def test_the_same_on_any_number_of_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    data = os.urandom(1 << 20) * 5
    found = set()
    for count in (1, 2, 7):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, count=count: {*range(count)})
        found.add(packed(data, 300_000))
    assert len(found) == 1


def test_about_as_small_as_gzip_makes_it() -> None:
    with open(__file__, "rb") as file:
        data = file.read() * 3000
    assert len(packed(data, 1 << 20)) < len(gzip.compress(data, 6)) * 1.05


def test_no_thread_stays() -> None:
    before = threading.active_count()
    packer = packing.Packer(lambda piece: None)
    packer.add(bytes(5 << 20))
    assert threading.active_count() > before
    packer.close()
    assert threading.active_count() == before
