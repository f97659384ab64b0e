"""A plan as a document, to be kept in a file and read again by `dolium explain --diff`.  Pure."""

from dolium.core.wire import Step
from dolium.errors import UsageError
from dolium.plan import explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORMAT = 1
READABLE = (FORMAT,)
KIND = "dolium plan"
TEXTS = ("op", "why", "path", "path2", "what", "note")
NUMBERS = ("actor", "fd", "fd2", "out", "n1", "n2", "n3", "on")
HOW = "`dolium explain --save FILE` with the words of a container writes one"


def document(image: str, notes: "list[str]", steps: "list[Step]", spec: "dict[str, Any]") -> "dict[str, Any]":
    """All there is to say of a plan; `raw` of each step is what its actor reads."""
    rows = explain.rows(steps, spec)
    for row, step in zip(rows, steps, strict=True):
        row["raw"] = _raw(step)
    name = spec["linux"]["cgroupsPath"].rpartition("/")[2]
    return {"kind": KIND, "format": FORMAT, "image": image, "id": name, "notes": notes, "steps": rows}


def _raw(step: Step) -> "dict[str, Any]":
    found: dict[str, Any] = {name: getattr(step, name) for name in (*TEXTS, *NUMBERS)}
    found |= {"accept": [*step.accept], "data": step.data.hex()}
    return found | ({"other": _raw(step.other)} if step.other is not None else {})


class Saved:
    """A plan that was kept: the container's id in it, and its steps."""

    __slots__ = ("id", "steps")

    def __init__(self, identity: str, steps: "list[Step]") -> None:
        self.id = identity
        self.steps = steps


def read(found: object, name: str) -> Saved:
    """A document, read; `name` is what it is called in errors.  Raises UsageError for what is none, or of another format."""
    if not isinstance(found, dict) or found.get("kind") != KIND:
        raise UsageError(f"`{name}` is no saved plan", hint=HOW)
    if found.get("format") not in READABLE:
        raise UsageError(f"`{name}` is a plan in format {found.get('format')!r}, and this dolium reads format {FORMAT}",
                         hint="use the dolium that wrote it, or save it again")  # fmt: skip
    try:
        steps = [_step(row) for row in found["steps"]]
        if not steps or steps[0].is_part or not isinstance(found["id"], str) or not found["id"]:
            raise ValueError
    except (KeyError, TypeError, ValueError):
        raise UsageError(f"`{name}` is damaged: it says it is a plan, but its steps cannot be read", hint=HOW) from None
    return Saved(found["id"], steps)


def _step(row: "dict[str, Any]") -> Step:
    step = _made(row["raw"])
    step.chapter, step.is_part = row["chapter"], row["part"]
    if step.chapter not in explain.CHAPTERS or not isinstance(step.is_part, bool):
        raise ValueError
    return step


def _made(raw: "dict[str, Any]") -> Step:
    if not all(isinstance(raw[name], str) for name in TEXTS) or not all(type(raw[name]) is int for name in NUMBERS):
        raise ValueError
    step = Step(raw["op"], raw["actor"], raw["why"], data=bytes.fromhex(raw["data"]), accept=tuple(map(int, raw["accept"])))
    for name in (*TEXTS, *NUMBERS):
        setattr(step, name, raw[name])
    step.other = _made(raw["other"]) if "other" in raw else None
    return step
