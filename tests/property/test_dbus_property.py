"""Messages of D-Bus come back as they went out, and what is no message is said to be none, whatever it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolium.plan import dbus

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=12)
NUMBERS = {"y": (0, 255), "n": (-(1 << 15), (1 << 15) - 1), "q": (0, (1 << 16) - 1), "i": (-(1 << 31), (1 << 31) - 1), "u": (0, (1 << 32) - 1),
           "x": (-(1 << 63), (1 << 63) - 1), "t": (0, (1 << 64) - 1)}  # fmt: skip


def of(kind: str) -> st.SearchStrategy[Any]:
    """Values of a complete type, as Reader gives them."""
    first = kind[0]
    if first in NUMBERS:
        return st.integers(*NUMBERS[first])
    if first == "b":
        return st.booleans()
    if first == "d":
        return st.floats(allow_nan=False)
    if first in "so":
        return TEXT
    if first == "g":
        return SIGNATURE
    if first == "v":
        return SIMPLE.flatmap(lambda inner: st.tuples(st.just(inner), of(inner)))
    if kind == "ay":
        return st.binary(max_size=9)
    if first == "a":
        return st.lists(of(kind[1:]), max_size=3)
    return st.tuples(*map(of, dbus.types(kind[1:-1])))


SIMPLE = st.sampled_from([*NUMBERS, "b", "s", "o", "ay", "as", "a(ss)", "(st)", "au"])
TYPE = st.recursive(st.sampled_from([*NUMBERS, "b", "d", "s", "o", "g", "v"]),
                    lambda inner: inner.map(lambda each: f"a{each}") | st.lists(inner, min_size=1, max_size=3).map(lambda all: f"({''.join(all)})"),
                    max_leaves=5)  # fmt: skip
SIGNATURE = st.lists(TYPE, max_size=4).map("".join)
BODY = st.lists(TYPE, max_size=4).flatmap(lambda kinds: st.tuples(st.just("".join(kinds)), st.tuples(*map(of, kinds))))


@given(BODY)
@settings(max_examples=200)
def test_values_come_back(body: tuple[str, tuple[Any, ...]]) -> None:
    signature, values = body
    assert dbus.Reader(dbus.encode(signature, values)).values(signature) == [*values]


@given(BODY, st.integers(1, (1 << 32) - 1))
def test_a_call_comes_back(body: tuple[str, tuple[Any, ...]], serial: int) -> None:
    signature, values = body
    data = dbus.call(serial, "a.b", "/a/b", "a.c", "Do", signature, values)
    found = dbus.parse(data)
    assert dbus.length(data[: dbus.FIXED]) == len(data)
    assert (found.kind, found.serial, found.values) == (dbus.CALL, serial, [*values])
    assert [found.fields[each] for each in (dbus.PATH, dbus.INTERFACE, dbus.MEMBER, dbus.DESTINATION)] == ["/a/b", "a.c", "Do", "a.b"]


@given(st.binary(max_size=80), SIGNATURE)
def test_any_bytes(data: bytes, signature: str) -> None:
    try:
        dbus.Reader(data).values(signature)
    except ValueError:
        pass


@given(BODY, st.data())
def test_a_message_with_other_bytes_in_it(body: tuple[str, tuple[Any, ...]], more: st.DataObject) -> None:
    data = bytearray(dbus.call(1, "a.b", "/a/b", "a.c", "Do", *body))
    data[more.draw(st.integers(0, len(data) - 1))] = more.draw(st.integers(0, 255))
    try:
        dbus.parse(bytes(data))
    except ValueError:
        pass


@given(st.text(max_size=40))
def test_any_signature(text: str) -> None:
    try:
        assert "".join(dbus.types(text)) == text
    except ValueError:
        pass


@pytest.mark.parametrize(("signature", "values"), [("y", (256,)), ("s", (5,)), ("s", ("a\0",)), ("u", ()), ("", (1,)), ("as", (5,)), ("(ss)", (("a",),)),
                                                   ("v", (("ss", 1),)), ("z", (1,)), ("t", (-1,)), ("(s", (("a",),)), ("a", ([],)), ("()", ((),))])
def test_what_does_not_fit(signature: str, values: tuple[Any, ...]) -> None:
    with pytest.raises(ValueError, match=r"."):
        dbus.encode(signature, values)


def test_a_host_with_the_highest_byte_first() -> None:
    data = bytes.fromhex("42010001 00000008 00000005 00000000".replace(" ", "")) + bytes.fromhex("0000000361626300")
    data = data[:12] + (16).to_bytes(4, "big") + bytes.fromhex("0801670001730000") + bytes.fromhex("0501750000000007") + data[16:]
    found = dbus.parse(data)
    assert (found.serial, found.fields, found.values) == (5, {dbus.SIGNATURE: "s", dbus.REPLY_SERIAL: 7}, ["abc"])
