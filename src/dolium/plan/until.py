"""The beginning of a plan, up to a step, and perhaps a shell where the next one would have been.  Pure."""

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE, Step, part, strings
from dolium.plan import explain, namespaces, program, slots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SHELLS = ("/bin/sh", "/usr/bin/sh")


def last(steps: "list[Step]") -> int:
    """The last step to stop after: the next one is the program itself, and nobody is left to stop."""
    return next(number for number, step in explain.numbered(steps) if step.op == "exec") - 1


def first(steps: "list[Step]", number: int) -> "list[Step]":
    """The steps up to that one, with their parts."""
    return [step for place, step in explain.numbered(steps) if place <= number]


def alone(steps: "list[Step]", number: int) -> "list[Step]":
    """The same, at the end of which the child waits for dolium-init, which may still have to look at it."""
    done = first(steps, number)
    if any(step.op == "clone" for step in done):
        done.append(part(_meet()))
        done[-1].chapter = done[-2].chapter
    return done


def _meet() -> Step:
    return Step("sync", BOTH, "process", what="meet: all is done so far", note="inside waits for outside")


def shell(steps: "list[Step]", number: int, spec: "dict[str, Any]", term: str) -> "list[Step]":
    """The same, then a shell in place of whoever would act next; `term` is the type of the caller's terminal.

    Before the child is born that is one in dolium-init's namespaces, afterwards in those of the child; before the pivot the
    shell is the host's, then the container's own.  dolium-keep watches over it as over any container.
    """
    done = first(steps, number)
    made = {step.op for step in done}
    env = {**dict(each.split("=", 1) for each in spec["process"]["env"]), "PS1": f"after step {number} # ", "TERM": term}
    if "pivot_root" not in made:
        env["PATH"] = program.DEFAULT_PATH
    if "clone" in made:
        tail = [_meet()]
    else:
        tail = [Step("clone", OUTSIDE, "process", what="clone3", note="in the same namespaces, for the shell")]
    if "reset" not in made:
        tail.append(namespaces.forget())
    if "umask" not in made:
        tail.append(program.umask(spec))
    if "die_with" not in made:
        tail.append(program.die_with())
    data = strings(*SHELLS, "sh") + strings(*(f"{key}={value}" for key, value in env.items()))
    tail.append(Step("exec", INSIDE, "process.args", data=data, n1=len(SHELLS), n2=1, n3=len(env), what="exec sh",
                     note="in place of the next step"))  # fmt: skip
    tail.append(_keep(steps, done))
    for step in tail:
        step.chapter = "EXEC"
    return done + tail


def _keep(steps: "list[Step]", done: "list[Step]") -> Step:
    """dolium-keep, with what the steps so far have opened for it."""
    whole = next(step for step in steps if step.op == "keep")
    there = {slots.LEASE, *(step.out for step in done)}
    groups = {step.path for step in done if step.actor == HOST}
    words = []
    for word in whole.data.decode("utf-8", "surrogateescape").split("\0")[:-1]:
        key, _, value = word.partition("=")
        if (value[:1] != "{" or int(value.strip("{}")) in there) and (key != "group" or value in groups):
            words.append(word)
    return Step("keep", OUTSIDE, "process", fd=slots.KEEP, data=strings(*words), what=whole.what, note=whole.note)
