"""docs/reference/api.md: the public names of `dolium` and `dolium.aio`, with their signatures and docstrings; `make golden` writes it."""

from __future__ import annotations

import inspect
import os
import re
import textwrap
from pathlib import Path
from typing import Any, get_args

from containers import TOP

import dolium
from dolium import aio

PAGE = Path(TOP, "docs/reference/api.md")
HEAD = """\
# Library reference

Every public name of `dolium` and `dolium.aio`, from their docstrings. To begin, read [the guide to the library](../library.md); errors have
[their own page](errors.md). Sizes are bytes or text such as `"64M"`, times are seconds. `make golden` makes this page.
"""


def signature(name: str, thing: Any) -> str:
    """One line, or one for each argument where that is too long."""
    found = inspect.signature(thing)
    words: list[str] = []
    for each in found.parameters.values():
        if each.kind is each.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        kind = f": {plain(each.annotation)}" if each.annotation is not each.empty else ""
        usual = f" = {0o644:#o}" if each.name == "mode" else f" = {each.default!r}".replace("'", '"')
        words.append(STARS.get(each.kind, "") + each.name + kind + (usual if each.default is not each.empty else ""))
    words = [word for word in words if word != "self"]
    gives = "" if found.return_annotation in (found.empty, None, "None") else f" -> {plain(found.return_annotation)}"
    line = f"{name}({', '.join(words)}){gives}"
    return line if len(line) <= 100 else f"{name}(\n" + "".join(f"    {each},\n" for each in words) + f"){gives}"


STARS = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def plain(annotation: Any) -> str:
    """An annotation as one writes it."""
    if isinstance(annotation, str):
        return annotation.strip("\"'")
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation).replace("typing.", "")


def said(thing: Any) -> str:
    """A docstring as Markdown: its indented tables and examples stay as they are."""
    parts = []
    for part in inspect.cleandoc(thing.__doc__ or "").split("\n\n"):
        lines = part.splitlines()
        table = re.match(r"\w[\w, ]*  +\S|  ", lines[0])
        parts.append(f"```text\n{textwrap.dedent(part)}\n```" if table else " ".join(lines).replace("  ", " "))
    return "\n\n".join(parts)


def function(title: str, thing: Any, level: int, call: str = "") -> list[str]:
    return [f"{'#' * level} `{title}`\n", f"```text\n{signature(call or title, thing)}\n```\n", f"{said(thing)}\n"]


def kind(title: str, thing: type, made: bool = False) -> list[str]:
    """A class: its methods and properties, in the order of the source."""
    lines = [f"## `{title}`\n"]
    if made:
        lines.append(f"```text\n{signature(title, thing.__init__)}\n```\n")
    lines.append(f"{said(thing)}\n")
    for member, value in vars(thing).items():
        if isinstance(value, property) and not member.startswith("_"):
            lines.append(f"### `{title}.{member}`\n\n{said(value)}\n")
        elif inspect.isfunction(value) and not member.startswith("_"):
            call = f"await {member}" if inspect.iscoroutinefunction(value) else member
            lines += function(f"{title}.{member}", value, 3, call)
    return lines


def public(name: str) -> list[str]:
    thing = getattr(dolium, name)
    return kind(name, thing, made=name in ("Pool", "Sandbox")) if isinstance(thing, type) else function(name, thing, 2)


def document() -> str:
    lines = [HEAD]
    errors = [name for name in dolium.__all__ if isinstance(getattr(dolium, name), type) and issubclass(getattr(dolium, name), BaseException)]
    others = [name for name in dolium.__all__ if name not in errors]
    for name in sorted(others, key=lambda each: (*FIRST, each).index(each)):
        lines += public(name)
    lines.append("## Errors\n")
    for name in errors:
        thing = getattr(dolium, name)
        lines.append(f"- `{name}`, code [`{thing.code}`](errors.md#{thing.code}): {' '.join(said(thing).split())}")
    lines += ["\n## `dolium.aio`\n", f"{said(aio)}\n", *kind("aio.Sandbox", aio.Sandbox), *kind("aio.Pool", aio.Pool), *kind("aio.Process", aio.Process)]
    return "\n".join(lines).rstrip("\n") + "\n"


FIRST = ("run", "Result", "Sandbox", "Process", "Pool", "ro", "rw", "tmp", "Mount")


def test_the_page_is_made_of_the_docstrings() -> None:
    if os.environ.get("DOLIUM_GOLDEN") == "write":
        PAGE.write_text(document())
    assert PAGE.read_text() == document(), "make golden"


def test_every_public_name_has_its_place() -> None:
    text = document()
    assert [name for name in dolium.__all__ if f"## `{name}`" not in text and f"- `{name}`, code" not in text] == []
