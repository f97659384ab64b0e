"""A hundred and more command lines that are wrong: each gets one telling line, mostly a hint, the right exit code, and no traceback.

What is said is written down in mistakes.txt: `DOLIUM_GOLDEN=write` has it written anew, and the difference is read.
"""

import os
import shlex
from pathlib import Path

import pytest
from containers import Dolium

from dolium.cli import main

PAGE = Path(__file__).with_name("mistakes.txt")
COMPLETE = ("expected ", "No such file or directory", "nothing can be mounted on", "there is no `}}`", "needs `--username`", "there is no directory")
"""Parts of errors that say all there is to say, and need no hint."""

pytestmark = pytest.mark.needs_root


def blocks() -> "list[tuple[str, str]]":
    """Each command line, and what is to be said."""
    found = []
    for block in PAGE.read_text().split("\n\n"):
        line, _, said = block.strip("\n").partition("\n")
        found.append((line.removeprefix("$ dolium "), said))
    return found


def told(line: str, capfd: pytest.CaptureFixture[str]) -> str:
    """The exit code and all that is printed, indented; the command runs in this process, for there are many."""
    main.tracebacks = False
    code = main.run(shlex.split(line))
    out, err = capfd.readouterr()
    words = [each for each in err.replace(os.getcwd(), "/here").splitlines() if each and not each.startswith(("dolium: ", "  at step "))]
    assert "Traceback" not in err and (out == "" or line.startswith("inspect")), (out, err)
    return "\n".join(f"    {each}" for each in (*words, f"[{code}]"))


def test_each_is_told_what_is_wrong(folder: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", folder)
    pages = [(line, said, told(line, capfd)) for line, said in blocks()]
    if os.environ.get("DOLIUM_GOLDEN") == "write":
        PAGE.write_text("\n\n".join(f"$ dolium {line}\n{now}" for line, _, now in pages) + "\n")
    assert len(pages) > 100
    for line, said, now in pages:
        assert now == said or os.environ.get("DOLIUM_GOLDEN") == "write", line
        first, *rest, code = (each[4:] for each in now.splitlines())
        assert first.startswith("error: ") and code in ("[1]", "[125]", "[126]", "[127]"), now
        hints = [each for each in rest if each.startswith("hint: ")]
        assert len(hints) == 1 or (not hints and any(each in first for each in COMPLETE)), now
        assert hints == rest, now


def test_help_is_asked_for_in_either_order(dolium: Dolium) -> None:
    asked = dolium("help", "run")
    assert (asked.code, asked.stderr) == (0, "") and asked.stdout == dolium("run", "--help").stdout != dolium("help").stdout


def test_a_traceback_only_for_a_flag_of_ours(dolium: Dolium) -> None:
    assert dolium("run", "--debug", "@host", "nosuchprogram").stderr.startswith("Traceback")
    assert "Traceback" not in dolium("run", "@host", "nosuchprogram", "--debug").stderr
