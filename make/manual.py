"""Man pages: one for `dolium`, one for each command, out of the tables that parse it and the prose in docs/man.

`docs/man/NAME.SECTION` is a page's further sections, put before SEE ALSO; a file that begins with .TH is a whole page.  The
markup is man(7).  `manual.py DIR` writes the pages below DIR.
"""

import os
import re
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import commandline
import shipped

PROSE = f"{shipped.TOP}/docs/man"


def literal(text: str) -> str:
    """Text as it is typed: no hyphen becomes a dash, no quote a curly one, groff_man_style(7)."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga").replace("^", "\\(ha")
    return "\\&" + text if text.startswith(".") else text


def prose(text: str) -> str:
    """A sentence of ours: what stands in backticks is bold."""
    line = ""
    for at, part in enumerate(text.split("`")):
        line += f"\\fB{literal(part)}\\fR" if at % 2 else part.replace("\\", "\\e").replace("'", "\\(aq")
    return "\\&" + line if line.startswith(".") else line


def paragraphs(text: str) -> "list[str]":
    """What `--help` says, as it is indented there: two spaces and a word begin an item, two spaces alone an example or the
    rest of a paragraph."""
    lines: list[str] = []
    for block in text.split("\n\n"):
        if all(line.startswith("  ") for line in block.splitlines()):
            lines += [".PP", ".EX", *(literal(line) for line in block.splitlines()), ".EE"]
            continue
        for line in block.splitlines():
            item = re.fullmatch(r"  (\S+) {2,}(.*)", line)
            if item:
                lines += [".TP", f"\\fB{literal(item[1])}\\fR", prose(item[2])]
            elif line.startswith(" "):
                lines.append(prose(line.strip()))
            else:
                lines += [".PP", prose(line)]
    return lines[1:] if lines[:1] == [".PP"] else lines


def options(found: commandline.Command) -> "list[str]":
    lines = []
    repeated = commandline.flags.Flags()
    for title, rows in found.groups:
        if title:
            lines.append(f'.SS "{title}"')
        for flag in rows:
            names = ", ".join(f"\\fB{literal(name)}\\fR" for name in commandline.signature(flag))
            value = f" \\fI{literal(flag.value)}\\fR" if flag.value else ""
            often = isinstance(getattr(repeated, flag.attribute, None), list | dict) and found.name in commandline.flags.COMMANDS
            lines += [".TP", names + value + ("..." if often else ""), prose(flag.text)]
    return lines


def further(name: str) -> "list[str]":
    """The sections that were written by hand."""
    path = f"{PROSE}/{name}"
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as file:
        return file.read().rstrip("\n").split("\n")


def title(name: str, section: int = 1) -> str:
    return f'.TH {name.upper()} {section} "" "Dolium {shipped.version()}" "Dolium"'


def of_command(found: commandline.Command) -> str:
    """The page `dolium-COMMAND`."""
    name = f"dolium-{found.name}"
    others = ["dolium(1)", *(f"dolium-{each}(1)" for each in commandline.COMMANDS if each != found.name)]
    return "\n".join([
        title(name), ".SH NAME", f"{literal(name)} \\- {prose(found.summary)}", ".SH SYNOPSIS", synopsis(found), ".SH DESCRIPTION",
        *(prose(line) for line in found.about.split("\n")), *([".PP", *paragraphs(found.before)] if found.before else []),
        ".SH OPTIONS", *options(found),
        *(['.SS "More on values"', *paragraphs(found.after)] if found.after else []), *own(found), *further(f"{name}.1"),
        ".SH SEE ALSO", *see(others), ""])  # fmt: skip


def synopsis(found: commandline.Command) -> str:
    usage = re.sub(r"[A-Z]+", lambda word: f"\\fI{word[0]}\\fR", literal(found.usage))
    return f"\\fBdolium {found.name}\\fR [\\fIFLAG\\fR...] {usage}".rstrip()


def own(found: commandline.Command) -> "list[str]":
    """The commands that a command has itself."""
    lines = [".SH COMMANDS OF ITS OWN"] if found.own else []
    for each in found.own:
        about = [prose(line) for line in each.about.split("\n")]
        lines += [f'.SS "dolium {each.name}"', synopsis(each), ".PP", *about, *options(each)]
    return lines


def see(pages: "list[str]") -> "list[str]":
    """References, each on a line, with commas between."""
    lines = [f".BR {literal(name)} ({section}" for name, _, section in (each.partition("(") for each in pages)]
    return [*(f"{line}," for line in lines[:-1]), *lines[-1:]]


def of_dolium() -> str:
    """The page `dolium`."""
    commands = []
    for found in commandline.every():
        commands += [".TP", f".BR dolium\\-{found.name} (1)", prose(found.summary)]
    others = [*(f"dolium-{each}(1)" for each in commandline.COMMANDS), *(f"{name}({section})" for name, section in whole())]
    sections = further("dolium.1")
    at = sections.index(".SH COMMANDS") + 1
    return "\n".join([
        title("dolium"), ".SH NAME", "dolium \\- containers you can read before they run", ".SH SYNOPSIS",
        ".B dolium", "\\fICOMMAND\\fR [\\fIFLAG\\fR...]", ".br", ".B dolium", "\\fICOMMAND\\fR \\fB\\-\\-help\\fR", ".br",
        ".B dolium \\-\\-version", *sections[:at], *commands, *sections[at:], ".SH SEE ALSO", *see(others), ""])  # fmt: skip


def whole() -> "list[tuple[str, str]]":
    """The pages that were written by hand as a whole: (name, section)."""
    found = [name for name in sorted(os.listdir(PROSE)) if further(name)[0].startswith(".TH ")]
    return [(name.rpartition(".")[0], name.rpartition(".")[2]) for name in found]


def pages() -> "dict[str, str]":
    """Path below a prefix -> text."""
    found = {f"share/man/man1/dolium-{each.name}.1": of_command(each) for each in commandline.every()}
    found["share/man/man1/dolium.1"] = of_dolium()
    for name, section in whole():
        found[f"share/man/man{section}/{name}.{section}"] = "\n".join(further(f"{name}.{section}")) + "\n"
    return found


def main(directory: str) -> None:
    for path, text in pages().items():
        os.makedirs(os.path.dirname(f"{directory}/{path}"), exist_ok=True)
        with open(f"{directory}/{path}", "w", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    main(sys.argv[1])
