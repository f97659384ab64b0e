"""The listener of a filter with SCMP_ACT_NOTIFY goes to the agent at linux.seccomp.listenerPath, which decides from then on."""

from _socket import AF_UNIX, MSG_CMSG_CLOEXEC, SOCK_SEQPACKET, socketpair

from dolium.core import document
from dolium.runtime import console

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

WHY = "linux.seccomp.listenerPath"


class Listener:
    """Give `door` to the plan; when it has loaded the filter, call `hand_over`."""

    __slots__ = ("_ours", "door")

    def __init__(self) -> None:
        self._ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        self.door = theirs.detach()
        """The socket that the plan hands the listener over to; its taker closes it."""

    def hand_over(self, profile: "dict[str, Any]", told: "dict[str, Any]", pid: int) -> None:
        """Send the agent a "container process state" (runtime-spec, config-linux.md) with the listener; `told` is the
        container's state, `pid` the process that is filtered.  Raises DoliumError."""
        _, control, _, _ = self._ours.recvmsg(1, 32, MSG_CMSG_CLOEXEC)
        self._ours.close()
        state = {"ociVersion": told["ociVersion"], "fds": ["seccompFd"], "pid": pid, "state": told}
        if profile.get("listenerMetadata"):
            state["metadata"] = profile["listenerMetadata"]
        listener = int.from_bytes(control[0][2][:4], "little")
        agent = console.connect(profile["listenerPath"], WHY)
        console.give(agent, document.write(state).encode("utf-8", "surrogateescape"), listener, WHY)
