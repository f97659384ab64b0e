"""`Pool(preload=["numpy"])` with the real one, out of a virtual environment."""

import os
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
from containers import SLOW, SYSTEM_PYTHON, TOP

HOME = f"{TOP}/.build/numpy"
CODE = """
import sys, time; sys.path.insert(0, SOURCE)
import dolium
with dolium.Pool(size=3, image="@venv", preload=["numpy"]) as pool:
    def full():
        while pool.ready < 3: time.sleep(0.01)
    full()
    pids = [each.python._process.pid for each in pool._shelf.ready]
    own = []
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            own.append(sum(int(line.split()[1]) for line in file if line.startswith("Private_")))
    print(max(own))
    seen = []
    for _ in range(6):
        full()
        seen.append(pool.snippet("import numpy; int(numpy.arange(10).sum()), float(numpy.random.random())"))
    assert all(each.ok for each in seen), seen
    print(len({each.value for each in seen}), {each.value.split(",")[0] for each in seen})
    first = pool.snippet("import numpy; numpy.sum = None; numpy.zeros(3).tolist()")
    print(first.value, pool.snippet("import numpy; int(numpy.sum([1, 2]))").value)
"""


@pytest.fixture(scope="module")
def python() -> str:
    """A Python with numpy from PyPI, kept in .build, which a plain user can read."""
    if not os.path.exists(f"{HOME}/complete"):
        subprocess.run([SYSTEM_PYTHON, "-m", "venv", HOME], check=True)
        done = subprocess.run([f"{HOME}/bin/python", "-m", "pip", "-q", "install", "numpy"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no numpy: {done.stderr[-300:]}")
        with open(f"{HOME}/complete", "w"):
            pass
    return f"{HOME}/bin/python"


@pytest.mark.parametrize("who", ["dolium", "plain"])
def test_each_snippet_has_a_numpy_of_its_own(python: str, request: pytest.FixtureRequest, who: str) -> None:
    user: Callable[..., Any] = request.getfixturevalue(who)
    ended = user(argv=[python, "-c", CODE.replace("SOURCE", repr(f"{TOP}/src"))], timeout=120 * SLOW)
    assert ended.code == 0, ended
    kib, seen, last = ended.stdout.splitlines()
    assert int(kib) < 64 << 10 and seen == "6 {'(45'}" and last == "[0.0, 0.0, 0.0] 3", ended
