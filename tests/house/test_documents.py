"""What the documents say is so: files they name exist, README's excerpt is a plan's, its Python runs, its links lead somewhere."""

import doctest
import re
import tarfile
from pathlib import Path

import pytest
from containers import Dolium

from dolium.cli.main import COMMANDS

TOP = Path(__file__).parents[2]
README = (TOP / "README.md").read_text()
DOCUMENTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]


def test_the_excerpt_of_a_plan_is_one() -> None:
    excerpt = README.partition("## What a plan looks like")[2].partition("\n`*`")[0]
    lines = [line.removeprefix("    ") for line in excerpt.splitlines() if re.match(r"    (\s*\d+ [*.] [HOI=] |[A-Z])", line)]
    plan = (TOP / "tests/golden/root-v2.plan").read_text().splitlines()
    assert len(lines) >= 12
    assert [line for line in lines if line not in plan] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_files_that_are_named_exist(name: str) -> None:
    text = (TOP / name).read_text()
    links = [each for each in re.findall(r"\]\(([^)#]+)", text) if "://" not in each]
    paths = re.findall(r"`((?:bin|init|make|src|tests|docs|examples|demo)/[\w./-]*\w)`", text)
    paths += [f"src/dolium/{each}" for each in re.findall(r"`((?:cli|engine|runtime|plan|core)/\w+\.py)`", text)]
    assert [each for each in links + paths if not (TOP / each).exists()] == []


def test_targets_of_make_that_are_named_exist() -> None:
    known = set(re.findall(r"^([a-z][a-z0-9 -]*):", (TOP / "Makefile").read_text(), re.M))
    targets = {each for line in known for each in line.split()}
    named = {each for name in DOCUMENTS for each in re.findall(r"(?:`|^    |&& )make ([a-z][a-z0-9-]*)", (TOP / name).read_text(), re.M)}
    assert {"run", "test"} <= named
    assert named - targets == set()


def test_every_test_that_is_chosen_is_there() -> None:
    """Those of `make test-v2 ARGS=smoke` and `make clients-v2`, and those that `make test` leaves to `make test-long`."""
    chosen = re.findall(r"[a-z_0-9]+/test_[a-z_0-9]+\.py(?:::test_[a-z_0-9]+)?", (TOP / "make/test.sh").read_text())
    assert len(chosen) > 50
    for path, _, name in (each.partition("::") for each in chosen):
        assert f"def {name}(" in (TOP / "tests" / path).read_text() if name else (TOP / "tests" / path).exists(), (path, name)


def test_there_is_a_place_for_the_figures() -> None:
    assert README.count("<!-- bench -->\n") == README.count("<!-- /bench -->\n") == 1
    assert README.index("<!-- bench -->") < README.index("<!-- /bench -->")


def test_commands_of_the_first_screen_plan(dolium: Dolium, workshop: str) -> None:
    rootfs = Path(workshop, "alpine-of-the-readme")
    rootfs.mkdir()
    with tarfile.open(f"{rootfs}.tar.gz", "w:gz") as archive:
        archive.add(rootfs, ".")
    commands = re.findall(r"^    \$ (?:sudo )?bin/dolium (?:run|explain) (.*?)(?:   .*)?$", README, re.M)
    assert len(commands) >= 3
    for each in commands:
        words = ["explain", *each.replace("./alpine", str(rootfs)).split()]
        ended = dolium(*words)
        if "cgroup controller is not available" in ended.stderr:
            continue  # limits, for a plain user
        if "`dolium pull alpine` fetches it" in ended.stderr:
            continue  # images, where it has not been fetched
        assert (ended.code, ended.stderr) == (0, ""), (words, ended)
        assert ended.stdout.startswith("Plan for "), words


def test_the_python_of_the_first_screen(root: Dolium, nothing_left: None) -> None:
    failed, tried = doctest.testfile(str(TOP / "README.md"), module_relative=False)
    assert (failed, tried) == (0, 3)


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_command_is_in_the_guide(command: str) -> None:
    """Or in the page on registries; what each flag does is in the manual, which another test looks at."""
    pages = [(TOP / "docs" / name).read_text() for name in ("guide.md", "howto/registries.md")]
    assert any(f"dolium {command}" in page for page in pages)
