"""SCMP_ACT_NOTIFY: runtime-spec, config-linux.md "Seccomp" and "The Container Process State"; each test is named after its rule."""

from __future__ import annotations

import array
import json
import os
import socket
import threading
from collections.abc import Iterator
from fcntl import ioctl
from struct import pack, unpack_from
from typing import Any

import pytest
from bundles import Bundle, config, script

RECEIVE, SEND = 0xC0502100, 0xC0182101
MKDIR, MKDIRAT = 83, 258


class Agent:
    """Listens as an engine's seccomp agent does, and answers every question with `value`."""

    def __init__(self, path: str, value: int = 0, errno: int = 0) -> None:
        self.path, self.value, self.errno = path, value, errno
        self.states: list[dict[str, Any]] = []
        self.closed: list[bool] = []
        self.calls: list[int] = []
        self.pids: list[int] = []
        self.fds: list[int] = []
        self.server = socket.socket(socket.AF_UNIX)
        self.server.bind(path)
        self.server.listen()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.server.accept()
            except OSError:
                return
            with connection:
                data, control, _, _ = connection.recvmsg(1 << 16, 100)
                fds = array.array("i")
                fds.frombytes(control[0][2])
                while chunk := connection.recv(1 << 16):
                    data += chunk
                self.closed.append(True)  # else recv would wait
            self.states.append(json.loads(data))
            self.fds += fds
            threading.Thread(target=self.answer, args=(fds[0],), daemon=True).start()

    def answer(self, listener: int) -> None:
        while True:
            room = bytearray(80)
            try:
                ioctl(listener, RECEIVE, room)
                identity, pid, _, number = unpack_from("<QIIi", room)
                self.calls.append(number)
                self.pids.append(pid)
                ioctl(listener, SEND, bytearray(pack("<QqiI", identity, self.value, -self.errno, 0)))
            except OSError:
                return

    def close(self) -> None:
        self.server.shutdown(socket.SHUT_RDWR)
        self.server.close()
        for fd in self.fds:
            os.close(fd)


@pytest.fixture
def agent(bundle: Bundle) -> Iterator[Agent]:
    found = Agent(f"{bundle.directory}/agent", errno=77)
    yield found
    bundle.close()
    found.close()


def profile(agent: Agent | None, *names: str, **more: Any) -> dict[str, Any]:
    found = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [*(names or ("mkdir", "mkdirat"))], "action": "SCMP_ACT_NOTIFY"}], **more}
    return {**found, "listenerPath": agent.path} if agent else found


