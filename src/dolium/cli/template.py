"""`--format` with a template, as Docker's users write it: text, `{{.State.Pid}}`, `{{json .Mounts}}`, and `\\t` and `\\n`.

What else Go's templates can do is left to jq(1), which the error names.
"""

import json

from dolium.errors import SpecError
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

WORDS = ("json", "table")
ESCAPES = (("\\t", "\t"), ("\\n", "\n"))


def check(text: str, flag: str, fields: "tuple[str, ...]" = ()) -> str:
    """The template itself, if it is one that can be filled; `fields` are those that there are, where that is known before
    there is a document.  Raises SpecError."""
    if text in WORDS:
        return text
    if "{{" not in text:
        raise SpecError(flag, f"expected json or a template, got {quoted(text)}", hint="such as {{.Id}} or {{json .}}")
    for code, character in ESCAPES:
        text = text.replace(code, character)
    for each in text.split("{{")[1:]:
        expression, end, _ = each.partition("}}")
        if not end:
            raise SpecError(flag, f"there is no `}}}}` after {quoted('{{' + each)}")
        names = _path(expression.strip(), flag)
        if fields and names and names[0] not in fields:
            raise _absent(names[0], expression.strip(), fields, flag)
    return text


def fill(text: str, document: "dict[str, Any]", flag: str = "--format") -> str:
    """A checked template with the values of that document in it.  Raises SpecError for a field that there is not."""
    return _each(text, lambda expression: _value(expression, document, flag))


def table(text: str, documents: "list[dict[str, Any]]") -> str:
    """A line for each document; `table` before the template: in columns, where it has tabs, below a line of names."""
    if not text.startswith("table "):
        return "".join(fill(text, each) + "\n" for each in documents)
    columns = text.removeprefix("table ").split("\t")
    rows = [[_each(column, lambda expression: expression.removeprefix("json").strip(" .").upper()) for column in columns],
            *([fill(column, each) for column in columns] for each in documents)]  # fmt: skip
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "".join("   ".join(map(str.ljust, row, widths)).rstrip() + "\n" for row in rows)


def _each(text: str, act: "Callable[[str], str]") -> str:
    first, *rest = text.split("{{")
    return first + "".join(act(expression.strip()) + plain for expression, _, plain in (each.partition("}}") for each in rest))


def _path(expression: str, flag: str) -> "list[str]":
    path = expression.removeprefix("json ").strip()
    names = path.split(".")
    if path != "." and (names[0] or not names[1:] or not all(each.isidentifier() for each in names[1:])):
        raise SpecError(flag, f"only {{{{.Name}}}} and {{{{json .Name}}}} are understood, got {quoted('{{' + expression + '}}')}",
                        hint="for more there are `--format json` and jq(1), such as: jq '.[].Mounts[].Source'")  # fmt: skip
    return [each for each in names if each]


def _value(expression: str, document: "dict[str, Any]", flag: str) -> str:
    found: Any = document
    for name in _path(expression, flag):
        if not isinstance(found, dict) or name not in found:
            raise _absent(name, expression, tuple(found) if isinstance(found, dict) else (), flag)
        found = found[name]
    if expression.startswith("json "):
        return json.dumps(found)
    if isinstance(found, (dict, list)):
        raise SpecError(flag, f"{quoted(expression)} is more than one value", hint=f"write {{{{json {expression}}}}}")
    return str(found).lower() if isinstance(found, bool) else "<no value>" if found is None else str(found)


def _absent(name: str, expression: str, known: "tuple[str, ...]", flag: str) -> SpecError:
    from dolium.engine.nearest import nearest

    similar = nearest(name, known)
    hint = f"did you mean {similar[0]}?" if similar else "there are " + ", ".join(known) if known else ""
    return SpecError(flag, f"there is no {quoted(name)} in {quoted(expression)}", hint=hint)
