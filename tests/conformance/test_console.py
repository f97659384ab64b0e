"""process.terminal and --console-socket, as conmon and containerd's shim take it."""

from __future__ import annotations

import array
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from bundles import Bundle, config, script
from containers import Dolium
from terminals import Desk

from dolium.runtime import console


@contextmanager
def listening(path: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.settimeout(60)
        yield server


def taken(server: socket.socket) -> int:
    connection, _ = server.accept()
    with connection:
        _, control, _, _ = connection.recvmsg(100, 100)
    fds = array.array("i")
    fds.frombytes(control[0][2])
    return fds[0]


def everything(fd: int) -> str:
    found = b""
    while True:
        try:
            chunk = os.read(fd, 4096)
        except OSError:  # EIO: nobody holds the other end any more
            break
        if not chunk:
            break
        found += chunk
    os.close(fd)
    return found.decode().replace("\r\n", "\n")


LOOK = "tty; stty size; test -c /dev/console && echo console; for n in 0 1 2; do readlink /proc/self/fd/$n; done; echo >/dev/console; id -u >/dev/tty"


def test_console_socket(bundle: Bundle) -> None:
    with listening(f"{bundle.directory}/console") as server:
        created = bundle.create(script(LOOK, process__terminal=True, process__consoleSize={"height": 30, "width": 100}),
                                "--console-socket", f"{bundle.directory}/console")
        assert created.code == 0, created
        master = taken(server)
    assert bundle.start().code == 0
    assert everything(master) == "/dev/pts/0\n30 100\nconsole\n/dev/pts/0\n/dev/pts/0\n/dev/pts/0\n\n0\n"


def test_console_socket_of_a_user_who_is_not_root(bundle: Bundle) -> None:
    with listening(f"{bundle.directory}/console") as server:
        assert bundle.create(script("tty; echo again >/dev/stdout", process__terminal=True, process__user={"uid": 5, "gid": 5}),
                             "--console-socket", f"{bundle.directory}/console").code == 0
        master = taken(server)
    bundle.start()
    assert everything(master) == "/dev/pts/0\nagain\n"


@pytest.mark.parametrize("detach", [("--detach",), ()])
def test_exec_with_a_terminal(bundle: Bundle, detach: tuple[str, ...]) -> None:
    bundle.running()
    path = f"{bundle.directory}/process"
    with open(path, "w") as file:
        json.dump({"cwd": "/", "args": ["sh", "-c", "tty; stty size; sleep 0.2"], "env": ["PATH=/bin:/usr/bin"], "terminal": True,
                   "consoleSize": {"height": 5, "width": 6}}, file)
    with listening(f"{bundle.directory}/console") as server:
        ended = bundle.verb("exec", "--process", path, "--tty", "--console-socket", f"{bundle.directory}/console", *detach, bundle.id)
        assert (ended.code, ended.out, ended.err) == (0, "", ""), ended
        master = taken(server)
    assert everything(master) == "/dev/pts/0\n5 6\n"


def at_a_terminal(bundle: Bundle, *words: str) -> Desk:
    return Desk(Dolium(), argv=[bundle.runtime, "--root", bundle.root, *words])


ASK = "tty; stty size; read line; echo got $line; stty size; exit 5"


def test_run_and_exec_show_it_on_the_terminal_of_their_caller(bundle: Bundle) -> None:
    """Without --console-socket, as a person types them: of the caller's size, also where that changes, and raw meanwhile."""
    bundle.write(script(ASK, process__terminal=True))
    another = f"{bundle.id}-another"
    with at_a_terminal(bundle, "run", "-b", bundle.directory, another) as desk:
        answer(desk)
    bundle.running()
    with at_a_terminal(bundle, "exec", "-t", bundle.id, "sh", "-c", ASK) as desk:
        answer(desk)


def answer(desk: Desk) -> None:
    desk.until(b"/dev/pts/0\r\n33 101\r\n")
    desk.wait_until_raw()
    desk.resize(20, 50)
    os.kill(desk.process.pid, signal.SIGWINCH)
    desk.type(b"words\r")
    desk.until(b"got words\r\n20 50\r\n")
    assert desk.end() == 5 and desk.is_as_before()


def test_ctrl_c_is_the_programs(bundle: Bundle) -> None:
    bundle.write(script("trap 'echo heard; exit 3' INT; echo ready; while :; do sleep 0.05; done", process__terminal=True))
    with at_a_terminal(bundle, "run", "-b", bundle.directory, bundle.id) as desk:
        desk.until(b"ready")
        desk.wait_until_raw()
        desk.type(b"\x03")
        desk.until(b"heard")
        assert desk.end() == 3


def test_a_terminal_that_is_closed_ends_it(bundle: Bundle) -> None:
    bundle.write(script("trap 'exit 1' HUP; echo ready; while :; do sleep 0.05; done", process__terminal=True))
    with at_a_terminal(bundle, "run", "-b", bundle.directory, bundle.id) as desk:
        desk.until(b"ready")
        desk.wait_until_raw()
        desk.hang_up()
        desk.process.wait(60)
    assert bundle.status() == "gone"


def test_what_is_detached_needs_a_socket_at_a_terminal_too(bundle: Bundle) -> None:
    bundle.write(config(process__terminal=True))
    with at_a_terminal(bundle, "run", "-d", "-b", bundle.directory, bundle.id) as desk:
        assert desk.end() == 1 and b"--console-socket is needed" in desk.shown
    bundle.running()
    with at_a_terminal(bundle, "exec", "-t", "-d", bundle.id, "true") as desk:
        assert desk.end() == 255 and b"without --console-socket" in desk.shown


def test_what_does_not_fit_together_is_refused(bundle: Bundle) -> None:
    assert "--console-socket is needed" in bundle.refused(config(process__terminal=True))
    assert "not asked for" in bundle.refused(config(), "--console-socket", f"{bundle.directory}/x")
    assert "No such file" in bundle.refused(config(process__terminal=True), "--console-socket", f"{bundle.directory}/x")
    bundle.running()
    assert bundle.verb("exec", "--tty", bundle.id, "true").code == 255


def test_a_symlink_at_dev_console_leads_nowhere(bundle: Bundle) -> None:
    """CVE-2025-52565, and those of crun's that created through a link: without a /dev of our own the rootfs's is not trusted."""
    spec = script("true", process__terminal=True)
    spec["mounts"] = [each for each in spec["mounts"] if each["destination"] not in ("/dev", "/dev/pts", "/dev/shm")]
    spec["mounts"].append({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["newinstance", "ptmxmode=0666"]})
    os.symlink(f"{bundle.directory}/victim", f"{bundle.rootfs}/dev/console")
    with listening(f"{bundle.directory}/c"):
        bundle.create(spec, "--console-socket", f"{bundle.directory}/c")  # mounted on the link itself
    assert not os.path.exists(f"{bundle.directory}/victim") and not os.path.exists(f"{bundle.rootfs}/{bundle.directory}/victim")


def test_nothing_is_sent_after_the_terminal() -> None:
    """conmon goes away as soon as it has it: to send even nothing more would be EPIPE.  Datagrams show an empty one."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    console.send(ours, os.open("/dev/null", os.O_RDWR))
    data, fds, _, _ = socket.recv_fds(theirs, 4096, 2)
    assert data == b"/dev/ptmx" and len(fds) == 1
    os.close(fds[0])
    with pytest.raises(OSError):
        theirs.recv(1, socket.MSG_DONTWAIT)
    theirs.close()
