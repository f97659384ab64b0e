"""What a filter of devices answers, by the kernel's rules for both versions of cgroups, against the meaning of its rules."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dolium.errors import Unsupported
from dolium.plan import device_filter as d

LETTERS = {"r": d.READ, "w": d.WRITE, "m": d.MKNOD}
NUMBERS = st.sampled_from([None, -1, 0, 1, 3, 5, 136, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])
RULE = st.fixed_dictionaries(
    {"allow": st.booleans()},
    optional={"type": st.sampled_from(["a", "b", "c"]), "major": NUMBERS, "minor": NUMBERS,
              "access": st.sets(st.sampled_from("rwm"), min_size=1).map(lambda found: "".join(sorted(found)))})  # fmt: skip
RULES = st.lists(RULE, max_size=8)
REQUEST = st.tuples(st.sampled_from("bc"), st.sampled_from([0, 1, 3, 5, 136, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]),
                    st.sampled_from([0, 1, 3, 5, 9, 0xFFFFFFFF]),
                    st.sampled_from([d.MKNOD, d.READ, d.WRITE, d.READ | d.WRITE]))  # fmt: skip


def names(rule: dict[str, Any], kind: str, major: int, minor: int) -> bool:
    return (rule.get("type", "a") in ("a", kind) and rule.get("major") in (None, -1, major) and rule.get("minor") in (None, -1, minor))


def means(rules: list[dict[str, Any]], kind: str, major: int, minor: int, wanted: int) -> bool:
    """Each part of the request by the last rule on it, in words as plain as the module's first lines."""
    closing = [index for index, rule in enumerate(rules, 1) if not rule["allow"] and rule.get("type", "a") == "a"
               and len(rule.get("access", "rwm")) == 3 and all(rule.get(key) in (None, -1) for key in ("major", "minor"))]  # fmt: skip
    begin = closing[-1] if closing else 0
    usual = [{"allow": True, "type": "c", "major": of, "minor": number} for of, number in d.USUAL]
    every = [*rules[:begin], *usual, *rules[begin:], {"allow": True, "access": "m"}]

    def part(letter: str) -> bool:
        found = [rule["allow"] for rule in every if names(rule, kind, major, minor) and letter in rule.get("access", "rwm")]
        return bool(found) and found[-1]

    return all(part(letter) for letter, bit in LETTERS.items() if wanted & bit)


def run(program: bytes, kind: int, major: int, minor: int, wanted: int) -> int:
    """The kernel's machine, as far as these programs use it: bits of 32, jumps forward only."""
    registers: dict[int, int] = {}
    context = struct.pack("=III", wanted << 16 | kind, major, minor)
    at = 0
    while True:
        operation, pair, offset, value = struct.unpack_from("<BBhi", program, 8 * at)
        to, source, value = pair & 15, pair >> 4, value & 0xFFFFFFFF
        at += 1
        assert offset >= 0
        if operation == 0x61:
            assert source == 1 and offset in (0, 4, 8), "the context's fields, whole"
            registers[to] = struct.unpack_from("=I", context, offset)[0]
        elif operation == 0xB4:
            registers[to] = value
        elif operation == 0xBC:
            registers[to] = registers[source]
        elif operation == 0x54:
            registers[to] &= value
        elif operation == 0x74:
            registers[to] >>= value
        elif operation == 0x16:
            at += offset if registers[to] == value else 0
        elif operation == 0x56:
            at += offset if registers[to] != value else 0
        elif operation == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"no such operation: {operation:#x}")


def kernel_v1(lines: list[tuple[str, str]], kind: str, major: int, minor: int, wanted: int) -> bool:
    """security/device_cgroup.c: one answer for all, and exceptions; a request must be held by one exception that allows it, or
    meet none that refuses any of it.  As the kernel has it, an exception of other numbers is another exception."""
    assert [text for _, text in lines].count("a") == 1 and lines[0][1] == "a"
    answer = lines[0][0] == "devices.allow"
    contrary = "devices.deny" if answer else "devices.allow"
    touched = False
    for file, text in lines[1:]:
        assert file == contrary
        of, numbers, letters = text.split()
        left, right = numbers.split(":")
        if of != kind or left not in ("*", str(major)) or right not in ("*", str(minor)):
            continue
        bits = sum(LETTERS[each] for each in letters)
        touched = touched or (bool(wanted & bits) if answer else not wanted & ~bits)
    return answer != touched


@given(RULES, st.lists(REQUEST, min_size=1, max_size=12))
def test_the_program_of_cgroup_v2(rules: list[dict[str, Any]], requests: list[tuple[str, int, int, int]]) -> None:
    program = d.compile(d.read(rules))
    for kind, major, minor, wanted in requests:
        assert run(program, d.KINDS[kind], major, minor, wanted) == means(rules, kind, major, minor, wanted), (kind, major, minor, wanted)


@given(RULES, st.lists(REQUEST, min_size=1, max_size=12))
def test_the_exceptions_of_cgroup_v1(rules: list[dict[str, Any]], requests: list[tuple[str, int, int, int]]) -> None:
    try:
        lines = d.lists(d.read(rules))
    except Unsupported:
        assert any(not rule["allow"] for rule in rules), "what is only allowed can be said"
        return
    for kind, major, minor, wanted in requests:
        assert kernel_v1(lines, kind, major, minor, wanted) == means(rules, kind, major, minor, wanted), (kind, major, minor, wanted)


@given(RULES)
def test_every_path_of_the_program_ends(rules: list[dict[str, Any]]) -> None:
    """As the kernel's verifier wants it: every instruction can be reached, and no path leaves the program."""
    program = d.compile(d.read(rules))
    count = len(program) // 8
    seen, ahead = set(), [0]
    while ahead:
        at = ahead.pop()
        if at in seen:
            continue
        assert 0 <= at < count
        seen.add(at)
        operation, _, offset, _ = struct.unpack_from("<BBhi", program, 8 * at)
        if operation != 0x95:
            ahead += [at + 1] + ([at + 1 + offset] if operation in (0x16, 0x56) else [])
    assert seen == {*range(count)}
