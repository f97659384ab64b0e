"""Messages of DNS: what a program or a server may send, and what is made of it, whatever it is."""

from __future__ import annotations

import struct
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as some

from dolium.plan import dns

LABEL = some.text("abcxyzABC019-_", min_size=1, max_size=63)
NAME = some.lists(LABEL, min_size=1, max_size=5).map(".".join).filter(lambda name: len(name) < 250)
ADDRESS = some.binary(min_size=4, max_size=4)


def packed(name: str) -> bytes:
    return b"".join(bytes([len(each)]) + each.encode() for each in name.split(".")) + b"\0"


def asked(name: str, kind: int = 1, number: int = 7, flags: int = 0x100) -> bytes:
    return struct.pack(">HHHHHH", number, flags, 1, 0, 0, 0) + packed(name) + struct.pack(">HH", kind, 1)


def record(owner: bytes, kind: int, seconds: int, content: bytes) -> bytes:
    return owner + struct.pack(">HHIH", kind, 1, seconds, len(content)) + content


@given(some.binary(max_size=600))
@example(b"\0\7\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1")
@example(b"\0\7\1\0\0\1\0\0\0\0\0\0" + b"\1." * 130 + b"\0\0\1\0\1")
def test_whatever_a_program_sends(data: bytes) -> None:
    found = dns.question(data)
    if found is not None:
        told = dns.reply(found, found.refusal, [], 0)
        assert told[:2] == data[:2] and told[2] & 0x80 and dns.question(told) is None, "two resolvers would talk forever"
        if not found.refusal:
            assert {*found.name} <= {*"abcdefghijklmnopqrstuvwxyz0123456789-_."} and data.count(found.text) >= 1


@given(some.binary(max_size=600), some.integers(0, 65535), NAME)
def test_whatever_a_server_sends(data: bytes, number: int, name: str) -> None:
    dns.answer(data, number, name.lower())
    head = struct.pack(">HHHHHH", number, 0x8180, 1, 9, 0, 0) + packed(name) + b"\0\1\0\1"
    found = dns.answer(head + data, number, name.lower())
    assert found is None or all(len(each) == 4 for each in found.addresses)


@given(NAME, some.sampled_from([1, 28, 16, 255]), some.integers(0, 65535))
def test_a_question_is_read_back(name: str, kind: int, number: int) -> None:
    found = dns.question(asked(name, kind, number))
    assert found and (found.name, found.type, found.id, found.refusal) == (name.lower(), kind, number, 0)
    own = dns.question(dns.query(number, found.name))
    assert own and own.name == found.name and own.type == dns.A


@given(NAME, some.lists(ADDRESS, max_size=40), some.integers(0, 1 << 20))
def test_an_answer_fits_and_is_read_back(name: str, addresses: list[bytes], seconds: int) -> None:
    question = dns.question(asked(name))
    assert question
    told = dns.reply(question, 0, addresses, seconds)
    assert len(told) <= 512
    found = dns.answer(told, 7, question.name)
    assert found and found.addresses == [*dict.fromkeys(addresses[:dns.MOST])]
    assert found.seconds == (min(seconds, dns.WEEK) if addresses else dns.WEEK)
    assert dns.answer(told, 8, question.name) is None and dns.answer(told, 7, "another." + question.name) is None


@given(some.lists(NAME, min_size=1, max_size=20, unique_by=str.lower), ADDRESS, some.lists(some.integers(0, 1 << 32 - 1), min_size=20, max_size=20),
       some.randoms())
def test_a_chain_is_followed_and_what_is_beside_it_ignored(names: list[str], address: bytes, times: list[int], order: object) -> None:
    records = [record(packed(one), 5, times[index], packed(two)) for index, (one, two) in enumerate(pairwise(names))]
    records.append(record(packed(names[-1]), 1, times[19], address))
    records.append(record(packed("beside." + names[0]) if len(names[0]) < 240 else packed("x"), 1, 5, b"\1\2\3\4"))
    order.shuffle(records)  # type: ignore[attr-defined]
    data = struct.pack(">HHHHHH", 7, 0x8180, 1, len(records), 0, 0) + packed(names[0]) + b"\0\1\0\1" + b"".join(records)
    found = dns.answer(data, 7, names[0].lower())
    assert found
    beside = names[0].lower() == "x" or any(each.lower() in ("x", f"beside.{names[0]}".lower()) for each in names)
    if not beside:
        assert found.addresses == ([address] if len(names) - 1 <= dns.CHAIN else [])  # 17 names are 16 links


@given(some.integers(12, 200), some.binary(min_size=1, max_size=64))
def test_pointers_come_to_an_end(target: int, rest: bytes) -> None:
    """Into themselves, forwards, and in a circle."""
    data = struct.pack(">HHHHHH", 7, 0x8180, 1, 1, 0, 0) + b"\1a\xc0" + bytes([target & 255]) + b"\0\1\0\1" + rest * 4
    dns.answer(data, 7, "a")
    assert dns._name(b"\0" * 12 + b"\1a\xc0\x0c", 12) is None
    assert dns._name(b"\0" * 12 + b"\1b\0\1a\xc0\x0c", 15) == ("a.b", 19)
