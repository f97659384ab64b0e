"""A plan for people: numbered, one line of at most 80 columns for each step.  Pure."""

from unicodedata import east_asian_width

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE, items
from dolium.plan import askers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dolium.core.wire import Step


LETTER = {HOST: "H", OUTSIDE: "O", INSIDE: "I", BOTH: "="}
ACTOR = {HOST: "host", OUTSIDE: "outside", INSIDE: "inside", BOTH: "both"}
CHAPTERS = {"LIMITS": "what it may use", "NAMESPACES": "what it can see", "FILE SYSTEM": "what is /",
            "NETWORK": "whom it can reach",            "SECURITY": "what it may do", "EXEC": "what it runs"}  # fmt: skip
MARKED, BY_IMAGE = " * you asked   . default", "   i the image"
LEGEND = """\
 H host: Python   O outside: dolium-init   I inside: its child   = they meet
"""
WIDTH = 80
NOTHING_RUN = "none of them has been run"


def numbered(steps: "list[Step]") -> "list[tuple[int, Step]]":
    """Each step with its number; the parts of a step share its number."""
    number, rows = 0, []
    for step in steps:
        number += not step.is_part
        rows.append((number, step))
    return rows


def legend(spec: "dict[str, Any]") -> "list[str]":
    """What the signs of its lines mean."""
    return [MARKED + (BY_IMAGE if askers.has_image(spec["dolium"]) else ""), *LEGEND.splitlines()]


def text(steps: "list[Step]", spec: "dict[str, Any]", image: str, note: str, parts: bool = False,
         more: "Callable[[Step], list[str]] | None" = None, done: str = NOTHING_RUN,
         words: str = "") -> str:  # fmt: skip
    """The whole plan, of which `done` is known; with `parts`, the parts of each step too, indented; below each what `more`
    says of it; above all `words` that one has to know."""
    rows = numbered(steps)
    program = spec["process"]["args"][0] if spec["process"]["args"] else ""
    head = f"Plan for `{program}` in ", f": {rows[-1][0]} steps, {done}."
    room = max(20, WIDTH - columns("".join(head)))
    where = image if columns(image) <= room or "/" not in image else f".../{image.rpartition('/')[2]}"
    lines = [fit(head[0] + cut(where, room) + head[1]), *legend(spec)]
    lines += [piece for each in note.splitlines() for piece in wrapped("note: " + printable(each), WIDTH, " " * 6)]
    lines += words.splitlines()
    chapter, own = "", spec["dolium"]
    for number, step in rows:
        if step.is_part and not parts:
            continue
        if step.chapter != chapter:
            chapter = step.chapter
            lines += ["", f"{chapter:<14}{CHAPTERS[chapter]}"]
        lines.append(line(number, step, own))
        if more:
            lines += more(step)
        elif parts:
            lines += [fit(f"         {item}") for item in items(step)]
    lines += _of_image(rows, own)
    return "\n".join(lines) + "\n"


def _of_image(rows: "list[tuple[int, Step]]", own: "dict[str, Any]") -> "list[str]":
    """What its image asks for, and what became of that."""
    found = [fit(f"{number:>3} {mark}    {cut(what, 34):<34} {note}") for number, mark, what, note in askers.rows(rows, own)]
    return ["", "IMAGE         what it asks for", *found] if found else []


def line(number: int, step: "Step", own: "dict[str, Any]", width: int = WIDTH) -> str:
    """The one line of a step; `own` is spec["dolium"]."""
    head = "       -" if step.is_part else f"{number:3} {askers.mark(step, own)} {LETTER[step.actor]} "
    what = cut(step.what, 34)
    return fit(f"{head} {what}{' ' * (34 - columns(what))} {step.note}", width)


def rows(steps: "list[Step]", spec: "dict[str, Any]") -> "list[dict[str, Any]]":
    """The plan for programs: every step and part, with stable keys."""
    own = spec["dolium"]
    return [{"step": number, "part": step.is_part, "actor": ACTOR[step.actor], "chapter": step.chapter, "op": step.op,
             "what": step.what, "note": step.note, "items": items(step), "why": step.why, "by": askers.who(step, own),
             "asked": askers.who(step, own) == askers.YOU} for number, step in numbered(steps)]  # fmt: skip


def columns(text: str) -> int:
    """How wide a terminal shows it: characters of East Asia take two columns, UAX 11."""
    return sum(2 if east_asian_width(each) in "WF" else 1 for each in text)


def cut(line: str, width: int) -> str:
    """The line, or its beginning and three points, within so many columns."""
    if columns(line) <= width:
        return line
    line = line[: width - 3]
    while columns(line) > width - 3:
        line = line[:-1]
    return line + "..."


def fit(line: str, width: int = WIDTH) -> str:
    """The line, cut to that width; of what a terminal would obey, question marks."""
    return cut(printable(line), width).rstrip()


def printable(line: str) -> str:
    """Of what a terminal would obey, question marks."""
    return "".join(each if each.isprintable() else "?" for each in line).rstrip()


def wrapped(line: str, width: int, hang: str = "") -> "list[str]":
    """The line broken at its spaces, or where a word is longer than all the width, within it; the rest begins with `hang`."""
    found: list[str] = []
    rest = line
    while columns(rest) > width:
        most = rest
        while columns(most) > width:
            most = most[:-1]
        at = most.rfind(" ") if rest[len(most) : len(most) + 1] != " " else len(most)
        if at <= len(hang):
            at = max((most.rfind(each) + 1 for each in "|,/:"), default=0)
        at = at if at > len(hang) else len(most)
        found.append(rest[:at].rstrip())
        rest = hang + rest[at:].lstrip()
    return [*found, rest]
