"""The pytest plugin, in a pytest of its own: from the clone, and from the wheel as pip installs it."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from containers import SYSTEM_PYTHON, TOP


def run_pytest(folder: str, text: str, *words: str, path: str = f"{TOP}/src", **env: str) -> "subprocess.CompletedProcess[str]":
    Path(folder, "test_it.py").write_text(text)
    given = {"PATH": os.environ["PATH"], "HOME": folder, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **env}
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *words], cwd=folder, env=given,
                          capture_output=True, text=True)  # fmt: skip


CLONE = ("-p", "dolium.pytest_plugin")
GOOD = """
import pytest

pytestmark = pytest.mark.dolium(env={"A": "module", "B": "module"}, cwd="/tmp")
kept = []

def test_a_box(dolium_box):
    assert dolium_box.run(["sh", "-c", "echo $A; pwd"], text=True).stdout == "module\\n/tmp\\n"
    dolium_box.write("/tmp/a", "x")
    kept.append(dolium_box)

def test_each_has_its_own(dolium_box):
    assert not dolium_box.exists("/tmp/a") and kept[0].status == "closed"

@pytest.mark.dolium(env={"A": "test"})
def test_the_nearest_mark_counts(dolium_box):
    assert dolium_box.run(["sh", "-c", "echo $A$B; pwd"], text=True).stdout == "test\\n/tmp\\n"

@pytest.mark.dolium(image="@venv")
def test_with_what_is_installed(dolium_box):
    with dolium_box.python() as python:
        assert python.run("import pytest; pytest.__name__").value == "'pytest'"
"""
UNABLE = """
import pytest
@pytest.mark.dolium(image="127.0.0.1:9/an-image")
def test_it(dolium_box):
    raise AssertionError("not reached")
"""


def test_from_the_clone(folder: str) -> None:
    done = run_pytest(folder, GOOD, *CLONE, "--strict-markers")
    assert done.returncode == 0 and "4 passed" in done.stdout, done


def test_from_the_wheel(folder: str) -> None:
    """By its entry point alone, out of what pip would unpack."""
    code = f"import sys; sys.path.insert(0, {TOP + '/make'!r}); import distributions; print(distributions.wheel({folder!r}, distributions.platform.machine()))"
    name = subprocess.run([SYSTEM_PYTHON, "-IBS", "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    with zipfile.ZipFile(f"{folder}/{name}") as archive:
        archive.extractall(f"{folder}/site")
    for each in ("dolium-init", "dolium-keep"):
        os.chmod(f"{folder}/site/dolium/programs/{each}", 0o755)
    done = run_pytest(folder, GOOD, "--strict-markers", path=f"{folder}/site")
    assert done.returncode == 0 and "4 passed" in done.stdout, done


def test_unable_to_run_is_an_error_unless_it_may_be_a_skip(folder: str) -> None:
    done = run_pytest(folder, UNABLE, *CLONE)
    assert done.returncode == 1 and "1 error" in done.stdout, done
    assert "dolium_box: cannot pull 127.0.0.1:9/an-image:latest" in done.stdout and "hint: " in done.stdout and "--dolium-skip" in done.stdout
    assert "pytest_plugin.py" not in done.stdout, "no traceback of ours"
    done = run_pytest(folder, UNABLE, *CLONE, "--dolium-skip", "-rs")
    assert done.returncode == 0 and "1 skipped" in done.stdout and "an-image" in done.stdout, done


@pytest.mark.parametrize("mark, said", [("memory='64x'", "SpecError"), ("colour='blue'", "TypeError"), ("'@venv'", "expected arguments by name"),
                                        ("image='/no/such/directory'", "NotFound")])  # fmt: skip
def test_a_slip_of_the_pen_is_an_error_in_any_case(folder: str, mark: str, said: str) -> None:
    done = run_pytest(folder, UNABLE.replace('image="127.0.0.1:9/an-image"', mark), *CLONE, "--dolium-skip")
    assert done.returncode == 1 and "1 error" in done.stdout and said in done.stdout, done


def test_until_it_is_used_nothing_is_loaded(folder: str) -> None:
    text = """
import sys, time
def test_it():
    assert sorted(name for name in sys.modules if name.startswith("dolium")) == LOADED
"""
    loaded = ["dolium", "dolium.errors", "dolium.pytest_plugin"]
    done = run_pytest(folder, text.replace("LOADED", repr(loaded)), *CLONE)
    assert done.returncode == 0, done
    code = "import pytest, sys, time; before = {*sys.modules}; began = time.process_time(); import dolium.pytest_plugin; " \
           "print(time.process_time() - began); print(*({*sys.modules} - before))"  # fmt: skip
    best = 1.0
    for _ in range(5):
        seconds, new = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": f"{TOP}/src"}, capture_output=True, text=True,
                                      check=True).stdout.splitlines()  # fmt: skip
        assert {*new.split()} == {*loaded}
        best = min(best, float(seconds))
    assert best < 0.005


CROWD = """
import dolium, os, pytest

@pytest.fixture(scope="session")
def pool():
    with dolium.Pool(size=2) as made:
        yield made

@pytest.mark.parametrize("number", range(8))
def test_each(dolium_box, pool, number):
    assert os.environ["PYTEST_XDIST_WORKER"]
    dolium_box.write("/tmp/a", str(number))
    assert dolium_box.run(["cat", "/tmp/a"], text=True).stdout == str(number)
    assert pool.run(["sh", "-c", f"exit {number}"]).exit_code == number
"""


def test_with_xdist(folder: str) -> None:
    pytest.importorskip("xdist", reason="pytest-xdist is not installed")
    done = run_pytest(folder, CROWD, *CLONE, "-n", "4")
    assert done.returncode == 0 and "8 passed" in done.stdout, done
