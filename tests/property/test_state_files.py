"""What is written of a container can be read again, whatever it was asked for."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolium.core import document

NUMBERS = st.integers(-(1 << 70), 1 << 70) | st.floats(allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters()) | st.sampled_from(['"', "\\", "\x7f", "\n", "\ud800", "é", ""])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_json_is_what_the_module_json_reads(value: Any) -> None:
    assert json.loads(document.write(value)) == value


@given(st.lists(st.tuples(TEXT, NUMBERS), max_size=4))
def test_tuples_are_lists(value: list[tuple[str, Any]]) -> None:
    assert json.loads(document.write(value)) == [list(each) for each in value]


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    assert document.read(document.write(value), "it") == value


@pytest.mark.parametrize("value", [math.nan, -math.inf, b"x", {1: 2}, [object()]])
def test_what_json_has_not_is_not_written(value: Any) -> None:
    with pytest.raises(TypeError):
        document.write(value)
