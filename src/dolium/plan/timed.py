"""A plan that has been carried out: its lines, and how long each step took.  Pure."""

from dolium.core.wire import HOST, INSIDE, OUTSIDE
from dolium.plan import explain
from dolium.plan.explain import WIDTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.core.wire import Step

COLUMN = 9
"""Characters for a time; the note gets what is left."""
LEGEND = """\
 us: microseconds, measured by who did the step; (us): one waits for the other;
 -: exec and its like leave nobody behind to measure them
"""
WAITING, LEAVING = ("sync",), ("exec", "keep")
DEAREST = 3


def text(head: str, steps: "list[Step]", spec: "dict[str, Any]", times: "list[int]", parts: bool = False) -> str:
    """The steps with their times, in nanoseconds and in the same order; then the total, and the dearest."""
    lines = [explain.fit(head), *explain.legend(spec), *LEGEND.splitlines()]
    whole = _whole(steps, times)
    chapter = ""
    for index, (number, step) in enumerate(explain.numbered(steps)):
        if step.is_part and not parts:
            continue
        if step.chapter != chapter:
            chapter = step.chapter
            lines += ["", f"{chapter:<14}{explain.CHAPTERS[chapter]}"]
        spent = times[index] if step.is_part or parts else whole[number]
        line = explain.line(number, step, spec["dolium"], WIDTH - COLUMN - 1)
        lines.append(line + " " * (WIDTH - COLUMN - explain.columns(line)) + f"{_shown(step, spent):>{COLUMN}}")
    return "\n".join([*lines, "", *_sums(steps, times, whole)]) + "\n"


def _whole(steps: "list[Step]", times: "list[int]") -> "dict[int, int]":
    """Of each numbered step, with its parts."""
    found: dict[int, int] = {}
    for (number, _), spent in zip(explain.numbered(steps), times, strict=True):
        found[number] = found.get(number, 0) + spent
    return found


def _shown(step: "Step", spent: int) -> str:
    if step.op in LEAVING:
        return "-"
    figure = f"{spent / 1000:.0f}" if spent >= 10_000 else f"{spent / 1000:.1f}"
    return f"({figure})" if step.op in WAITING else figure


def _sums(steps: "list[Step]", times: "list[int]", whole: "dict[int, int]") -> "list[str]":
    sums = {actor: sum(spent for step, spent in zip(steps, times, strict=True) if step.actor == actor and step.op not in LEAVING)
            for actor in (HOST, OUTSIDE, INSIDE)}  # fmt: skip
    each = ", ".join(f"{explain.ACTOR[actor]} {_figure(spent)}" for actor, spent in sums.items())
    lines = [f"total    {_figure(sum(sums.values()))} ms: {each}, the last two at once"]
    worked = [(whole[number], number, step) for number, step in explain.numbered(steps)
              if not step.is_part and step.op not in (*WAITING, *LEAVING)]  # fmt: skip
    dearest = sorted(worked, key=lambda each: -each[0])[:DEAREST]
    for label, (spent, number, step) in zip(("dearest", *[""] * DEAREST), dearest, strict=False):
        share = 100 * spent // max(1, sum(sums.values()))
        lines.append(explain.fit(f"{label:<8} {number:3} {step.what}: {_figure(spent)} ms, {share} % of it"))
    return lines


def _figure(nanoseconds: int) -> str:
    """Milliseconds, in five characters, on a host that is busy as well."""
    return f"{nanoseconds / 1e6:.2f}" if nanoseconds < 99_995_000 else f"{nanoseconds / 1e6:.0f}"
