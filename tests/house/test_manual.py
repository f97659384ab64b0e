"""The man pages and the completions know every command and flag that `--help` knows, and are well formed."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from containers import DOLIUM, TOP

from dolium.cli import images, oci
from dolium.cli.main import COMMANDS

sys.path.insert(0, f"{TOP}/make")
import completion
import manual

PAGES = manual.pages()
PATTERN = re.compile(r"^  (?:-(\w), |    )--([\w-]+)", re.M)


def helped(*words: str) -> str:
    return subprocess.run([DOLIUM, *words, "--help"], capture_output=True, text=True, check=True).stdout


def plain(text: str) -> str:
    """What a reader sees of a line of markup."""
    return re.sub(r"\\f[BIR]|\\&", "", text).replace("\\-", "-").replace("\\(aq", "'").replace("\\(ga", "`")


def flags_of(part: str) -> list[tuple[str, str]]:
    """(short, long) of each option in a part of a page."""
    shown = [plain(line) for line in part.splitlines() if line.startswith("\\fB\\-")]
    return [(found[1] or "", found[2]) for each in shown if (found := re.match(r"(?:-(\w), )?--([\w-]+)", each))]


def test_every_command_has_its_page_and_there_is_no_other() -> None:
    """Those that are made; what is made of nothing is an error of manual.py."""
    assert {path for path in PAGES if path.startswith("share/man/man1/dolium-")} == {f"share/man/man1/dolium-{name}.1" for name in COMMANDS}
    written = {path.stem.removeprefix("dolium-") for path in Path(manual.PROSE).glob("dolium-*.1")}
    assert written <= {*COMMANDS}, "prose of a command that is not there"


@pytest.mark.parametrize("name", images.OWN)
def test_the_commands_of_image_are_in_its_page(name: str) -> None:
    part = PAGES["share/man/man1/dolium-image.1"].partition(f'.SS "dolium image {name}"\n')[2].partition("\n.S")[0]
    text = helped("image", name)
    assert flags_of(part) == PATTERN.findall(text) and plain(part).startswith(text.partition("\n")[0].removeprefix("Usage: ") + "\n")


@pytest.mark.parametrize("name", COMMANDS)
def test_every_flag_of_help_is_in_the_page_and_no_other(name: str) -> None:
    page = PAGES[f"share/man/man1/dolium-{name}.1"]
    assert flags_of(page.partition(".SH OPTIONS")[2].partition("\n.SH ")[0]) == PATTERN.findall(helped(name))
    usage = helped(name).partition("\n")[0].removeprefix("Usage: ")
    assert plain(page.partition(".SH SYNOPSIS\n")[2].partition("\n")[0]) == usage
    for line in helped(name).splitlines():  # nothing that help says is missing, wherever lines are broken
        for word in re.findall(r"[A-Za-z]{4,}", line.partition("Usage:")[0]):
            assert word in plain(page), (word, line)


def test_every_command_is_in_the_first_page() -> None:
    page = plain(PAGES["share/man/man1/dolium.1"])
    for name, (_, _, summary) in COMMANDS.items():
        assert f".BR dolium-{name} (1)\n{summary.replace('`', '')}\n" in page


def of_oci(*words: str) -> set[str]:
    text = subprocess.run([f"{DOLIUM}-oci", *words, "--help"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"^  --([\w-]+)", text, re.M))


def test_the_page_of_the_runtime_has_every_command_and_flag_and_no_other() -> None:
    _, *parts = re.split(r"^\.S[SH] (.*)\n", PAGES["share/man/man8/dolium-oci.8"], flags=re.M)
    shown = {plain(title).strip('"'): set(re.findall(r"^\.BI? \"?--([\w-]+)", plain(text), re.M)) for title, text in zip(parts[::2], parts[1::2], strict=True)}
    assert shown["GLOBAL FLAGS"] == of_oci()
    commands = {title.split()[0]: flags for title, flags in shown.items() if title[0].islower()}
    assert [*commands] == [*oci.COMMANDS]
    for name in ("run", "restore"):  # as the page says
        commands[name] |= commands["create"]
    for name in commands:
        assert commands[name] == of_oci(name), name
        flags, words, _ = oci.COMMANDS[name]
        assert " ".join([name, *(["[FLAG...]"] if flags else []), *([words] if words else [])]) in shown


def test_every_variable_that_is_read_is_in_a_page() -> None:
    """Out of the environment; but for those that say something to whoever mends Dolium, or are the system's."""
    read = set()
    for path in Path(f"{TOP}/src/dolium").rglob("*.py"):
        read |= {*re.findall(r"""environ(?:\.get\(|\[)f?["'](\w+)["']|["'](\w+)["'] in os\.environ""", path.read_text())}
    names = {name for pair in read for name in pair if name} - {"PATH", "TERM", "DOLIUM_FIGURES", "DOLIUM_TRACEBACK"}
    assert {"NOTIFY_SOCKET", "XDG_RUNTIME_DIR"} <= names
    assert [name for name in sorted(names) if not any(name in plain(page) for page in PAGES.values())] == []


@pytest.mark.parametrize("path", sorted(PAGES))
def test_pages_are_well_formed(path: str, tmp_path: Path) -> None:
    text = PAGES[path]
    assert text.isascii() and text.startswith(".TH ")
    found = 0
    for words, allowed in ((["mandoc", "-Tlint"], r"STYLE: input text line longer|missing date|STYLE: referenced manual not found"),
                           (["groff", "-man", "-Tutf8", "-ww", "-z"], "^$")):  # fmt: skip
        if shutil.which(words[0]):
            found += 1
            done = subprocess.run([*words, "-"][: len(words) + (words[0] == "groff")], input=text, capture_output=True, text=True)
            assert [line for line in (done.stdout + done.stderr).splitlines() if not re.search(allowed, line)] == []
    if not found:
        pytest.skip("neither mandoc nor groff here")


def test_a_page_is_read() -> None:
    if not shutil.which("man") and not shutil.which("groff"):
        pytest.skip("no groff here")
    done = subprocess.run(["groff", "-man", "-Tascii", "-P-c"], input=PAGES["share/man/man1/dolium-run.1"], capture_output=True, text=True)
    seen = re.sub(".\b", "", done.stdout)
    assert "       dolium run [FLAG...] ROOTFS [PROGRAM [ARGUMENT...]]\n" in seen
    assert re.search(r"-m, --memory SIZE\n +all die beyond it", seen)
    assert "dolium run --rm --memory 64m --cpus 0.5 @host sh -c 'echo hello'\n" in seen


@pytest.mark.parametrize("name", completion.SCRIPTS)
def test_completions_know_every_flag(name: str) -> None:
    text = completion.SCRIPTS[name][1]()
    for each in (*COMMANDS, *(f"image-{own}" for own in images.OWN)):
        line = next(line for line in text.splitlines() if re.match(rf" +{each}\) (flags|_arg)", line)) if name != "fish" else text
        for short, long in PATTERN.findall(helped(*each.split("-"))):
            if name == "fish":
                assert re.search(rf"__dolium_at {each} .*{f'-s {short} ' if short else ''}-l {long} ", text), (each, long)
            else:
                assert f"--{long}" in line, (each, long)


@pytest.mark.parametrize("name", completion.SCRIPTS)
def test_completions_can_be_read(name: str, tmp_path: Path) -> None:
    if not shutil.which(name):
        pytest.skip(f"no {name} here")
    path = tmp_path / "script"
    path.write_text(completion.SCRIPTS[name][1]())
    done = subprocess.run([name, "-n", str(path)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
