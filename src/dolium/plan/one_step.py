"""All that there is to say of one step, as `dolium explain --step N` prints it, and the short of it, for `-v`.  Pure."""

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE, Step
from dolium.plan import askers, calls, explain, lessons
from dolium.plan.explain import WIDTH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LABEL = 9
ACTS = {HOST: "host (H): Python, in the namespaces that you are in",
        OUTSIDE: "outside (O): dolium-init, in a private copy of the mounts, beside the container",
        INSIDE: "inside (I): the child of dolium-init, which becomes the container",
        BOTH: "both (=): outside and inside meet"}  # fmt: skip


def text(steps: "list[Step]", number: int, spec: "dict[str, Any]") -> str:
    """The page of that step, with its parts; it must be one of the plan's."""
    mine = [step for place, step in explain.numbered(steps) if place == number]
    first, parts = mine[0], mine[1:]
    lesson = lessons.of(first)
    head = f"{number}  {first.what}"
    lines = [f"{head:<{WIDTH - len(first.chapter) - 1}} {first.chapter}", *_said("", first.note)]
    for label in ("what", "why", "here", "without"):
        lines += _said(label, getattr(lesson, label))
    lines += _said("call", *calls.of(first))
    for part in parts:
        lines += _said("and", f"{part.what}: {part.note}")
        own = lessons.of(part)
        if own.key != lesson.key:
            lines += _said("", own.what)
        lines += _said("call", *calls.of(part))
    lines += _said("names", *_filled(mine, steps))
    if first.op == "seccomp":
        lines += _said("refuses", _refused(first))
    lines += _said("asked", askers.told(first, spec["dolium"])) + _said("acts", ACTS[first.actor])
    lines += _said("man", ", ".join(lesson.man)) + _said("see", ", ".join(_see(first, lesson)))
    return "\n".join(explain.printable(each) for each in lines) + "\n"


WORDS = """\
 namespace   a list of the kernel's (mounts, processes, users ...) that not all
             processes share; who is in another one sees another list
 cgroup      a group of processes that the kernel counts and limits together
 mount       a file system, or a part of one, at a place in the tree of files
 descriptor  a number by which a process holds something open: a file, a
             directory, a mount, a namespace; it goes on meaning the same thing
 capability  a piece of what root may do; a process holds some or none
 EPERM ...   the names of errors; errno(3) lists them, pages such as mount(2)
             are read by `man 2 mount`
"""
"""What one has to know to read the rest."""


def _see(step: "Step", lesson: lessons.Lesson) -> "list[str]":
    """Where it shows; of a limit the very file that was written."""
    if step.op == "set_limit":
        return [step.path, *(each for each in lesson.see if "/" in each)]
    if step.op == "watch_oom":
        return [f"{step.path}/{each}" for each in lesson.see]
    return lesson.see


def _refused(step: "Step") -> str:
    """Which system calls a filter never allows, of all that it may have heard of."""
    from dolium.plan import denied, syscalls

    known, allowed = syscalls.numbers("x86_64"), denied.allowed(step.data)
    never = sorted({*known} - allowed)
    return f"{len(never)} of {len(known)} calls, whatever their arguments: {', '.join(never) or 'none'}"


def short(step: "Step") -> "list[str]":
    """The lines below a step's own, for `-v`: what it does and its calls; of a part only the calls."""
    lesson = lessons.of(step)
    lines = [] if step.is_part else explain.wrapped(f"{lesson.what} See {', '.join(lesson.man)}.", WIDTH - LABEL)
    for call in calls.of(step):
        lines += explain.wrapped(call, WIDTH - LABEL - 2, "  ")
    return [explain.printable(" " * LABEL + each) for each in lines]


def _said(label: str, *paragraphs: str) -> "list[str]":
    lines: list[str] = []
    for each in paragraphs:
        hang = "  " if label == "call" else ""
        for line in explain.wrapped(each, WIDTH - LABEL, hang):
            lines.append(f"{'' if lines else label:<{LABEL}}{line}".rstrip())
    return lines


def _filled(mine: "list[Step]", steps: "list[Step]") -> "list[str]":
    """Where the descriptors come from that the calls name."""
    wanted = [slot for step in mine for slot in uses(step)]
    own = {step.out for step in mine}
    found: dict[str, str] = {}
    for number, step in explain.numbered(steps):
        if step is mine[0]:
            break
        if step.out in wanted and step.out not in own:
            found[calls.name(step.out)] = f"{calls.name(step.out)} comes from step {number}"
    return [*found.values()]


def uses(step: "Step") -> "list[int]":
    """The slots that a step reads."""
    slots = [step.fd, step.fd2, *(step.data if step.op == "sync" else ()), *([step.n1] if step.op == "mask" else ())]
    if step.op in ("new_mount", "keep"):
        slots += [int(each.partition(b"}")[0]) for each in step.data.split(b"{")[1:] if each.partition(b"}")[0].isdigit()]
    return [each for each in slots if each >= 0]
