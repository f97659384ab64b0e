"""The house: who may import whom, what a start may load, how large a file may grow, and two lists that must agree."""

import ast
import os
import re
import subprocess

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SOURCE = f"{TOP}/src/dolium"
ORDER = ("core", "plan", "runtime", "engine", "sandbox", "aio", "pytest_plugin", "cli")
"""Each may import those before it."""
PURE = {"dolium", "math", "marshal", "unicodedata", "_struct"}
DEAR = ("argparse", "re", "enum", "typing", "dataclasses", "json", "logging", "pathlib", "subprocess", "asyncio", "ctypes", "contextlib",
        "functools", "collections", "importlib", "warnings", "signal", "types", "shlex")  # fmt: skip
"""What no start may load; tests/live/test_import_budget.py counts what each command does."""


def modules() -> list[str]:
    found = []
    for directory, _, names in os.walk(SOURCE):
        found += [os.path.join(directory, name) for name in names if name.endswith(".py")]
    return sorted(found)


def imported(path: str) -> set[str]:
    """What a module imports when it runs: not what is for type checkers only."""
    with open(path) as file:
        tree = ast.parse(file.read())
    names = set()
    skipped = {id(each) for node in ast.walk(tree) if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
               for each in ast.walk(node)}  # fmt: skip
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{each.name}" for each in node.names} | {node.module or ""}
    return names


def room(name: str) -> str:
    return name.split(".")[1] if name.startswith("dolium.") else ""


@pytest.mark.parametrize("path", modules(), ids=lambda path: os.path.relpath(path, SOURCE))
def test_imports_go_one_way(path: str) -> None:
    relative = os.path.relpath(path, SOURCE)
    own = relative.split(os.sep)[0].removesuffix(".py")
    names = imported(path)
    if own == "errors":
        assert not [name for name in names if name.startswith("dolium")]
    if own in ORDER:
        allowed = {*ORDER[: ORDER.index(own) + 1], "errors", "__version__"}
        assert {room(name) for name in names if name.startswith("dolium.")} <= allowed, names
    if own == "plan":
        assert {name.split(".")[0] for name in names} <= PURE, "the planner is pure"
        assert not {name for name in names if name.startswith("dolium.core") and "wire" not in name and name != "dolium.core"}
    if "dolium.core.spawn" in names:
        assert relative in ("runtime/launch.py", "runtime/watched.py")
    if "ctypes" in names:
        assert relative == "core/sys.py"


@pytest.mark.parametrize("statement", ["import dolium.cli.main, dolium.cli.run, dolium.engine.containers", "import dolium; dolium.run",
                                       "import dolium.cli.exec, dolium.cli.ps, dolium.cli.stop, dolium.cli.rm, dolium.engine.containers",
                                       "import dolium.cli.oci, dolium.cli.oci_life, dolium.runtime.lifecycle, dolium.runtime.exec, dolium.plan.bundle, dolium.plan.resources"])
def test_a_start_loads_nothing_dear(statement: str) -> None:
    code = f"import sys; sys.path.insert(0, {TOP + '/src'!r}); {statement}; print(*sys.modules)"
    loaded = subprocess.run(["/usr/bin/python3", "-IS", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if name in DEAR]
    assert "dolium.runtime.watched" in loaded or "dolium.engine.containers" in loaded


def test_files_stay_small() -> None:
    def lines(path: str) -> int:
        with open(path) as file:
            return len(file.readlines())

    large = {os.path.relpath(path, TOP): lines(path) for path in modules() if lines(path) > 450}
    assert not large
    c_files = {name: lines(f"{TOP}/init/{name}") for name in os.listdir(f"{TOP}/init") if name.endswith(".c")}
    others = {"keep.c": 1000, "verbs.c": 450, "exec_again.c": 320, "words.c": 150}
    assert sum(count for name, count in c_files.items() if name not in others) <= 1700, "docs/decisions/0018"
    assert all(c_files[name] <= most for name, most in others.items())
    assert not [path for path in modules() if re.search(r"/(utils?|common|helpers?|misc|base|manager)[^/]*\.py$", path)]


def test_the_two_lists_of_operations_agree() -> None:
    from dolium.core.wire import OPERATIONS

    with open(f"{TOP}/init/steps.def") as file:
        rows = re.findall(r"^STEP\((\w+),\s*(.*?)\)$", file.read(), re.M)
    assert {name: tuple(re.findall(r'"([^"]+)"', calls)) for name, calls in rows} == OPERATIONS
    assert [name for name, _ in rows] == list(OPERATIONS), "numbers on the wire are places in the list"


def test_the_layouts_agree(tmp_path: object) -> None:
    from dolium.core import wire

    program = f'#include <stdio.h>\n#include <stddef.h>\n#include "{TOP}/init/wire.h"\n' + """
int main(void) { printf("%zu %zu %zu %zu %zu %zu\\n", sizeof(struct header), sizeof(struct record), offsetof(struct record, path),
                        offsetof(struct record, error), offsetof(struct record, n1), offsetof(struct record, item)); }"""
    try:
        subprocess.run(["cc", "-xc", "-", "-o", f"{tmp_path}/sizes"], input=program, text=True, check=True)
    except FileNotFoundError:
        pytest.skip("no cc here")
    got = subprocess.run([f"{tmp_path}/sizes"], capture_output=True, text=True, check=True).stdout.split()
    assert [int(each) for each in got] == [wire.HEADER.size, wire.RECORD.size, 20, 36, 40, 72]


def test_every_public_thing_says_what_it_is() -> None:
    silent = []
    for path in modules():
        with open(path) as file:
            tree = ast.parse(file.read())
        if not ast.get_docstring(tree) and tree.body:
            silent.append(path)
        for node in tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
                silent.append(f"{path}: {node.name}")
    assert not silent
