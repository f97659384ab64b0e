"""What the build prepares is what a start would make itself."""

import glob
import marshal
import os
import shutil
import subprocess
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from dolium.core import PROGRAMS
from dolium.plan import capabilities, filter, seccomp
from dolium.plan.seccomp_default import default_profile

PACKAGE = os.path.dirname(PROGRAMS)
TOP = os.path.dirname(os.path.dirname(PACKAGE))
PYTHON = f"{TOP}/.build/python"


def content(name: str) -> bytes:
    if not os.path.exists(f"{PROGRAMS}/{name}"):
        pytest.skip(f"{name} has not been built: make")
    with open(f"{PROGRAMS}/{name}", "rb") as file:
        return file.read()


def test_filters_are_those_of_the_compiler() -> None:
    filters = marshal.loads(content("filters"))
    profile = default_profile(frozenset(capabilities.DEFAULT))
    assert filters[filter.key(profile, "x86_64")] == seccomp.compile(profile)


def test_modules_are_those_of_the_source() -> None:
    saved = content("modules")
    if saved[: len(MAGIC_NUMBER)] != MAGIC_NUMBER:
        pytest.skip("built for another Python")
    _, stamp, index = marshal.loads(saved[len(MAGIC_NUMBER) + 4 :])
    sources = [path for path in glob.glob(f"{PACKAGE}/**/*.py", recursive=True)]
    assert len(index) == len(sources)
    for name, (is_package, changed, size, start, length) in index.items():
        path = f"{PACKAGE.removesuffix('dolium')}{name.replace('.', '/')}{'/__init__' if is_package else ''}.py"
        status = os.stat(path)
        assert (status.st_mtime_ns, status.st_size) == (changed, size), f"{path} is newer than the build: make"
        code = saved[start : start + length]
        assert code.startswith(stamp) and marshal.loads(code[len(stamp) :]).co_filename == path


PROGRAM = """
import sys
sys.path.insert(0, sys.argv[1])
from marshal import loads
from _frozen_importlib_external import MAGIC_NUMBER
with open(sys.argv[1] + "/dolium/programs/modules", "rb") as file:
    saved = file.read()
if saved[: len(MAGIC_NUMBER)] == MAGIC_NUMBER:
    code, stamp, index = loads(saved[len(MAGIC_NUMBER) + 4 :])
    room = {}
    exec(code, room)
    room["install"](sys.argv[1], stamp if sys.argv[2] == "same" else b"another.", index)
import dolium.plan.origin
print(type(dolium.plan.origin.__spec__.loader).__name__, dolium.plan.origin.__file__, *vars(dolium.plan.origin))
"""


def loaded(source: object, stamp: str = "same") -> "tuple[str, str, list[str]]":
    """By whom a module is loaded, from where, and its names."""
    found = subprocess.run([PYTHON, "-ISB", "-c", PROGRAM, str(source), stamp], capture_output=True, text=True, check=True)
    loader, path, *names = found.stdout.split()
    return loader, path, names


def test_a_module_that_has_changed_is_imported_from_its_source(tmp_path: Path) -> None:
    """Also one that the build changes while a command starts: then the file is another than that of the index."""
    content("modules")
    shutil.copytree(PACKAGE, tmp_path / "dolium", ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run([PYTHON, "-ISB", f"{TOP}/make/prepare.py", tmp_path, tmp_path], check=True)
    path = tmp_path / "dolium/plan/origin.py"
    usual = loaded(tmp_path)
    assert usual[:2] == ("Finder", str(path)) and "fresh" not in usual[2]
    assert loaded(tmp_path, "other")[:2] == ("SourceFileLoader", str(path))
    with path.open("a") as file:
        file.write("fresh = 1\n")
    changed = loaded(tmp_path)
    assert changed[:2] == ("SourceFileLoader", str(path)) and "fresh" in changed[2]
