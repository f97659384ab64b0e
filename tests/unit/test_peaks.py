"""Peaks of memory that are to be counted anew, of kernels that can forget one and of those that cannot."""

from typing import Any

import pytest

from dolium.runtime import cgroup


def put(path: Any, name: str, number: int) -> None:
    (path / name).write_text(f"{number}\n")


def test_where_it_cannot_be_forgotten_only_a_higher_one_is_known(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "memory.peak", 100)

    def refused(fd: int, data: bytes) -> int:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr("os.write", refused)
    peak = cgroup.Peak(str(tmp_path), 2)
    assert peak.read() == 0
    put(tmp_path, "memory.peak", 101)
    assert peak.read() == 101
    peak.close()
    peak.close()


def test_without_any_peak_nothing_is_known(tmp_path: Any) -> None:
    assert cgroup.Peak(str(tmp_path), 2).read() == 0  # before Linux 5.19
