"""The fenced examples of the pages are carried out, a page's in their order, and print what stands there.

    ```console   `$ COMMAND`, its further lines after `> `, then what it prints; without output: it succeeds
    ```python    a doctest

In what is printed `...` stands for anything, and numbers of four and more digits, ids of containers and times differ.  A block
that cannot be carried out here has a line `<!-- not run: WHY -->` before it; other kinds (json, text, toml, yaml) are no examples.
"""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from containers import SLOW, TOP, Dolium

DOCS = Path(TOP, "docs")
PAGES = [*sorted(DOCS.rglob("*.md")), Path(TOP, "SECURITY.md")]
BLOCK = re.compile(r"(?P<before>[^\n]*)\n(?P<blank>\n?)```(?P<kind>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
NOT_RUN = re.compile(r"<!-- not run: \w.* -->")
DIFFERS = ((r"\b[0-9a-f]{12}\b", "ID"), (r"\b\d{4,}\b", "N"), (r"\b\d+(\.\d+)? m?s\b", "TIME"))


def blocks(page: Path, kind: str) -> list[str]:
    """The blocks of that kind that are to be carried out."""
    found = BLOCK.finditer("\n" + page.read_text())
    return [each["text"] for each in found if each["kind"] == kind and not NOT_RUN.search(each["before"])]


def examples(page: Path) -> list[tuple[str, str]]:
    """(command, what it prints), in their order."""
    found: list[tuple[str, str]] = []
    for block in blocks(page, "console"):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append((re.sub(r"(^|[|;&] )sudo ", r"\1", line[2:]), ""))
            elif line.startswith("> ") and not found[-1][1]:
                found[-1] = (f"{found[-1][0]}\n{line[2:]}", "")
            else:
                found[-1] = (found[-1][0], f"{found[-1][1]}{line}\n")
    return found


def alike(text: str) -> str:
    for pattern, name in DIFFERS:
        text = re.sub(pattern, name, text)
    text = text.replace("\t", " ")
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines() if line.strip())


SHELL = [page for page in PAGES if page.is_relative_to(DOCS) and examples(page)]
PYTHON = [page for page in PAGES if blocks(page, "python")]
# A host of its own as far as networks and written-down containers go, with a way out; its cgroups are this host's.
APART = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec",
         "mount -t tmpfs none /run; mount -t tmpfs none /var/lib; ip link set lo up; ip link add out type veth peer name far; "
         "ip link set far up; ip link set out up; ip addr add 192.0.2.2/24 dev out; ip route add default via 192.0.2.1; echo 1 >/proc/sys/net/ipv4/ip_forward; exec sh steps.sh"]


@pytest.mark.parametrize("page", SHELL, ids=lambda each: str(each.relative_to(TOP)))
def test_commands(page: Path, root: Dolium, folder: str, alpine: str) -> None:
    os.symlink(alpine, f"{folder}/alpine")
    for each in page.parent.glob("*.py"):
        shutil.copy(each, folder)
    steps = examples(page)
    script = []
    for at, (command, _) in enumerate(steps):
        script.append(f"{{\n{command}\n}} </dev/null >{folder}/said.{at} 2>&1; echo $? >{folder}/code.{at}")
    script.append("dolium ps -aq | xargs -r dolium rm --force >/dev/null")
    Path(f"{folder}/steps.sh").write_text("\n".join(script))
    if SLOW > 1:  # the pages wait as long as a bare machine needs
        Path(f"{folder}/sleep").write_text(f'#!/bin/sh\nexec /bin/sleep "$(awk "BEGIN {{print $1 * {SLOW / 4}}}")"\n')
        os.chmod(f"{folder}/sleep", 0o755)
    environment = {**os.environ, "PATH": f"{folder}:{TOP}/bin:{os.environ['PATH']}:/usr/sbin:/sbin", "HOME": folder}
    done = subprocess.run(APART, cwd=folder, env=environment, capture_output=True, text=True, timeout=120 * SLOW)
    assert done.returncode == 0, done
    wrong = []
    for at, (command, wanted) in enumerate(steps):
        said, code = Path(f"{folder}/said.{at}").read_text(), Path(f"{folder}/code.{at}").read_text().strip()
        if wanted and not doctest.OutputChecker().check_output(alike(wanted), alike(said), doctest.ELLIPSIS):
            wrong.append(f"$ {command}\nwanted\n{wanted}\nsaid\n{said}")
        elif not wanted and code != "0":
            wrong.append(f"$ {command}\nended with {code}\n{said}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PYTHON, ids=lambda each: str(each.relative_to(TOP)))
def test_python(page: Path, root: Dolium, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    text = "\n".join(blocks(page, "python"))
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    said: list[str] = []
    outcome = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert outcome.failed == 0 and outcome.attempted > 0, "".join(said)


def test_every_block_is_an_example_or_says_why_not() -> None:
    for page in PAGES:
        text = page.read_text()
        assert len(BLOCK.findall("\n" + text)) * 2 == len(re.findall(r"^```", text, re.M)), f"{page}: a fence is open"
        assert {each["kind"] for each in BLOCK.finditer("\n" + text)} <= {"console", "python", "json", "text", "toml", "yaml", ""}, page
        for each in blocks(page, "console"):
            assert each.startswith("$ "), (page, each)


def test_links_lead_somewhere() -> None:
    """To files that are there, and to headings in them."""
    for page in [*PAGES, *Path(TOP).glob("*.md"), *Path(TOP, "tests").glob("*/*.md")]:
        for link, heading in re.findall(r"\]\(([^)#: ]*)(?:#([^)]*))?\)", page.read_text()):
            target = page.parent / link if link else page
            assert target.exists(), (page, link)
            assert not heading or heading in headings(target), (page, link, heading)


def headings(page: Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    lines = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", re.sub(r"\]\([^)]*\)", "]", each).lower()).replace(" ", "-") for each in lines}
