"""The steps that load the system call filter, seccomp(2), and hand its listener to who decides in its stead."""

from marshal import dumps

from dolium.core.wire import BOTH, HOST, INSIDE, OUTSIDE, Step
from dolium.errors import SpecError, Unsupported
from dolium.plan import slots
from dolium.plan.origin import is_bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.plan.facts import Facts

SPEC_ALLOW = 4
NEW_LISTENER = 1 << 3
"""SECCOMP_FILTER_FLAG_NEW_LISTENER"""
PRIVILEGED, CREATED, LAST = "privileged", "created", "last"
"""Moments to load it at: while it still takes CAP_SYS_ADMIN; as the last thing of `create`; right before exec."""
_last: "dict[int, tuple[dict[str, Any], bytes, int]]" = {}


def key(profile: "dict[str, Any]", machine: str) -> bytes:
    """What a compiled filter is kept under: a digest would take longer to make than this to compare."""
    return machine.encode() + dumps(profile, 2)


def moment(spec: "dict[str, Any]") -> str:
    """When to load it: without no_new_privs early; else as late as possible, which is before `create` ends where somebody is
    to be given the listener."""
    if not spec["process"].get("noNewPrivileges"):
        return PRIVILEGED
    return CREATED if asks(spec["linux"].get("seccomp")) else LAST


def asks(profile: "Any") -> bool:
    """Whether a rule of a profile leaves the decision to somebody who listens."""
    rules = profile.get("syscalls") if isinstance(profile, dict) else None
    return isinstance(rules, list) and any(isinstance(each, dict) and each.get("action") == "SCMP_ACT_NOTIFY" for each in rules)


def load(spec: "dict[str, Any]", facts: "Facts") -> "list[Step]":
    """Raises SpecError for a malformed profile and Unsupported for a machine whose system calls we do not know."""
    profile = spec["linux"].get("seccomp")
    if profile is None:
        return []
    program, flags = compiled(profile, facts)
    what = f"seccomp, {len(program) // 8} instructions"
    if _asks(spec, profile):
        return [Step("seccomp", INSIDE, "linux.seccomp", data=program, n1=flags | NEW_LISTENER, fd=slots.DENIALS, what=what,
                     note="asks who listens")]  # fmt: skip
    if not spec["dolium"].get("why_denied"):
        return [Step("seccomp", INSIDE, "linux.seccomp", data=program, n1=flags, what=what,
                     note="others: EPERM; unknown ones: ENOSYS")]  # fmt: skip
    from dolium.plan import denied

    return [Step("seccomp", INSIDE, "why_denied", data=denied.asking(program), n1=flags | NEW_LISTENER, fd=slots.DENIALS,
                 what=what, note="asks you, who always say the same")]  # fmt: skip


def _asks(spec: "dict[str, Any]", profile: "dict[str, Any]") -> bool:
    """Whether somebody else decides about some calls (SCMP_ACT_NOTIFY).  Raises SpecError where nobody would."""
    for name in ("listenerPath", "listenerMetadata"):
        if not isinstance(profile.get(name) or "", str):
            raise SpecError(f"linux.seccomp.{name}", "must be a string")
    if profile.get("listenerMetadata") and not profile.get("listenerPath"):
        raise SpecError("linux.seccomp.listenerMetadata", "is for who listens, and there is no listenerPath")
    if not asks(profile):
        return False
    if not is_bundle(spec):
        raise SpecError("linux.seccomp", "SCMP_ACT_NOTIFY leaves calls to an agent of an engine, of which there is none here")
    if not str(profile.get("listenerPath") or "").startswith("/"):
        raise SpecError("linux.seccomp.listenerPath", "is required, an absolute path: a rule says SCMP_ACT_NOTIFY")
    return True


def hand_over(spec: "dict[str, Any]", facts: "Facts", between: "tuple[str, ...]" = (), *, born: bool = False) -> "list[Step]":
    """Python hands the listener to who is to listen, before anything else happens: a call that the filter asks about waits until
    somebody answers.  `between` are the calls that are made from the load until then, besides those that send it to Python;
    `born`: outside knows by itself how far inside has come.

    Raises Unsupported where the filter asks about one of them: nobody could answer.
    """
    profile = spec["linux"].get("seccomp")
    if profile is None or not _asks(spec, profile):
        return []
    from dolium.plan import denied

    asked = denied.asked_about(compiled(profile, facts)[0], ("sendmsg", "close", *between))
    if asked:
        raise Unsupported(f"SCMP_ACT_NOTIFY for {', '.join(asked)}",
                          "it takes that call to hand the listener over, and until then nobody answers")  # fmt: skip
    why = "linux.seccomp.listenerPath"
    return [
        *([] if born else [Step("sync", BOTH, why, n1=1, what="meet: the filter is loaded", note="outside waits for inside")]),
        Step("ask", OUTSIDE, why, what="meet Python", note="which has the filter's listener"),
        Step("notify", HOST, why, path=profile["listenerPath"], what=f"tell {profile['listenerPath']}",
             note="who decides from here on"),
        Step("sync", BOTH, why, what="meet: somebody listens", note="inside waits for outside"),
    ]  # fmt: skip


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
