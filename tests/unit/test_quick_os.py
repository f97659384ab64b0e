"""os.environ of our own commands does what that of everybody else does."""

import os
import subprocess
import sys

SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "src")
PROGRAM = """
import sys
if sys.argv[1] == "quick":
    sys.path.insert(0, sys.argv[2])
    import dolium.core.quick_os
import os
assert ("Environment" in str(type(os.environ).__mro__)) == (sys.argv[1] == "quick")
variables = os.environ
print(sorted(variables), sorted(variables.keys()), sorted(variables.values()), sorted(variables.items()), len(variables))
print("A" in variables, "Z" in variables, variables.get("A"), variables.get("Z"), variables.get("Z", 5), sorted(variables.keys() & {"A", "B", "Z"}))
variables.update({"C": "3"}, D="4")
variables["E"] = variables.setdefault("F", "6")
print(os.getenv("C"), os.getenv("D"), variables.pop("C"), variables.pop("C", "none"), variables == dict(variables), variables == {})
try:
    variables.pop("C")
except KeyError as error:
    print(error)
try:
    hash(variables)
except TypeError as error:
    print(error)
print(sorted({**variables}), sorted((variables | {"G": "7"}).items()), sorted(variables.copy()), variables != {"A": "1"})
import collections.abc, pathlib, subprocess
print(isinstance("x", os.PathLike), isinstance(pathlib.Path("x"), os.PathLike), isinstance({}, collections.abc.Mapping))
print(subprocess.run(["/usr/bin/env"], env={**variables, "H": "8"}, capture_output=True).stdout)
variables.clear()
print(dict(variables), subprocess.run(["/usr/bin/env"], capture_output=True).stdout)
"""


def told(kind: str) -> str:
    done = subprocess.run([sys.executable, "-IS", "-c", PROGRAM, kind, SOURCE], env={"A": "1", "B": "2"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_does_what_the_true_one_does() -> None:
    assert told("quick") == told("true")


def test_a_program_that_imports_the_library_has_the_true_one() -> None:
    text = "import sys; sys.path.insert(0, sys.argv[1]); import dolium; dolium.Sandbox; print('dolium.core.quick_os' in sys.modules)"
    done = subprocess.run([sys.executable, "-IS", "-c", text, SOURCE], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
