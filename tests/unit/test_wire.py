"""The two sides of the wire agree: operations, layouts, constants."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from containers import TOP
from decoded import decode

from dolium.core import wire
from dolium.errors import SpecError
from dolium.plan import bundle, slots
from dolium.runtime import ending

INIT = Path(TOP) / "init"
HEADER_FIELDS = ("magic", "size", "records", "message_length", "failed", "phase", "child", "status", "slots", "message")
RECORD_FIELDS = ("op", "actor", "call", "accept", "other_errno", "out", "fd", "fd2", "path", "path2", "data", "length",
                 "error", "n1", "n2", "n3", "nanoseconds", "branch", "fault", "item", "other")  # fmt: skip


def test_operations_are_those_of_the_helper() -> None:
    """Names, order (a number on the wire is a place in the list) and calls."""
    text = re.sub(r"/\*.*?\*/", "", (INIT / "steps.def").read_text(), flags=re.S)
    rows = re.findall(r"STEP\((\w+),([^)]*)\)", text)
    assert len(rows) == text.count("STEP(")
    assert [(name, tuple(re.findall(r'"([^"]+)"', calls))) for name, calls in rows] == [*wire.OPERATIONS.items()]


def test_every_operation_is_written_once() -> None:
    source = "\n".join(each.read_text() for each in INIT.glob("*.c"))
    for name in wire.OPERATIONS:
        assert len(re.findall(rf"^int step_{name}\(struct record \*r\)", source, re.M)) == 1, name


def test_every_call_that_is_reported_has_a_name() -> None:
    """`fail(r, 2)` in an operation of two calls would be reported under another's name."""
    bodies: dict[str, str] = {}
    for each in INIT.glob("*.c"):
        for name, body in re.findall(r"^int step_(\w+)\(struct record \*r\)\n\{(.*?)^\}", each.read_text(), re.M | re.S):
            bodies[name] = body
    assert {*bodies} == {*wire.OPERATIONS}
    for name, calls in wire.OPERATIONS.items():
        used = {int(each) for each in re.findall(r"fail\(r, (\d+)\)", bodies[name])}
        assert all(number < len(calls) for number in used), (name, used, calls)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the C compiler says of the layouts."""
    compiler = shutil.which("cc") or shutil.which("musl-gcc")
    if not compiler:
        pytest.skip("no C compiler")
    lines = [f'show("{kind}.{name}", offsetof(struct {kind}, {name}));'
             for kind, names in (("header", HEADER_FIELDS), ("record", RECORD_FIELDS)) for name in names]  # fmt: skip
    lines += [f'show("{name}", {value});' for name, value in (
        ("header", "sizeof(struct header)"), ("record", "sizeof(struct record)"), ("magic", "WIRE_MAGIC"), ("slots", "SLOTS"),
        ("message", "MESSAGE"), ("outside", "OUTSIDE"), ("inside", "INSIDE"))]  # fmt: skip
    directory = tmp_path_factory.mktemp("layout")
    (directory / "layout.c").write_text(
        "#include <stddef.h>\n#include <stdio.h>\n#include \"wire.h\"\n"
        'static void show(const char *name, size_t value) { printf("%s %zu\\n", name, value); }\n'
        "int main(void) { " + "\n".join(lines) + " return 0; }\n")  # fmt: skip
    subprocess.run([compiler, "-std=c11", f"-I{INIT}", "-o", directory / "layout", directory / "layout.c"], check=True)
    text = subprocess.run([directory / "layout"], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in map(str.split, text.splitlines())}


def offsets(layout: str, names: tuple[str, ...]) -> dict[str, int]:
    """The offset of each item of a struct format without padding; a repeated one counts once."""
    from struct import calcsize

    items = re.findall(r"\d*[a-zA-Z]", layout.lstrip("="))
    found, place = {}, 0
    words: list[str] = []
    for item in items:
        words += [item[-1]] * int(item[:-1]) if item[-1] not in "hxs" and item[:-1] else [item]
    for name, word in zip(names, words, strict=False):
        found[name] = place
        place += calcsize("=" + word)
    return found


def test_layouts(compiled: dict[str, int]) -> None:
    assert (wire.HEADER.size, wire.RECORD.size) == (compiled["header"], compiled["record"])
    assert wire.HEADER.size % 8 == wire.RECORD.size % 8 == 0, "int64_t must lie on a multiple of eight"
    assert (compiled["magic"], compiled["slots"], compiled["message"]) == (wire.MAGIC, wire.SLOTS, wire.MESSAGE)
    assert (compiled["outside"], compiled["inside"], 3) == (wire.OUTSIDE, wire.INSIDE, wire.BOTH)
    assert offsets(wire.HEADER.format, HEADER_FIELDS) == {name: compiled[f"header.{name}"] for name in HEADER_FIELDS}
    assert offsets(wire.RECORD.format, RECORD_FIELDS) == {name: compiled[f"record.{name}"] for name in RECORD_FIELDS}


def test_the_place_of_faults(compiled: dict[str, int]) -> None:
    """tests/faults writes there."""
    place = re.search(r"^FAULT = wire\.RECORD\.size - (\d+)$", Path(TOP, "tests/faults/testbuild.py").read_text(), re.M)
    assert place and wire.RECORD.size - int(place[1]) == compiled["record.fault"]


def test_how_a_container_ended_is_as_keep_says_it() -> None:
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    program = f'#include "{INIT}/ending.h"\n_Static_assert(sizeof(struct ending) == {ending.MESSAGE.size}, "");\n'
    subprocess.run([compiler, "-std=c11", "-fsyntax-only", "-xc", "-"], input=program, text=True, check=True)


def test_slots_do_not_overlap() -> None:
    numbers = {name: value for name, value in vars(slots).items() if name.isupper()}
    assert len({*numbers.values()}) == len(numbers)
    assert numbers.pop("DENIALS") == wire.SLOTS - 1, "the last one, which only more mounts than there are slots would reach"
    later = {"FIRST_MOUNT", "FIRST_USERS", "FIRST_JOINED", "SNAPSHOTS", "LINKS"}
    assert max(value for name, value in numbers.items() if name not in later) < slots.FIRST_MOUNT < wire.SLOTS
    assert slots.FIRST_TASKS + 16 <= slots.FIRST_MOUNT and slots.FIRST_FILE + 5 <= slots.SYS
    assert slots.FIRST_MOUNT + bundle.MOST <= slots.SNAPSHOTS < slots.FIRST_USERS < slots.FIRST_USERS + 6 <= slots.FIRST_JOINED
    assert slots.FIRST_JOINED + 8 <= slots.LINKS < slots.DENIALS


@pytest.mark.parametrize(("field", "value"), [
    ("path", "a\0b"), ("path2", "\0"), ("path", "\ud800"), ("path2", "x\udfff")])
def test_strings_that_no_call_takes(field: str, value: str) -> None:
    with pytest.raises(SpecError) as caught:
        wire.encode([wire.Step("open", wire.OUTSIDE, "mounts[3]", **{field: value})], {})
    assert caught.value.path == "mounts[3]"
    with pytest.raises(SpecError):
        wire.strings("x", value, why="mounts[3]")


def test_undecodable_bytes_pass() -> None:
    """A file name that is no UTF-8 comes as surrogate escapes and goes as it came."""
    assert wire.strings("\udcff/ü") == b"\xff/\xc3\xbc\0"


@pytest.mark.parametrize("room", [wire.ACCEPTED, wire.ACCEPTED + 1], ids=["as-many-as-it-holds", "one-more"])
def test_no_errno_is_lost_on_the_way(room: int) -> None:
    step = wire.Step("mkdir", wire.INSIDE, "process.cwd", accept=tuple(range(1, room + 1)))
    if room > wire.ACCEPTED:
        with pytest.raises(AssertionError, match=r"mkdir of process\.cwd accepts 5 errnos"):
            wire.encode([step], {})
    else:
        assert decode(wire.encode([step], {}).data)[1][0]["accept4"] == 4
