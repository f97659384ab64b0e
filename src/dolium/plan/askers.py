"""Who asked for a step: you, the image, or nobody, by default; and what became of all that an image asks for.  Pure.

`spec["dolium"]["asked"]` are the keys that were asked for, `spec["dolium"]["image"]` what the image's config says
(engine/conversion.py): field -> (value, how), where `how` is ALONE, WITH something of yours, or INSTEAD: you said another.
"""

from dolium.plan.mounts import LAYERS, VOLUMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from dolium.core.wire import Step

YOU, IMAGE, DEFAULT = "you", "image", "default"
MARKS = {YOU: "*", IMAGE: "i", DEFAULT: "."}
ALONE, WITH, INSTEAD = "alone", "with", "instead"
KEYS = {"Entrypoint": "process.args", "Cmd": "process.args", "Env": "process.args", "User": "process.user",
        "WorkingDir": "process.cwd", "Volumes": VOLUMES, "StopSignal": ""}  # fmt: skip
"""The fields of an image's config, and by which key the step is known that carries one out; a signal is for later."""


BESIDES = {"Entrypoint": "your words", "Env": "your --env"}
YOURS = {"Entrypoint": "your --entrypoint", "Cmd": "your words", "User": "your --user", "WorkingDir": "your --workdir",
         "StopSignal": "your --stop-signal"}  # fmt: skip
"""What you may say besides, and instead."""


def keys_of_image(said: "dict[str, Any]") -> "set[str]":
    """The keys that the image alone decides."""
    return {KEYS[field] for field, (_, how) in said.items() if how == ALONE and field != "Env"} - keys_of_yours(said) - {""}


def keys_of_yours(said: "dict[str, Any]") -> "set[str]":
    """The keys that the image would decide, had you not."""
    return {KEYS[field] for field, (_, how) in said.items() if how != ALONE and field != "Env"} - {""}


def who(step: "Step", own: "dict[str, Any]") -> str:
    """YOU, IMAGE or DEFAULT; `own` is spec["dolium"]."""
    asked, why = own["asked"], step.why
    if why in asked or why.removeprefix("linux.resources.") in asked:
        return YOU
    return IMAGE if why in (LAYERS, VOLUMES) or why in keys_of_image(own.get("image") or {}) else DEFAULT


def mark(step: "Step", own: "dict[str, Any]") -> str:
    """The sign for that in a line."""
    return MARKS[who(step, own)]


def has_image(own: "dict[str, Any]") -> bool:
    """Whether the rootfs is an image, which may have asked for something."""
    return bool(own["root"].get("layers")) if "root" in own else False


def told(step: "Step", own: "dict[str, Any]") -> str:
    """In words, with the key and the fields."""
    fields = [field for field, (_, how) in (own.get("image") or {}).items() if KEYS[field] == step.why and how != INSTEAD]
    asker = who(step, own)
    by_image = f"the image, by {', '.join(fields) or 'its layers'}"
    if asker == YOU:
        return f"you, by {step.why}" + (f"; {by_image}" if fields else "")
    return f"{by_image} ({step.why})" if asker == IMAGE else f"nobody: it is the default ({step.why})"


def rows(numbered: "list[tuple[int, Step]]", own: "dict[str, Any]") -> "Iterator[tuple[str, str, str, str]]":
    """What the image asks for, a row for each field: the number of the step that carries it out, or nothing; the mark; field
    and value; what became of it."""
    steps: dict[str, int] = {}
    for number, step in numbered:
        steps[step.why] = number  # the last: what comes before it prepares
    for field, (value, how) in (own.get("image") or {}).items():
        if how == ALONE:
            note = "as it says" if KEYS[field] else "what `dolium stop` sends"
        else:
            note = f"instead: {YOURS[field]}" if how == INSTEAD else f"with {BESIDES[field]}"
        yield str(steps.get(KEYS[field], "")), MARKS[YOU if how == INSTEAD else IMAGE], f"{field:<10} {value}", note
