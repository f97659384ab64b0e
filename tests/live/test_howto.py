"""The commands of docs/howto are carried out, and print what stands there."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from containers import TOP, Dolium

HOWTO = Path(TOP, "docs/howto")


def blocks(name: str) -> list[tuple[str, str]]:
    """(command, what it prints) in their order."""
    found: list[tuple[str, str]] = []
    for line in (HOWTO / name).read_text().splitlines():
        inner = re.fullmatch(r"(?:    |      )(\S.*)", line)
        if inner and inner[1].startswith("$ "):
            found.append((inner[1][2:], ""))
        elif found and inner:
            found[-1] = (found[-1][0], found[-1][1] + inner[1] + "\n")
    return found


def carry_out(name: str, cwd: str, environment: dict[str, str], **who: object) -> None:
    steps = blocks(name)
    assert len(steps) > 5
    for command, wanted in steps:
        done = subprocess.run(["sh", "-c", command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300, **who)  # type: ignore[call-overload]
        said = "".join(f"{line}\n" for line in (done.stdout + done.stderr).splitlines() if line.strip())
        if wanted:
            assert said == wanted, command
        else:
            assert done.returncode == 0, (command, done)


def test_install(root: Dolium, folder: str) -> None:
    """`/usr/local` is a directory of the test's own."""
    if os.path.realpath(f"{TOP}/.build/python").startswith("/usr/local/"):
        pytest.skip("this Python would be hidden")
    shutil.copytree(TOP, f"{folder}/clone", symlinks=True, ignore=shutil.ignore_patterns("venv", "fresh", "dist", "__pycache__", "*cache*"))
    with open(f"{folder}/clone/Makefile") as file:
        assert "\nPREFIX ?= /usr/local\n" in file.read()
    environment = {"PATH": f"/usr/local/bin:{os.environ['PATH']}", "HOME": folder}
    mounted = ["unshare", "--mount", "--propagation", "private", "sh", "-c", 'mount -t tmpfs none /usr/local && exec "$@"', "sh"]
    script = f"{folder}/steps.sh"
    Path(script).write_text("".join(f"{command} >{folder}/said.{at} 2>&1 || exit {at + 1}\n" for at, (command, _) in enumerate(blocks("install.md"))))
    done = subprocess.run([*mounted, "sh", script], cwd=f"{folder}/clone", env=environment, capture_output=True, text=True, timeout=300)
    steps = blocks("install.md")
    assert done.returncode == 0, (steps[done.returncode - 1], Path(f"{folder}/said.{done.returncode - 1}").read_text())
    for at, (command, wanted) in enumerate(steps):
        assert not wanted or Path(f"{folder}/said.{at}").read_text() == wanted, command


def test_rootless(plain: Dolium, folder: str) -> None:
    os.chown(folder, plain.uid, plain.uid)
    who = {} if plain.uid == os.geteuid() else {"user": plain.uid, "group": plain.uid, "extra_groups": []}
    carry_out("rootless.md", folder, {**plain.environment, "HOME": folder, "XDG_RUNTIME_DIR": folder, "PATH": f"{TOP}/bin:/usr/bin:/bin"}, **who)


def test_macos_says_what_is_said_there() -> None:
    said = re.search(r"ImportError: (.*)", (HOWTO / "macos.md").read_text())
    assert said and said[1].replace("darwin", "{sys.platform}") in Path(TOP, "src/dolium/__init__.py").read_text()
