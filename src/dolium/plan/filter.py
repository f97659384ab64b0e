"""The step that loads the system call filter, seccomp(2)."""

from dolium.core.wire import INSIDE, Step
from dolium.plan import seccomp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts


_last: "dict[int, tuple[dict[str, Any], bytes]]" = {}


def load(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Raises SpecError for a malformed profile and Unsupported for a machine whose system calls we do not know."""
    profile = spec["linux"].get("seccomp")
    if profile is None:
        return []
    last = _last.get(id(profile))
    if last is None or last[0] is not profile:
        program = seccomp.compile(profile, facts.machine)
        _last.clear()  # one is enough: the default profile, time after time
        _last[id(profile)] = (profile, program)
    else:
        program = last[1]
    return [Step("seccomp", INSIDE, "linux.seccomp", data=program, n1=seccomp.flags(profile),
                 what=f"seccomp, {len(program) // 8} instructions", note="others: EPERM; unknown ones: ENOSYS")]  # fmt: skip
