"""NOTIFY_SOCKET (sd_notify(3)): the container gets a socket of its own, and what it says there goes on to systemd, as far as it is
the container's to say.  `create` shows the container the directory, `start` puts the socket there and waits until the program
says that it is ready, or ends; both only where the caller has NOTIFY_SOCKET in its environment, as runc has it."""

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, socket

from dolium.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DIRECTORY = "notify"
"""Below the container's own directory."""
INSIDE = "/run/notify"
PASSED_ON = (b"READY=", b"STATUS=", b"RELOADING=", b"STOPPING=", b"WATCHDOG=", b"ERRNO=", b"EXTEND_TIMEOUT_USEC=")
"""Not MAINPID=, which a container could set to any process of the host, and not FDSTORE=."""


def wanted() -> str:
    """Where the caller's systemd listens; empty where it does not.  Raises UsageError."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path and path[0] not in "/@":
        raise UsageError(f"NOTIFY_SOCKET: expected an absolute path or @NAME, got `{path[:80]}`")
    return path


def mount(spec: "dict[str, Any]", directory: str) -> None:
    """Show it to the container: the mount and the variable.  `directory` is the container's own."""
    own = f"{directory}/{DIRECTORY}"
    os.mkdir(own, 0o755)
    spec["mounts"].append({"destination": INSIDE, "type": "bind", "source": own, "recursive": False,
                           "options": ["bind", "nosuid", "noexec", "nodev", "ro"]})  # fmt: skip
    given = [each for each in spec["process"]["env"] if not each.startswith("NOTIFY_SOCKET=")]
    spec["process"]["env"] = [*given, f"NOTIFY_SOCKET={INSIDE}/notify.sock"]


class Proxy:
    """The socket that the container speaks to, and its words' way to `target`."""

    __slots__ = ("_ours", "_target", "ready")

    def __init__(self, directory: str, target: str) -> None:
        self._target = target if target[0] == "/" else "\0" + target[1:]
        self.ready = False
        self._ours = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
        where = os.open(f"{directory}/{DIRECTORY}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._ours.bind(f"/proc/self/fd/{where}/notify.sock")
            os.chmod("notify.sock", 0o666, dir_fd=where)  # whoever is in the container may speak
        finally:
            os.close(where)

    def fileno(self) -> int:
        """Readable when the container has said something."""
        return self._ours.fileno()

    def pass_on(self, pid: int) -> None:
        """What it has said; with the first READY=1 goes which process `pid` is the main one, since systemd knows only us.
        Descriptors that come with it are not taken."""
        lines = self._ours.recv(1 << 16).split(b"\n")
        said = [line for line in lines if line.startswith(PASSED_ON)]
        if b"READY=1" in said and not self.ready:
            self.ready = True
            said.append(b"MAINPID=%d" % pid)
        if said:
            speaker = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC)
            try:
                speaker.sendto(b"\n".join(said), self._target)
            except OSError:  # nobody listens any more: that is no reason to end the container
                pass
            finally:
                speaker.close()

    def wait(self, pid: int) -> None:
        """Until it is ready, or its first process has ended."""
        from select import POLLIN, poll

        try:
            first = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        waiting = poll()
        waiting.register(self._ours, POLLIN)
        waiting.register(first, POLLIN)
        try:
            while not self.ready:
                ready = dict(waiting.poll())
                if self._ours.fileno() in ready:
                    self.pass_on(pid)
                elif first in ready:
                    return
        finally:
            os.close(first)
