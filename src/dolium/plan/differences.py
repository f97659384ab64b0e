"""Two plans compared: which steps are new, gone or others, and what that means.  Pure."""

from dolium.core.wire import Step
from dolium.plan import askers, calls, explain, judgements, lessons, slots
from dolium.plan.explain import WIDTH, wrapped
from dolium.plan.judgements import FOLLOWS, NEUTRAL, TIGHTER, UNCLEAR, WEAKER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Group = list[Step]

INDENT = 16


class Difference:
    """A step with its parts that is not the same in both: `number` in the newer plan, or in the older one where it is gone."""

    __slots__ = ("number", "before", "after", "verdict", "why")

    def __init__(self, number: int, before: "Group", after: "Group") -> None:
        self.number = number
        self.before = before
        self.after = after
        self.verdict = NEUTRAL
        self.why = ""

    @property
    def key(self) -> str:
        """Of the lesson that it is about."""
        return lessons.of((self.after or self.before)[0]).key


def between(before: "list[Step]", after: "list[Step]", names: "tuple[str, str]") -> "list[Difference]":
    """What differs, in the order of the newer plan, what is gone at the place it had; `names` are the ids of the two containers,
    which are no difference.  Raises KeyError for operations that this version does not know."""
    old, new = _groups(before, names[0]), _groups(after, names[1])
    found = []
    for key, (number, group, said) in new.items():
        was = old.get(key)
        if was is None or was[2] != said:
            found.append(Difference(number, was[1] if was else [], group))
    found += [Difference(number, group, []) for key, (number, group, _) in old.items() if key not in new]
    found.sort(key=lambda each: (each.number, bool(each.after)))
    others = {each.key for each in found}
    for each in found:
        each.verdict, each.why = judgements.judge(each.key, each.before, each.after, others)
    return found


def _groups(steps: "list[Step]", name: str) -> "dict[tuple[str, str, int], tuple[int, Group, list[str]]]":
    """Each step with its parts, under a key that the same step has in another plan: (lesson, what it is about, which of those)."""
    found: dict[tuple[str, str, int], tuple[int, Group, list[str]]] = {}
    for number, step in explain.numbered(steps):
        if step.is_part:
            found[next(reversed(found))][1].append(step)
            continue
        lesson, about = lessons.of(step).key, _about(step).replace(name, "ID")
        place = 0
        while (lesson, about, place) in found:
            place += 1
        found[lesson, about, place] = (number, [step], [])
    for _, group, said in found.values():
        said += [line.replace(name, "ID") for each in group for line in _comparable(each)]
    return found


def _about(step: Step) -> str:
    """What tells one step of a kind from another."""
    if step.op in ("move_mount", "write", "rlimit", "make_group", "read_file"):
        return step.path
    if step.op == "open_tree" and step.why != "root.path":
        return step.path
    if step.op == "new_mount":
        return f"{step.path} {step.what.rpartition(' for ')[2]}"
    if step.op == "mknod":
        return step.what
    return ""


def _comparable(step: Step) -> "list[str]":
    """The calls, without the numbers that descriptors of a kind have in one plan, and a filter's own bytes."""
    lines = calls.of(step)
    for first in (slots.FIRST_MOUNT, slots.FIRST_TASKS):
        word = calls.name(first)[:-1]
        lines = [_unnumbered(line, word) for line in lines]
    return [*lines, step.data.hex()] if step.op in ("seccomp", "device_filter") else lines


def _unnumbered(line: str, word: str) -> str:
    at = line.find(word)
    while at >= 0:
        end = at + len(word)
        while line[end : end + 1].isdigit():
            end += 1
        line = line[: at + len(word)] + line[end:]
        at = line.find(word, at + len(word))
    return line


def text(found: "list[Difference]", total: int, own: "dict[str, Any]", base: str) -> str:
    """The differences and the verdict on all of them; `total` is how many steps the newer plan has, `base` what the older is, `own`
    spec["dolium"] of the newer one."""
    shown = [each for each in found if each.verdict != FOLLOWS]
    follow = len(found) - len(shown)
    lines = [explain.fit(f"Against {base}:  + new   - gone   ~ another")] if found else []
    for each in shown:
        step = (each.after or each.before)[0]
        sign = "~" if each.before and each.after else "+" if each.after else "-"
        mark = askers.mark(step, own) if each.after else "."
        was = f"was: {each.before[0].what}" if sign == "~" and each.before[0].what != step.what else step.note
        lines.append(explain.fit(f"{sign} {each.number:3} {mark}  {explain.cut(step.what, 34):<34} {was}"))
        for index, line in enumerate(wrapped(each.why, WIDTH - INDENT)):
            lines.append(f"       {each.verdict if not index else '':<{INDENT - 7}}{line}".rstrip())
    return "\n".join([*lines, *_verdict(shown, follow, total, base)]) + "\n"


def _verdict(shown: "list[Difference]", follow: int, total: int, base: str) -> "list[str]":
    counts = {kind: sum(each.verdict == kind for each in shown) for kind in (WEAKER, TIGHTER, NEUTRAL, UNCLEAR)}
    besides = f", and {follow} that follow from that" if follow and shown else ""
    if not shown:
        also = f"; {follow} differ in form only" if follow else ""
        return wrapped(f"No step of {total} differs from {base} in what it means{also}.", WIDTH)
    many = len(shown) > 1
    count = f"{len(shown)} of {total} steps {'differ' if many else 'differs'}{besides}"
    words = [f"{counts[kind]} {kind}" for kind in (WEAKER, TIGHTER, UNCLEAR) if counts[kind]]
    it = "they" if many else "it"
    if counts[UNCLEAR] or (counts[WEAKER] and counts[TIGHTER]):
        end = f"{', '.join(words)}: weigh them yourself."
    elif counts[WEAKER]:
        end = f"{it} weaken{'' if many else 's'} the container."
    elif counts[TIGHTER]:
        end = f"{it} tighten{'' if many else 's'} the container."
    else:
        end = f"neither weaker nor tighter: {it} mean{'' if many else 's'} something else, not more or less."
    return wrapped(f"{count}; {end}", WIDTH)
