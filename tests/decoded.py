"""A plan in bytes, read back as init/wire.h reads it; written down a second time, for the tests."""

from __future__ import annotations

from typing import Any

from dolium.core.wire import HEADER, RECORD

NAMES = ("op", "actor", "call", "accept1", "accept2", "accept3", "accept4", "on", "out", "fd", "fd2", "path", "path2", "data", "length",
         "error", "n1", "n2", "n3", "nanoseconds", "branch", "fault", "item", "other")  # fmt: skip


def decode(data: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What init/wire.h makes of it, written down a second time."""
    magic, size, count, length, failed, phase, child, status, *table = HEADER.unpack_from(data)
    header = {"magic": magic, "size": size, "count": count, "length": length, "failed": failed, "phase": phase, "child": child,
              "status": status, "slots": table[:-1], "message": table[-1]}  # fmt: skip
    rows = [dict(zip(NAMES, RECORD.unpack_from(data, HEADER.size + RECORD.size * index), strict=True)) for index in range(count)]
    return header, rows


def string(data: bytes, offset: int) -> str:
    return data[offset : data.index(b"\0", offset)].decode("utf-8", "surrogateescape") if offset else ""
