"""The step that loads the system call filter, seccomp(2)."""

from marshal import dumps

from dolium.core.wire import INSIDE, Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

SPEC_ALLOW = 4
_last: "dict[int, tuple[dict[str, Any], bytes, int]]" = {}


def key(profile: "dict[str, Any]", machine: str) -> bytes:
    """What a compiled filter is kept under: a digest would take longer to make than this to compare."""
    return machine.encode() + dumps(profile, 2)


def load(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Raises SpecError for a malformed profile and Unsupported for a machine whose system calls we do not know."""
    profile = spec["linux"].get("seccomp")
    if profile is None:
        return []
    program, flags = compiled(profile, facts)
    if not spec["dolium"].get("why_denied"):
        return [Step("seccomp", INSIDE, "linux.seccomp", data=program, n1=flags,
                     what=f"seccomp, {len(program) // 8} instructions", note="others: EPERM; unknown ones: ENOSYS")]  # fmt: skip
    from dolium.plan import denied, slots

    return [Step("seccomp", INSIDE, "why_denied", data=denied.asking(program), n1=flags | denied.NEW_LISTENER, fd=slots.DENIALS,
                 what=f"seccomp, {len(program) // 8} instructions", note="asks you, who always say the same")]  # fmt: skip


def compiled(profile: "dict[str, Any]", facts: "Facts") -> "tuple[bytes, int]":
    """The filter and the flags it is loaded with.  Raises SpecError and Unsupported."""
    last = _last.get(id(profile))
    if last is None or last[0] is not profile:
        last = (profile, *_compiled(profile, facts))
        _last.clear()  # one is enough: the default profile, time after time
        _last[id(profile)] = last
    return last[1:]


def _compiled(profile: "dict[str, Any]", facts: "Facts") -> "tuple[bytes, int]":
    ready = facts.filters.get(key(profile, facts.machine)) if "flags" not in profile else None
    if ready is not None:
        return ready, SPEC_ALLOW
    from dolium.plan import seccomp

    return seccomp.compile(profile, facts.machine), seccomp.flags(profile)
