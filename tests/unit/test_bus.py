"""What becomes of us where a systemd answers late, otherwise than it should, or not at all.  How the real one is spoken to is in
tests/conformance/test_systemd.py; how a real bus is, here, too, where there is a dbus-daemon."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from dolium.errors import DoliumError, Unsupported
from dolium.plan import dbus
from dolium.runtime import bus, units

UNIT = {"name": "a-b.scope", "slice": "a.slice", "user": False, "version": 252, "description": "x"}
ACCEPTED = b"DATA\r\nOK 0123456789abcdef0123456789abcdef\r\n"
JOB = "/org/freedesktop/systemd1/job/7"


class Server:
    """Listens where systemd's own socket is looked for.  `answers` are made of each message that comes, in order."""

    def __init__(self, path: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(path)
        self.socket.listen()
        self.greeting = ACCEPTED
        self.answers: list[Callable[[dbus.Message], list[bytes]]] = []
        self.heard: list[tuple[str, list[Any]]] = []
        self.slices = 1 << 16
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self.socket.accept()
            except OSError:
                return
            try:
                self._answer(client)
            except OSError:  # it has had enough of us
                pass

    def _answer(self, client: socket.socket) -> None:
            with client:
                data = client.recv(4096).removeprefix(bus.GREETING)
                self._say(client, self.greeting)
                if self.greeting and not self.answers:
                    client.recv(4096)
                while self.answers:
                    while len(data) < dbus.FIXED or len(data) < dbus.length(data[: dbus.FIXED]):
                        more = client.recv(4096)
                        if not more:
                            break
                        data += more
                    if len(data) < dbus.FIXED:
                        break
                    size = dbus.length(data[: dbus.FIXED])
                    found, data = dbus.parse(data[:size]), data[size:]
                    self.heard.append((found.fields[dbus.MEMBER], found.values))
                    for each in self.answers.pop(0)(found):
                        self._say(client, each)

    def _say(self, client: socket.socket, data: bytes) -> None:
        for at in range(0, len(data), self.slices):
            client.sendall(data[at : at + self.slices])


def reply(signature: str = "", *values: Any) -> Callable[[dbus.Message], list[bytes]]:
    def made(asked: dbus.Message) -> list[bytes]:
        fields = {dbus.REPLY_SERIAL: asked.serial, **({dbus.SIGNATURE: signature} if signature else {})}
        return [dbus.message(dbus.RETURN, 99, fields, dbus.encode(signature, values))]

    return made


def error(name: str, words: str) -> Callable[[dbus.Message], list[bytes]]:
    return lambda asked: [dbus.message(dbus.ERROR, 99, {dbus.REPLY_SERIAL: asked.serial, dbus.ERROR_NAME: name, dbus.SIGNATURE: "s"},
                                       dbus.encode("s", (words,)))]  # fmt: skip


def removed(path: str, result: str) -> bytes:
    fields = {dbus.PATH: bus.PATH, dbus.INTERFACE: bus.MANAGER, dbus.MEMBER: "JobRemoved", dbus.SIGNATURE: "uoss"}
    return dbus.message(dbus.SIGNAL, 98, fields, dbus.encode("uoss", (7, path, "a-b.scope", result)))


def begun(result: str = "done", before: bool = False) -> Callable[[dbus.Message], list[bytes]]:
    """The answer to a job that is begun, and its end, which may be told first."""

    def made(asked: dbus.Message) -> list[bytes]:
        answers = [*reply("o", JOB)(asked), removed("/another/job", "failed"), removed(JOB, result)]
        return [answers[2], answers[0]] if before else answers

    return made


@pytest.fixture
def server(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    path = f"{tmp_path}/private"
    monkeypatch.setattr(bus, "places", lambda user: [(f"{tmp_path}/none", True), (path, False)])
    found = Server(path)
    yield found
    found.socket.close()


def begin() -> None:
    own = min(units.where(os.getpid()))
    units.start(UNIT, os.getpid(), [("Slice", "s", "a.slice")], own)


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("slices", [1, 7, 1 << 16])
def test_a_unit_is_begun(server: Server, before: bool, slices: int) -> None:
    """Whatever comes first, in however many pieces."""
    server.slices, server.answers = slices, [begun(before=before)]
    begin()
    ((member, values),) = server.heard
    assert member == "StartTransientUnit" and values[:2] == ["a-b.scope", "fail"]
    assert values[2] == [("Slice", ("s", "a.slice")), ("PIDs", ("au", [os.getpid()]))]


@pytest.mark.parametrize("result", ["failed", "canceled", "timeout", "dependency"])
def test_a_job_that_comes_to_nothing(server: Server, result: str) -> None:
    """The unit is stopped again: it is ours."""
    server.answers = [begun(result)]
    with pytest.raises(DoliumError, match=r"systemd has not made `a-b.scope`") as caught:
        server.answers += [begun(), reply()]
        begin()
    assert f"its job has ended with `{result}`" in str(caught.value) and "systemctl status a-b.scope" in caught.value.hint
    assert [member for member, _ in server.heard] == ["StartTransientUnit", "StopUnit", "ResetFailedUnit"]


def test_one_that_has_failed_is_forgotten_first(server: Server) -> None:
    server.answers = [error("org.freedesktop.systemd1.UnitExists", "it is there"), reply(), begun()]
    begin()
    assert [member for member, _ in server.heard] == ["StartTransientUnit", "ResetFailedUnit", "StartTransientUnit"]


def test_anothers_is_not_stopped(server: Server) -> None:
    there = error("org.freedesktop.systemd1.UnitExists", "Unit a-b.scope was already loaded.")
    server.answers = [there, reply(), there]
    with pytest.raises(DoliumError, match=r"systemd has not made `a-b.scope`: systemd says: Unit a-b.scope was already loaded."):
        begin()
    assert "StopUnit" not in [member for member, _ in server.heard]


def test_a_group_elsewhere_than_expected(server: Server) -> None:
    server.answers = [begun(), begun(), reply()]
    with pytest.raises(DoliumError, match=r"its processes are not in `/no/such.scope`, but in /"):
        units.start(UNIT, os.getpid(), [], "/no/such.scope")


@pytest.mark.parametrize(("said", "words"), [
    (b"REJECTED EXTERNAL\r\n", "does not let this user in: REJECTED"), (b"", "has hung up"), (b"OK" * 40000, "does not let this user in"),
    (ACCEPTED + b"x" * 100, "cannot be read"), (ACCEPTED + b"l\x02\x00\x01\xff\xff\xff\x0f" + bytes(40), "cannot be read"),
    (ACCEPTED, "has hung up"), (ACCEPTED + b"l\x02", "has hung up"),
], ids=["rejected", "nothing", "endless", "no message", "too long", "no answer", "half an answer"])  # fmt: skip
def test_what_is_no_answer(server: Server, said: bytes, words: str) -> None:
    server.greeting = said
    with pytest.raises(DoliumError) as caught:
        begin()
    assert words in str(caught.value) and "a-b.scope" in str(caught.value)


def test_one_that_never_answers(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "PATIENCE", 0.2)
    hold = threading.Event()

    def silent(_: dbus.Message) -> list[bytes]:
        hold.wait(20)
        return []

    server.answers = [silent]
    with pytest.raises(DoliumError, match=r"systemd has not made `a-b.scope`: systemd has not answered for"):
        begin()
    hold.set()


def test_nobody_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setattr(bus, "places", lambda user: [(f"{tmp_path}/none", True), (f"{tmp_path}/neither", False)])
    with pytest.raises(Unsupported, match=rf"--systemd-cgroup, a-b.scope: the host's systemd cannot be reached: `{tmp_path}/none`: No such file"):
        begin()
    with pytest.raises(Unsupported, match=r"your own systemd cannot be reached") as caught:
        units.stop({**UNIT, "user": True})
    assert "loginctl enable-linger" in caught.value.hint


def test_where_it_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert bus.places(False) == [("/run/dbus/system_bus_socket", True), ("/run/systemd/private", False)]
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/x")
    assert bus.places(True) == [("/x/bus", True), ("/x/systemd/private", False)]
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert bus.places(True)[0][0] == f"/run/user/{bus.outer_uid()}/bus"


def test_a_stop_of_what_is_not_there(server: Server) -> None:
    gone = error("org.freedesktop.systemd1.NoSuchUnit", "not loaded")
    server.answers = [gone, gone]
    units.stop(UNIT)
    assert [member for member, _ in server.heard] == ["StopUnit", "ResetFailedUnit"]


def test_a_real_bus(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """dbus-daemon takes our greeting and our messages; systemd is not on it, which it says."""
    if not shutil.which("dbus-daemon"):
        pytest.skip("no dbus-daemon here")
    path = f"{tmp_path}/bus"
    daemon = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--print-address=1", f"--address=unix:path={path}"],
                              stdout=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert daemon.stdout and daemon.stdout.readline()
        monkeypatch.setattr(bus, "places", lambda user: [(path, True)])
        connection = bus.Bus(False)
        assert connection.ask(bus.BUS, bus.BUS_PATH, bus.BUS, "NameHasOwner", "s", (bus.BUS,)) == [True]
        with pytest.raises(DoliumError, match=r"systemd says: .*org\.freedesktop\.systemd1"):
            connection.property("Version")
        connection.close()
    finally:
        daemon.kill()
        daemon.wait()
