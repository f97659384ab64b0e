"""`make types`: whether pyright knows the whole type of every public name, with all that can be reached from it.

It comes from PyPI, with a Node.js, into .build/pyright; so this is no part of `make lint`.
"""

import json
import os
import subprocess
import sys
import venv

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOME = f"{TOP}/.build/pyright"
PUBLIC = ("dolium", "dolium.aio", "dolium.errors", "dolium.pytest_plugin")


def main() -> int:
    if not os.path.exists(f"{HOME}/bin/pyright"):
        venv.create(HOME, with_pip=True)
        subprocess.run([f"{HOME}/bin/python", "-m", "pip", "-q", "install", "pyright[nodejs]"], check=True)
    argv = [f"{HOME}/bin/pyright", "--pythonpath", f"{HOME}/bin/python", "--verifytypes", "dolium", "--ignoreexternal",
            "--outputjson"]  # fmt: skip
    found = subprocess.run(argv, env={**os.environ, "PYTHONPATH": f"{TOP}/src"}, stdout=subprocess.PIPE, check=False)
    symbols = json.loads(found.stdout)["typeCompleteness"]["symbols"]
    public = [each for each in symbols if each["isExported"] and each["name"].startswith(PUBLIC) and is_public(each["name"])]
    unknown = [each for each in public if not each["isTypeKnown"] or each["isTypeAmbiguous"]]
    for each in unknown:
        print(f"{each['name']}: not wholly known {' '.join(problem['message'] for problem in each['diagnostics'])}")
    print(f"{len(public)} public names, {len(unknown)} whose types are not wholly known")
    return bool(unknown or len(public) < 100)


def is_public(name: str) -> bool:
    """`dolium.Sandbox`, `dolium.aio.Sandbox.run`, but not what is in another module, which is nobody's business."""
    _, first, *_ = [*name.split("."), ""]
    return first in ("aio", "errors", "pytest_plugin") or name.count(".") == 1


if __name__ == "__main__":
    sys.exit(main())
