"""A plan as bytes holds what the plan says, nothing outside of itself, and refuses what no system call takes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from decoded import NAMES, decode, string
from hypothesis import given, settings
from hypothesis import strategies as st

from dolium.core import wire
from dolium.core.wire import BOTH, HEADER, HOST, INSIDE, NONE, OUTSIDE, RECORD, SLOTS, Message, Report, Step
from dolium.errors import SpecError

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]) | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF),
               max_size=20)  # fmt: skip
SLOT = st.integers(NONE, SLOTS - 1)
NUMBER = st.integers(-(1 << 63), (1 << 63) - 1)
ERRNO = st.integers(1, 4095)



@st.composite
def steps(draw: st.DrawFn, other: bool = True) -> Step:
    alternative = draw(st.none() | steps(other=False)) if other else None
    return Step(draw(st.sampled_from([*wire.OPERATIONS])), draw(st.sampled_from([OUTSIDE, INSIDE, BOTH])), draw(TEXT), path=draw(TEXT),
                path2=draw(TEXT), data=draw(st.binary(max_size=40)), fd=draw(SLOT), fd2=draw(SLOT), out=draw(SLOT), n1=draw(NUMBER),
                n2=draw(NUMBER), n3=draw(NUMBER), accept=draw(st.lists(ERRNO, max_size=wire.ACCEPTED).map(tuple)),
                on=draw(ERRNO) if alternative else 0, other=alternative)  # fmt: skip


@st.composite
def plans(draw: st.DrawFn) -> list[Step]:
    found = draw(st.lists(steps(), max_size=8))
    for index in draw(st.lists(st.integers(0, len(found)), max_size=3)):
        found.insert(index, Step("make_group", HOST, "not on the wire", path="/x"))
    return found


SLOTS_PASSED = st.dictionaries(st.integers(0, SLOTS - 1), st.integers(3, 32767), max_size=5)
quick = settings(max_examples=150, deadline=None)


def compare(data: bytes, row: dict[str, Any], step: Step, actor: int) -> None:
    assert [*wire.OPERATIONS][row["op"]] == step.op
    assert row["actor"] == actor
    assert [row["out"], row["fd"], row["fd2"]] == [step.out, step.fd, step.fd2]
    assert [row["n1"], row["n2"], row["n3"]] == [step.n1, step.n2, step.n3]
    assert [row[f"accept{number}"] for number in (1, 2, 3, 4)] == [*step.accept, 0, 0, 0, 0][:4]
    assert (string(data, row["path"]), string(data, row["path2"])) == (step.path, step.path2)
    assert row["length"] == len(step.data)
    assert data[row["data"] : row["data"] + row["length"]] == step.data
    assert row["on"] == step.on
    assert not any(row[name] for name in ("call", "error", "nanoseconds", "branch", "fault", "item"))


@quick
@given(plan=plans(), passed=SLOTS_PASSED)
def test_round_trip(plan: list[Step], passed: dict[int, int]) -> None:
    message = wire.encode(plan, passed)
    header, rows = decode(message.data)
    assert (header["magic"], header["size"], header["failed"], header["status"]) == (wire.MAGIC, len(message.data), -1, -1)
    assert header["slots"] == [passed.get(number, -1) for number in range(SLOTS)]
    acting = [step for step in plan if step.actor]
    assert header["count"] == len(rows) == len(message.steps)
    assert message.steps[: len(acting)] == acting
    for row, step in zip(rows, acting, strict=False):
        compare(message.data, row, step, step.actor)
        if step.other:
            assert row["other"] >= len(acting), "an alternative is after all that are walked, so none goes round in a circle"
            compare(message.data, rows[row["other"]], step.other, 0)
        else:
            assert row["other"] == 0
    used = [row["other"] for row in rows if row["other"]]
    assert len({*used}) == len(used) == len(rows) - len(acting)


@quick
@given(plan=plans(), passed=SLOTS_PASSED)
def test_offsets_lie_within(plan: list[Step], passed: dict[int, int]) -> None:
    """As dolium-init asks for it before it believes a plan, init/init.c receive()."""
    data = wire.encode(plan, passed).data
    first = HEADER.size + RECORD.size * decode(data)[0]["count"]
    assert data[-1] == 0 and first < len(data)
    rooms = []
    for row in decode(data)[1]:
        for name in ("path", "path2", "data"):
            assert row[name] == 0 or first <= row[name] < len(data)
        assert row["length"] < len(data) - row["data"]
        assert data[row["data"] + row["length"]] == 0 or not row["data"]
        if [*wire.OPERATIONS][row["op"]] == "read_file" and row["length"]:
            rooms.append((row["data"], row["data"] + row["length"]))
    others = [(row[name], row[name] + 1) for row in decode(data)[1] for name in ("path", "path2", "data")
              if row[name] and (row[name], row[name] + row["length"]) not in rooms]  # fmt: skip
    rooms.sort()
    assert all(before[1] < after[0] for before, after in itertools.pairwise(rooms)), "read_file writes into room of its own"
    assert not [other for other in others for room in rooms if room[0] <= other[0] < room[1]]


@quick
@given(plan=plans().filter(lambda plan: any(step.actor for step in plan)), bad=st.sampled_from(["\0", "a\0", "\ud800", "x\udfffy"]),
       data=st.data())  # fmt: skip
def test_strings_that_no_call_takes(plan: list[Step], bad: str, data: st.DataObject) -> None:
    step = data.draw(st.sampled_from([each for each in plan if each.actor]))
    name = data.draw(st.sampled_from(["path", "path2"]))
    setattr(step, name, getattr(step, name) + bad)
    with pytest.raises(SpecError) as caught:
        wire.encode(plan, {})
    assert caught.value.path == step.why


@quick
@given(plan=plans())
def test_encoding_changes_nothing(plan: list[Step]) -> None:
    before = [[getattr(step, name) for name in Step.__slots__] for step in plan]
    first, second = wire.encode(plan, {}).data, wire.encode(plan, {}).data
    assert first == second and isinstance(first, (bytes, bytearray))
    assert [[getattr(step, name) for name in Step.__slots__] for step in plan] == before


@quick
@given(parts=st.lists(TEXT, max_size=6), why=TEXT)
def test_strings(parts: list[str], why: str) -> None:
    encoded = wire.strings(*parts, why=why)
    assert [each.decode("utf-8", "surrogateescape") for each in encoded.split(b"\0")] == [*parts, ""]


@quick
@given(plan=st.lists(steps(other=False), min_size=1, max_size=6), words=st.binary(max_size=wire.MESSAGE - 1), data=st.data())
def test_report(plan: list[Step], words: bytes, data: st.DataObject) -> None:
    """What the helper has written is what the report says."""
    message: Message = wire.encode(plan, {})
    raw = bytearray(message.data)
    index = data.draw(st.integers(0, len(plan) - 1))
    error, call, item = data.draw(ERRNO), data.draw(st.integers(0, 4)), data.draw(st.integers(0, 65535))
    place = HEADER.size + RECORD.size * index
    row = [*RECORD.unpack_from(raw, place)]
    row[NAMES.index("error")], row[NAMES.index("call")], row[NAMES.index("item")] = error, call, item
    row[NAMES.index("nanoseconds")], row[NAMES.index("branch")] = 12345, 2
    RECORD.pack_into(raw, place, *row)
    header = [*HEADER.unpack_from(raw)]
    header[3], header[4], header[7], header[-1] = len(words), index, 9, words
    HEADER.pack_into(raw, 0, *header)
    report = Report(bytes(raw))
    assert (report.failed, report.errno, report.call, report.item, report.status) == (index, error, call, item, 9)
    assert report.message == words.decode("utf-8", "replace").strip()
    assert len(report.rows) == len(plan) and report.rows[index] == (error, 12345, 2)
    untouched = Report(message.data)
    assert (untouched.failed, untouched.errno, untouched.message) == (-1, 0, "")


@quick
@given(text=st.binary(max_size=60), room=st.integers(60, 80))
def test_read_result(text: bytes, room: int) -> None:
    step = Step("read_file", OUTSIDE, "x", path="/etc/passwd", data=bytes(room))
    raw = bytearray(wire.encode([step, step], {}).data)
    row = [*RECORD.unpack_from(raw, HEADER.size + RECORD.size)]
    row[NAMES.index("n3")] = len(text)
    RECORD.pack_into(raw, HEADER.size + RECORD.size, *row)
    raw[row[NAMES.index("data")] : row[NAMES.index("data")] + len(text)] = text
    assert wire.read_result(bytes(raw), 1) == text
    assert wire.read_result(bytes(raw), 0) == b""
