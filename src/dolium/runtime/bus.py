"""A connection to a systemd: its bus, or the socket of its own that is there without one.  Messages are made in plan/dbus.py."""

import os
from _socket import AF_UNIX, MSG_NOSIGNAL, SOCK_CLOEXEC, SOCK_STREAM, socket
from time import monotonic

from dolium.errors import DoliumError
from dolium.plan import dbus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

SYSTEMD, PATH = "org.freedesktop.systemd1", "/org/freedesktop/systemd1"
MANAGER, PROPERTIES = f"{SYSTEMD}.Manager", "org.freedesktop.DBus.Properties"
BUS, BUS_PATH = "org.freedesktop.DBus", "/org/freedesktop/DBus"
GREETING = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n"
"""We are who the kernel says that we are, which also holds in a user namespace; D-Bus Specification, "Authentication Protocol"."""
PATIENCE = 30.0
"""Seconds that systemd has for an answer, or for a job."""
MOST = 1 << 16
"""Bytes of its words before the first message."""


def places(user: bool) -> "list[tuple[str, bool]]":
    """Where that systemd may be reached, in order, and whether a bus is in between; `user`: the caller's own."""
    if not user:
        return [("/run/dbus/system_bus_socket", True), ("/run/systemd/private", False)]
    top = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{outer_uid()}"
    return [(f"{top}/bus", True), (f"{top}/systemd/private", False)]


def outer_uid() -> int:
    """Which id of the host this user has, also as root of a user namespace that it has made."""
    uid = os.geteuid()
    with open("/proc/self/uid_map") as file:
        for line in file:
            first, host, count = map(int, line.split())
            if first <= uid < first + count:
                return host + uid - first
    return uid


class Bus:
    """To be closed in the end."""

    def __init__(self, user: bool) -> None:
        """Raises DoliumError where none answers."""
        self.serial = 0
        self.waiting = b""
        self.heard: list[dbus.Message] = []  # signals that have come before somebody asked for them
        problem = ""
        for path, between in places(user):
            self.socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
            try:
                self.socket.connect(path)
                self.has_bus = between
                self._greet()
                return
            except OSError as error:
                self.close()
                problem = problem or f"`{path}`: {error.strerror or error}"
        whose = "your own" if user else "the host's"
        raise DoliumError(f"{whose} systemd cannot be reached: {problem}")

    def close(self) -> None:
        """Hang up."""
        self.socket.close()

    def _greet(self) -> None:
        self._send(GREETING)
        deadline = monotonic() + PATIENCE
        while True:
            line, end, rest = self.waiting.partition(b"\r\n")
            if not end and len(line) < MOST:
                self._receive(deadline)
                continue
            self.waiting = rest
            word = line.split(b" ")[0]
            if word == b"OK":
                break
            if word != b"DATA":
                raise DoliumError(f"systemd does not let this user in: {line[:80].decode('ascii', 'replace')}")
        if self.has_bus:
            self.ask(BUS, BUS_PATH, BUS, "Hello")

    def ask(self, destination: str, path: str, interface: str, member: str, signature: str = "", values: "Sequence[Any]" = (),
            accept: "tuple[str, ...]" = ()) -> "list[Any] | None":  # fmt: skip
        """Call a method and wait for its answer; None for an error that is accepted, by the last word of its name.

        Raises DoliumError."""
        self.serial += 1
        try:
            data = dbus.call(self.serial, destination, path, interface, member, signature, values)
        except ValueError as problem:  # a text that is none, in an annotation
            raise DoliumError(f"it cannot be said: {problem}") from None
        self._send(data)
        deadline = monotonic() + PATIENCE
        while True:
            found = self._next(deadline)
            if found.kind == dbus.SIGNAL:
                self.heard.append(found)
            elif found.fields.get(dbus.REPLY_SERIAL) != self.serial:
                continue
            elif found.kind == dbus.ERROR:
                name = str(found.fields.get(dbus.ERROR_NAME, ""))
                if name.rpartition(".")[2] in accept:
                    return None
                raise DoliumError(f"systemd says: {found.values[0] if found.values else name}")
            else:
                return found.values

    def manage(self, member: str, signature: str = "", values: "Sequence[Any]" = (),
               accept: "tuple[str, ...]" = ()) -> "list[Any] | None":  # fmt: skip
        """Call a method of systemd's manager, as `ask` does."""
        return self.ask(SYSTEMD, PATH, MANAGER, member, signature, values, accept)

    def property(self, name: str) -> str:
        """A text that the manager shows of itself.  Raises DoliumError."""
        found = self.ask(SYSTEMD, PATH, PROPERTIES, "Get", "ss", (MANAGER, name))
        return str(found[0][1]) if found else ""

    def subscribe(self) -> None:
        """To the ends of jobs, before any is begun; who is not behind a bus hears of them anyway."""
        if self.has_bus:
            rule = f"type='signal',sender='{SYSTEMD}',interface='{MANAGER}',member='JobRemoved'"
            self.ask(BUS, BUS_PATH, BUS, "AddMatch", "s", (rule,))
            self.manage("Subscribe")

    def job(self, path: str) -> str:
        """Wait for the end of that job: `done`, or what became of it instead.  Raises DoliumError where it has none."""
        deadline = monotonic() + PATIENCE
        while True:
            found = self.heard.pop(0) if self.heard else self._next(deadline)
            if found.fields.get(dbus.MEMBER) == "JobRemoved" and len(found.values) == 4 and found.values[1] == path:
                return str(found.values[3])

    def _next(self, deadline: float) -> dbus.Message:
        try:
            while len(self.waiting) < dbus.FIXED or len(self.waiting) < dbus.length(self.waiting[: dbus.FIXED]):
                self._receive(deadline)
            size = dbus.length(self.waiting[: dbus.FIXED])
            found = dbus.parse(self.waiting[:size])
        except ValueError as problem:
            raise DoliumError(f"systemd's answer cannot be read: {problem}") from None
        self.waiting = self.waiting[size:]
        return found

    def _send(self, data: bytes) -> None:
        self.socket.settimeout(PATIENCE)
        try:
            self.socket.sendall(data, MSG_NOSIGNAL)
        except OSError as error:
            raise DoliumError(f"systemd cannot be spoken to: {error.strerror or error}") from None

    def _receive(self, deadline: float) -> None:
        self.socket.settimeout(max(0.001, deadline - monotonic()))
        try:
            data = self.socket.recv(1 << 16)
        except TimeoutError:
            raise DoliumError(f"systemd has not answered for {PATIENCE:.0f} seconds") from None
        except OSError:
            data = b""
        if not data:
            raise DoliumError("systemd has hung up before it answered")
        self.waiting += data
