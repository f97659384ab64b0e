"""What stands in the files of the repository: names, docstrings, the words of steps, and nothing of the place it was written at."""

from __future__ import annotations

import ast
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import SYSTEM_PYTHON, TOP

SOURCE = Path(TOP) / "src" / "dolium"
MODULES = sorted(SOURCE.rglob("*.py"))
FORBIDDEN = {"util", "utils", "common", "helper", "helpers", "misc", "base", "manager", "managers", "lib", "tools"}
LINES = 450


def tracked() -> list[Path]:
    """The files of the repository; of a copy without git, all."""
    listed = subprocess.run(["git", "-C", TOP, "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode == 0:
        return [Path(TOP, name) for name in listed.stdout.split("\0") if name and Path(TOP, name).is_file()]
    kept = {".git", ".build", "__pycache__", "programs"}
    return [path for path in Path(TOP).rglob("*") if path.is_file() and not kept & {*path.relative_to(TOP).parts}]


TRACKED = tracked()


def relative(path: Path) -> str:
    return str(path.relative_to(TOP))


def test_there_is_something_to_look_at() -> None:
    assert len(MODULES) > 30 and len(TRACKED) > 80
    assert (SOURCE / "plan" / "build.py") in MODULES


@pytest.mark.parametrize("path", [*MODULES, *sorted(Path(TOP, "init").iterdir())], ids=relative)
def test_no_file_outgrows_a_readers_patience(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= LINES


def test_names_say_what_is_inside() -> None:
    wrong = [relative(path) for path in TRACKED for word in re.split(r"[^a-z]+", str(path.relative_to(TOP)).lower())
             if word in FORBIDDEN and "tests/" not in relative(path) and not relative(path).startswith(".")]  # fmt: skip
    assert not wrong
    classes = [f"{relative(path)}: {node.name}" for path in MODULES for node in ast.walk(ast.parse(path.read_text()))
               if isinstance(node, ast.ClassDef) and re.search("Manager|Helpers|Utils?|Base$", node.name)]  # fmt: skip
    assert not classes


def public(path: Path) -> Iterator[tuple[str, ast.AST]]:
    """Public functions, classes and methods of a module, but those whose meaning is Python's own (`__init__`)."""
    def within(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, ast.AST]]:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                yield prefix + node.name, node
                if isinstance(node, ast.ClassDef):
                    yield from within(node.body, f"{prefix}{node.name}.")
    yield from within(ast.parse(path.read_text()).body, "")


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_public_names_of_the_api_have_docstrings(path: Path) -> None:
    """What `dolium` exports and what carries a plan: every function, class and method."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, "the module"
    silent = [f"{path.relative_to(SOURCE)}: {name}" for name, node in public(path)
              if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert not silent


def constant(node: ast.expr) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def step_texts() -> list[tuple[str, str, str]]:
    """(where, field, text) of each constant `what` and `note` that a step is given."""
    found = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("Step", "place", "one"):
                for word in node.keywords:
                    if word.arg in ("what", "note") and (text := constant(word.value)) is not None:
                        found.append((f"{relative(path)}:{node.lineno}", word.arg, text))
    return found


def test_the_words_of_a_step_fit_its_line() -> None:
    """Two columns of a line of eighty: 34 for what, 37 for the note."""
    texts = step_texts()
    assert len(texts) > 60
    too_long = [each for each in texts if len(each[2]) > {"what": 34, "note": 37}[each[1]]]
    assert not too_long
    assert not [each for each in texts if not each[2].strip() or each[2] != each[2].strip() or each[2].endswith(".")]


def places() -> list[str]:
    """Paths of this checkout and of what lies beside it, and this machine's name."""
    beside = [str(each) for each in Path(TOP).parent.iterdir()] if len(Path(TOP).parts) > 2 else []
    name = os.uname().nodename
    return [*beside, TOP, *([name] if len(name) > 8 and name != "localhost" else [])]


def test_nothing_of_the_machine_it_was_written_on() -> None:
    pattern = re.compile("|".join(rf"(?<![\w.]){re.escape(each)}(?![\w-])" for each in places()) + r"|\.pyenv/shims|/tmp/tmp\w{8}\b")
    assert pattern.search(f"see {TOP}/README.md")
    wrong = []
    for path in TRACKED:
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        if path != Path(__file__):
            wrong += [f"{relative(path)}:{number}: {line.strip()[:120]}" for number, line in enumerate(text.splitlines(), 1)
                      if pattern.search(line)]  # fmt: skip
    assert not wrong, "\n".join(wrong)


def test_no_path_below_a_rootfs_is_built_from_text() -> None:
    """By descriptor only: what joins names follows the symbolic links of an image on the host (CVE-2024-45310)."""
    pattern = re.compile(r"os\.path\.join\(\s*\w*(root|rootfs)\w*|f\"\{[\w.]*root(fs)?(\.path)?\}/|root(fs)?\.path\s*\+")
    wrong = [f"{relative(path)}:{number}: {line.strip()}" for path in MODULES for number, line in enumerate(path.read_text().splitlines(), 1)
             if pattern.search(line)]  # fmt: skip
    assert not wrong, "\n".join(wrong)


DEAR = {"argparse", "re", "enum", "typing", "dataclasses", "json", "logging", "pathlib", "subprocess", "asyncio", "ctypes"}
START = """
import sys
sys.path.insert(0, sys.argv[1])
import dolium
from dolium.cli import flags, main, run
flags.parse(["-m", "64m", "--cpus", "0.5", "-e", "A=b", "-v", "/srv:/data:ro", "@host", "true"])
dolium.run
for name, module in sys.modules.items():
    print(f"{name}={getattr(module, '__file__', None)}")
"""


def test_a_start_loads_nothing_of_others() -> None:
    """Of a normal command line, parsed: no third-party package, and none of the standard library that is slow to import."""
    done = subprocess.run([SYSTEM_PYTHON, "-IS", "-c", START, str(SOURCE.parent)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = dict(line.partition("=")[::2] for line in done.stdout.splitlines())
    assert "dolium.cli.flags" in loaded and "dolium.engine.containers" in loaded
    assert not DEAR & {*loaded}
    assert not [path for path in loaded.values() if "site-packages" in path or "dist-packages" in path]
    assert not {"dolium.cli.terminal", "termios"} & {*loaded}, "only where there is a -t"


def test_programs_start_in_the_same_way() -> None:
    """From a clone, below a prefix, out of a virtual environment; only their names, what they call and what its failure is differ."""
    own = r"(?m)^from dolium\.cli\.\w+ import main\n|(?<=sys\.exit)\(\d+\)|(?<=dolium|odules)-oci\b"
    programs = sorted(Path(TOP, "bin").iterdir())
    ours = [re.sub(own, "", each.read_text()) for each in programs]
    assert [each.name for each, text in zip(programs, ours, strict=True) if text != ours[0]] == []
    assert all(os.access(each, os.X_OK) for each in programs)
