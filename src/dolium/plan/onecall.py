"""Steps that are one system call of which nothing matters but its arguments: one operation for all of them."""

from _struct import Struct

from dolium.core.wire import INSIDE, Step

CALLS = {"setdomainname": 171, "sched_setattr": 314, "sched_setaffinity": 203, "ioprio_set": 251, "personality": 135,
         "set_mempolicy": 238, "prctl": 157, "fcntl": 72, "fchdir": 81, "chdir": 80, "chroot": 161}  # fmt: skip
"""Numbers on x86_64, the machine that the default filter knows (syscalls(2))."""
_ARGUMENTS = Struct("=6q")
_DATA = -(1 << 63)
"""init/steps_ids.c, step_call: the address of what follows the arguments; 1 + N more, the descriptor in slot N."""


class Slot:
    """An argument that is the descriptor in a slot."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number


def call(why: str, name: str, arguments: "tuple[int | bytes | Slot, ...]", *, what: str, note: str, actor: int = INSIDE,
         accept: "tuple[int, ...]" = ()) -> Step:  # fmt: skip
    """A step that makes that system call; at most one of its arguments are bytes, given by their address."""
    data, values = b"", []
    for each in arguments:
        if isinstance(each, bytes):
            data = each
            values.append(_DATA)
        elif isinstance(each, Slot):
            values.append(_DATA + 1 + each.number)
        else:
            values.append(each - (1 << 64) if each >= 1 << 63 else each)
    packed = _ARGUMENTS.pack(*values, *(0,) * (6 - len(values)))
    return Step("call", actor, why, path=name, n1=CALLS[name], data=packed + data, what=what, note=note, accept=accept)
