"""A CI matrix: each command in each image, side by side, with limits; a table, and exit code 1 if one failed.

    python3 examples/matrix.py
    python3 examples/matrix.py --image @host --image ./alpine --jobs 4 'python3 -V' 'sh -c "exit 0"'
"""

import argparse
import os
import shlex
import sys
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/src")  # from a clone, where nothing is installed

import dolium

COMMANDS = ["python3 -c 'import json, sqlite3'", "python3 -m unittest --help", "sh -c 'test $(id -u) = 0'"]


class Cell:
    """One command in one image: `result`, or the `error` that kept it from running."""

    def __init__(self, image: str, command: str) -> None:
        self.image = image
        self.command = command
        self.result: dolium.Result | None = None
        self.error = ""

    @property
    def ok(self) -> bool:
        return self.result is not None and self.result.exit_code == 0

    def __str__(self) -> str:
        if self.result is None:
            return f"error  {self.image:8} {self.command}: {self.error}"
        said = "" if self.ok else f"  ({self.result.ended_by}, exit code {self.result.exit_code})"
        return f"{'ok' if self.ok else 'FAILED':6} {self.image:8} {self.command}  {self.result.wall_seconds:.2f} s{said}"


def work(cell: Cell, timeout: float, limits: "dict[str, str]", mounts: "list[dolium.Mount]") -> Cell:
    """Run one."""
    try:
        cell.result = dolium.run(shlex.split(cell.command), image=cell.image, timeout=timeout, text=True, mounts=mounts,
                                 cwd=mounts[0].target if mounts else None, **limits)  # type: ignore[arg-type]  # fmt: skip
    except dolium.DoliumError as error:
        cell.error = str(error)
    return cell


def matrix(images: "list[str]", commands: "list[str]", *, jobs: int = 4, timeout: float = 60,
           limits: "dict[str, str] | None" = None, source: "str | None" = None) -> "list[Cell]":  # fmt: skip
    """All of them, at most `jobs` at once; `source` is a directory that each sees, read-only, and starts in."""
    mounts = [dolium.ro(source, "/src")] if source else []
    cells = [Cell(image, command) for image in images for command in commands]
    with ThreadPoolExecutor(jobs) as pool:
        return [*pool.map(lambda cell: work(cell, timeout, limits or {}, mounts), cells)]


def main(words: "list[str] | None" = None) -> int:
    parser = argparse.ArgumentParser(description="commands x images")
    parser.add_argument("commands", nargs="*", default=COMMANDS)
    parser.add_argument("--image", action="append", help="@host and @venv, unless given")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--timeout", type=float, default=60)
    parser.add_argument("--memory", default="256M" if os.geteuid() == 0 else None)
    given = parser.parse_args(words)
    limits = {"memory": given.memory} if given.memory else {}
    cells = matrix(given.image or ["@host", "@venv"], given.commands, jobs=given.jobs, timeout=given.timeout, limits=limits)
    for each in cells:
        print(each)
        if each.result and not each.ok:
            print(each.result.stderr.rstrip())
    return int(not all(each.ok for each in cells))


if __name__ == "__main__":
    sys.exit(main())