@pytest.mark.parametrize("locked", [True, False])
def test_the_agent_gets_the_state_and_decides(bundle: Bundle, agent: Agent, locked: bool) -> None:
    spec = script("mkdir /x 2>&1; test -e /x || echo none; grep Seccomp: /proc/self/status", process__noNewPrivileges=locked, annotations={"a": "b"},
                  linux__seccomp=profile(agent, listenerMetadata="opaque", flags=["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]))
    created = bundle.create(spec)
    assert created.code == 0, created
    (state,) = agent.states
    pid = bundle.state()["pid"]
    own = {"ociVersion": "1.0.2-dev", "id": bundle.id, "status": "creating", "pid": pid, "bundle": bundle.directory, "annotations": {"a": "b"}}
    assert state == {"ociVersion": "1.0.2-dev", "fds": ["seccompFd"], "pid": pid, "metadata": "opaque", "state": own}
    assert agent.closed == [True], "the connection is closed after one state"
    assert bundle.start().code == 0
    bundle.wait()
    text = bundle.read("out")
    assert "File descriptor in bad state" in text and "none" in text and text.split()[-1] == "2", "errno 77 came from the agent"
    assert {*agent.calls} <= {MKDIR, MKDIRAT} and agent.calls


def test_the_agent_can_answer_in_place_of_the_kernel(bundle: Bundle) -> None:
    agent = Agent(f"{bundle.directory}/agent")
    try:
        assert bundle.output(script("mkdir /x && echo made; test -e /x || echo none", linux__seccomp=profile(agent))) == "made\nnone\n"
    finally:
        agent.close()


def test_run_in_the_foreground_tells_the_agent(bundle: Bundle, agent: Agent) -> None:
    bundle.write(script("mkdir /x 2>/dev/null || exit 5", linux__seccomp=profile(agent)))
    assert bundle.verb("run", "-b", bundle.directory, bundle.id).code == 5 and len(agent.states) == 1


@pytest.mark.parametrize("locked", [True, False])
@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_exec_tells_the_agent_of_its_own_process(bundle: Bundle, agent: Agent, locked: bool, detach: tuple[str, ...]) -> None:
    first = bundle.running(config(process__args=["sleep", "1000"], process__noNewPrivileges=locked, linux__seccomp=profile(agent)))
    ended = bundle.verb("exec", *detach, "--pid-file", f"{bundle.directory}/pid", bundle.id, "sh", "-c", "mkdir /y 2>/dev/null || exit 6")
    assert ended.code == (0 if detach else 6), ended
    pid = int(bundle.read("pid"))
    if detach:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6
    assert [each["pid"] for each in agent.states] == [first, pid]
    assert agent.states[1]["state"]["status"] == "running" and agent.states[1]["state"]["pid"] == first


def test_start_container_hooks_are_filtered_too(bundle: Bundle, agent: Agent) -> None:
    hook = {"path": "/bin/sh", "args": ["sh", "-c", "mkdir /z 2>/dev/null || touch /refused"]}
    bundle.output(config(linux__seccomp=profile(agent), hooks={"startContainer": [hook]}))
    assert os.path.exists(f"{bundle.rootfs}/refused") and len(agent.states) == 2


@pytest.mark.parametrize("locked", [True, False])
def test_even_exec_is_the_agents_to_decide(bundle: Bundle, locked: bool) -> None:
    """Nobody has to be let through before somebody listens."""
    agent = Agent(f"{bundle.directory}/agent", errno=13)
    try:
        assert bundle.create(config(process__noNewPrivileges=locked, linux__seccomp=profile(agent, "execve"))).code == 0
        ended = bundle.start()
        assert ended.code == 1 and "EACCES" in ended.err, ended
    finally:
        agent.close()


def test_it_is_an_error_where_sending_fails(bundle: Bundle) -> None:
    for path, words in ((f"{bundle.directory}/none", "No such file"), (f"{bundle.directory}/config.json", "Connection refused"), ("/" + "x" * 300, "too long")):
        assert f"linux.seccomp.listenerPath: `{path}`" in (said := bundle.refused(config(linux__seccomp={**profile(None), "listenerPath": path}))), said
        assert words in said


def test_the_path_is_ignored_where_nothing_is_asked(bundle: Bundle) -> None:
    spec = config(linux__seccomp={"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/nonexistent"})
    assert bundle.output(spec) == ""


@pytest.mark.parametrize(("changes", "words"), [
    ({}, "linux.seccomp.listenerPath: is required"), ({"listenerPath": "relative"}, "linux.seccomp.listenerPath: is required, an absolute path"),
    ({"listenerPath": 5}, "linux.seccomp.listenerPath: must be a string"),
    ({"listenerMetadata": "x"}, "linux.seccomp.listenerMetadata: is for who listens"),
    ({"listenerPath": "/x", "defaultAction": "SCMP_ACT_NOTIFY"}, "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be it"),
])  # fmt: skip
def test_what_does_not_fit_together(bundle: Bundle, changes: dict[str, Any], words: str) -> None:
    assert words in bundle.refused(config(linux__seccomp={**profile(None), **changes}))


def test_what_hands_the_listener_over_cannot_be_asked_about(bundle: Bundle, agent: Agent) -> None:
    assert "SCMP_ACT_NOTIFY for sendmsg, close" in bundle.refused(config(linux__seccomp=profile(agent, "close", "sendmsg", "mkdir")))


def test_an_agent_that_is_gone_leaves_enosys(bundle: Bundle) -> None:
    agent = Agent(f"{bundle.directory}/agent")
    assert bundle.create(script("mkdir /x 2>&1", linux__seccomp={**profile(agent)})).code == 0
    os.close(agent.fds.pop())
    agent.close()
    bundle.start()
    bundle.wait()
    assert "Function not implemented" in bundle.read("out")


def test_exec_in_a_directory_takes_calls_of_its_own(bundle: Bundle, agent: Agent) -> None:
    """Where root may not enter it, the user does, with the filter and before somebody listens."""
    spec = config(process__args=["sleep", "1000"], process__noNewPrivileges=False, linux__seccomp=profile(agent, "getcwd"))
    bundle.running(spec)
    assert bundle.verb("exec", bundle.id, "true").code == 0
    ended = bundle.verb("exec", "--cwd", "/tmp", "--user", "5", bundle.id, "true")
    assert ended.code == 255 and "SCMP_ACT_NOTIFY for getcwd: it takes that call to hand the listener over" in ended.err, ended
