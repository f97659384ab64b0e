"""What a command loads while it does its work: the modules of Python's own that it may, and how many of ours.

Modules are a third of what a start costs (docs/decisions/0033).  A name that is missing in STANDARD, or a number that is too small
here, is a question to whoever changes it: is it worth its milliseconds on this path?
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator

import pytest
from bundles import Bundle, config
from containers import Dolium

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{TOP}/make")

from install import command

INTERPRETER = {"_abc", "_codecs", "_frozen_importlib_external", "_io", "_signal", "abc", "codecs", "encodings", "encodings.aliases",
               "encodings.utf_8", "io", "marshal", "posix", "time", "zipimport"}  # fmt: skip
OS = {"_stat", "genericpath", "os", "posixpath", "stat"}
STANDARD = INTERPRETER | OS | {"_json", "_socket", "_struct", "fcntl", "gc", "select"}
"""Written in C, but for what `os` needs."""
OF_LAYERS = {"_sha2", "_sha256"}
"""What `ps` needs to look after unpacked layers, where this host has any."""


def loaded(program: str, *words: str) -> tuple[set[str], set[str]]:
    """The modules that a command loads as `make install` writes it: the standard library's, and ours."""
    argv = [f"{TOP}/.build/python", "-X", "importtime", "-ISc", command(program, f"{TOP}/src/python").decode(), *words]
    with tempfile.TemporaryFile("w+") as said:  # no pipe: a created container holds on to its end
        code = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said).returncode
        said.seek(0)
        text = said.read()
    assert code == 0, text
    lines = [line for line in text.splitlines() if line.startswith("import time:") and "cumulative" not in line]
    names = {line.rpartition("|")[2].strip() for line in lines}
    ours = {name for name in names if name.partition(".")[0] == "dolium"}
    return names - ours, ours


@pytest.fixture
def sleeper(root: Dolium) -> Iterator[str]:
    name = root("run", "-d", "--network", "none", "@host", "sleep", "1000").stdout.strip()
    yield name
    root("rm", "-f", name)


@pytest.mark.parametrize(("most", "words"), [(54, "run --rm --network none @host true"), (58, "run --rm --network bridge @host true"),
                                             (54, "run --rm --network none -m 64m --cpus 0.5 --read-only @host true")])  # fmt: skip
def test_of_run(root: Dolium, most: int, words: str) -> None:
    assert root(*words.split()).code == 0  # the bridge and its rules are made by the first that needs them
    foreign, ours = loaded("dolium", *words.split())
    assert foreign <= STANDARD and len(ours) <= most, sorted(ours)


@pytest.mark.parametrize(("most", "words"), [(58, "exec NAME true"), (60, "ps"), (52, "stop -t 0 NAME"), (52, "kill NAME"), (52, "rm -f NAME")])
def test_of_what_is_said_to_one_that_runs(root: Dolium, sleeper: str, most: int, words: str) -> None:
    foreign, ours = loaded("dolium", *(sleeper if each == "NAME" else each for each in words.split()))
    assert foreign - OF_LAYERS <= STANDARD and len(ours) <= most, sorted(ours)


@pytest.fixture
def verb(bundle: Bundle) -> Callable[..., tuple[set[str], set[str]]]:
    return lambda *words: loaded("dolium-oci", "--root", bundle.root, *words)


def test_of_the_verbs_of_an_engine(bundle: Bundle, verb: Callable[..., tuple[set[str], set[str]]]) -> None:
    bundle.write(config(process__args=["sleep", "1000"]))
    found = {"create": verb("create", "--bundle", bundle.directory, bundle.id)}
    for words in ("state", "start", "exec", "kill", "delete"):
        more = {"exec": ["true"], "kill": ["18"]}.get(words, [])
        found[words] = verb(words, *(["--force"] if words == "delete" else []), bundle.id, *more)
    bundle.write(config(process__args=["true"]))
    found["run"] = verb("run", "--bundle", bundle.directory, f"{bundle.id}-run")
    assert {name: sorted(foreign - STANDARD) for name, (foreign, _) in found.items() if foreign - STANDARD} == {}
    most = {"create": 44, "state": 12, "start": 13, "exec": 43, "kill": 14, "delete": 14, "run": 47}
    assert {name: len(ours) for name, (_, ours) in found.items() if len(ours) > most[name]} == {}


def test_of_the_library(root: Dolium) -> None:
    program = f"import sys; sys.path.insert(0, {TOP + '/src'!r}); import dolium; dolium.run(['true'], check=True); print(*sys.modules)"
    ended = subprocess.run([f"{TOP}/.build/python", "-IS", "-c", program], capture_output=True, text=True, check=True)
    names = {*ended.stdout.split()} - {"__main__", "_collections_abc", "builtins", "os.path", "sys"}
    ours = {name for name in names if name.partition(".")[0] == "dolium"}
    foreign = names - ours - {"_frozen_importlib", "_imp", "_thread", "_warnings", "_weakref"}
    assert foreign <= STANDARD and len(ours) <= 48, (sorted(foreign), sorted(ours))
