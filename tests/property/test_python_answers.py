"""Whatever a snippet sends as its answer: it is one, or it is refused; in pieces as in one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolium.sandbox import interpreter
from dolium.sandbox.python import ANSWER, ASK, CUT, ERROR, FIGURES, MOST, VALUE, Answer

TOKEN = bytes(range(16))
texts = st.lists(st.binary(max_size=200), min_size=4, max_size=4)


def encoded(flags: int, parts: list[bytes]) -> bytes:
    return ANSWER.pack(TOKEN, flags, *map(len, parts)) + b"".join(parts)


def fed(data: bytes, cuts: list[int]) -> tuple[bool, Answer]:
    answer, complete, at = Answer(TOKEN), False, 0
    for each in sorted({*(cut % (len(data) + 1) for cut in cuts), len(data)}):
        complete = answer.feed(data[at:each])
        at = each
    return complete, answer


def test_both_ends_speak_the_same() -> None:
    assert (interpreter.ASK.format, interpreter.ANSWER.format, interpreter.MOST) == (ASK.format, ANSWER.format, MOST)
    assert (interpreter.VALUE, interpreter.ERROR, interpreter.FIGURES, interpreter.CUT) == (VALUE, ERROR, FIGURES, CUT)


@given(st.integers(0, 15), texts, st.lists(st.integers(0, 1000), max_size=10))
def test_an_answer_in_pieces_is_the_same(flags: int, parts: list[bytes], cuts: list[int]) -> None:
    complete, answer = fed(encoded(flags, parts), cuts)
    assert complete and answer.flags == flags
    assert answer.texts() == [each.decode("utf-8", "replace") for each in parts]


@given(st.integers(0, 15), texts, st.integers(0, 1000))
def test_half_an_answer_is_none(flags: int, parts: list[bytes], cut: int) -> None:
    data = encoded(flags, parts)
    complete, _ = fed(data[: cut % len(data)], [])
    assert not complete


@given(st.binary(max_size=200), st.lists(st.integers(0, 1000), max_size=10), st.booleans())
def test_rubbish(data: bytes, cuts: list[int], begins_well: bool) -> None:
    data = TOKEN + data if begins_well else data
    try:
        complete, answer = fed(data, cuts)
    except ValueError:
        return
    assert data[:16] == TOKEN[: len(data)]
    assert not complete or len(answer.texts()) == 4


@given(st.integers(0, 15), texts, st.binary(min_size=1, max_size=20))
def test_more_than_an_answer(flags: int, parts: list[bytes], more: bytes) -> None:
    with pytest.raises(ValueError):
        fed(encoded(flags, parts) + more, [])


@given(st.integers(0, 255), st.lists(st.integers(0, 2**32 - 1), min_size=4, max_size=4))
def test_no_length_is_believed_beyond_its_bound(flags: int, sizes: list[int]) -> None:
    data = ANSWER.pack(TOKEN, flags, *sizes)
    if flags > 15 or max(sizes) > MOST:
        with pytest.raises(ValueError):
            fed(data, [])
    else:
        assert fed(data, [])[0] == (sum(sizes) == 0)
