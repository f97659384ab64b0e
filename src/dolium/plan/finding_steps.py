"""Which steps of a plan a word means: the name of a step, of a system call, of a file, a configuration key.  Pure."""

from dolium.plan import calls, explain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.core.wire import Step


def named(steps: "list[Step]", word: str) -> "list[int]":
    """The numbers of the steps whose operation is called so; else of those that have it as a word in their line, their key or
    their calls; else of those that have it anywhere there."""
    wanted = word.lower()
    called, said, within = set(), set(), set()
    for number, step in explain.numbered(steps):
        if step.op == wanted:
            called.add(number)
        text = "\n".join((step.what, step.note, step.why, *calls.of(step))).lower()
        if wanted in text:
            within.add(number)
            if _is_word(wanted, text):
                said.add(number)
    return sorted(called or said or within)


def _is_word(wanted: str, text: str) -> bool:
    at = text.find(wanted)
    while at >= 0:
        around = text[max(0, at - 1) : at] + text[at + len(wanted) :][:1]
        if not any(each.isalnum() or each == "_" for each in around):
            return True
        at = text.find(wanted, at + 1)
    return False


def listed(steps: "list[Step]", numbers: "list[int]", word: str, spec: "dict[str, Any]") -> str:
    """Their lines, out of the whole plan."""
    rows = [explain.line(number, step, spec["dolium"]) for number, step in explain.numbered(steps)
            if number in numbers and not step.is_part]  # fmt: skip
    return "\n".join([explain.fit(f"{len(rows)} steps for {word}; --step N tells all about one:"), *rows]) + "\n"
