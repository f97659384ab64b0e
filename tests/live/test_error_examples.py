"""The examples of the page of errors, carried out as they stand there."""

from __future__ import annotations

import doctest
import os
import subprocess

import pytest
from containers import DOLIUM, TOP, Dolium

import dolium as library
from dolium.plan.failures import FAILURES

SHELL = [code for code, found in FAILURES.items() if not found.example[0].startswith(">>>")]


@pytest.mark.parametrize("code", SHELL)
def test_an_example_of_the_shell(code: str, dolium: Dolium, folder: str) -> None:
    if os.geteuid() and any(line.split()[0] == "dolium-oci" for line in FAILURES[code].example):
        pytest.skip("an engine's container wants cgroups, which a plain user may not make")
    for name in ("dolium", "dolium-oci"):
        os.symlink(f"{os.path.dirname(DOLIUM)}/{name}", f"{folder}/{name}")
    environment = {**dolium.environment, "PATH": f"{folder}:{dolium.environment['PATH']}"}
    found = FAILURES[code]
    try:
        for line in found.example:
            ended = subprocess.run(["sh", "-c", line], cwd=folder, env=environment, capture_output=True, text=True)
        assert ended.stderr.splitlines()[0] == found.says
        assert ended.returncode == {"step": 127, "hook": 1}.get(code, 125)
    finally:
        for name in ("twice", "ended"):
            dolium("rm", "--force", name)


@pytest.mark.parametrize("code", [code for code in FAILURES if code not in SHELL])
def test_an_example_in_python(code: str) -> None:
    (line,) = FAILURES[code].example
    with pytest.raises(library.DoliumError) as caught:
        eval(line.removeprefix(">>> "), {"dolium": library})
    assert caught.value.code == code
    assert str(caught.value).startswith(FAILURES[code].says)


def test_the_head_of_the_page() -> None:
    with open(f"{TOP}/docs/reference/errors.md") as file:
        head = file.read().partition("\n## ")[0]
    test = doctest.DocTestParser().get_doctest(head, {"dolium": library}, "errors.md", None, 0)
    assert doctest.DocTestRunner().run(test) == (0, 1)


def test_explain_prints_a_page(dolium: Dolium) -> None:
    ended = dolium("explain", "state")
    assert (ended.code, ended.stderr) == (0, "") and ended.stdout.startswith("state: The container is not in the state")
    assert "$ dolium exec ended true\n  error: container `ended` is exited, not running\n" in ended.stdout
    assert dolium("explain", "./state").code == 125, "a directory of that name is meant by its path"
