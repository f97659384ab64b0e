"""A terminal for one more program (`exec -t`), for a container that runs detached, and for one that is started again."""

import os
import time

import pytest
from containers import SLOW, Begin, Dolium, Ended, wait_for
from terminals import Desk, shell, type_line


def test_detached_it_is_written_down(user: Dolium, begin: Begin) -> None:
    keeping = Dolium(user.uid, forgets=False)
    name = begin(keeping, "-t", "@host", program=("sh", "-c", "echo out; echo err >&2; tty; printf part; exit 6"))
    assert keeping("wait", name).stdout == "6\n"
    ended = keeping("logs", name)
    assert (ended.out, ended.err) == (b"out\r\nerr\r\n/dev/pts/0\r\npart", b"")


def test_detached_a_shell_waits(user: Dolium, begin: Begin) -> None:
    """`-dit`: it can be joined by `exec`, and its own terminal stays open though nobody is at it."""
    name = begin(user, "-it", "@host", program=("sh",))
    time.sleep(0.2 * SLOW)
    ended = user("exec", name, "cat", "/proc/1/stat")
    assert ended.code == 0 and ended.stdout.rpartition(")")[2].split()[4] == str(os.makedev(136, 0))


def test_started_again(root: Dolium) -> None:
    keeping = Dolium(forgets=False)
    name = f"again-{os.getpid()}"
    try:
        with Desk(keeping, "run", "--name", name, "-it", "@host", "sh", "-c", "stty size; read x; echo got $x; exit 2") as desk:
            type_line(desk, "one")
            assert desk.end() == 2 and b"got one" in desk.shown
        with Desk(keeping, "start", "-ai", name, size=(7, 70)) as desk:
            desk.until(b"7 70\r\n")
            desk.wait_until_raw()
            type_line(desk, "two")
            assert desk.end() == 2 and b"got two" in desk.shown and desk.is_as_before()
        said = keeping("start", "-ai", name)
        assert said.code == 125 and "standard input is no terminal" in said.stderr
        assert keeping("start", name).code == 0
        assert keeping("ps", "-q", "--filter", f"name={name}").stdout
        assert "got one" not in keeping("logs", name).stdout
    finally:
        keeping("rm", "-f", name)


# one more program

@pytest.fixture
def container(user: Dolium, image: str, begin: Begin) -> str:
    return begin(user, image)


def test_exec_at_a_terminal(user: Dolium, container: str) -> None:
    with Desk(user, "exec", "-it", container, "sh", size=(21, 77)) as desk:
        shell(desk)
        type_line(desk, "stty size; tty; echo [$TERM]; ls /proc/$$/fd | wc -l")
        desk.until(rb"21 77\r\n/dev/pts/0\r\n\[xterm\]\r\n")
        desk.until(rb"[345]\r\n")
        shell(desk)
        desk.resize(22, 78)
        desk.wait_until_raw()
        type_line(desk, "sleep 0.2; stty size; sleep 978")
        desk.until(b"22 78")
        time.sleep(0.3 * SLOW)
        desk.type(b"\x03")
        shell(desk)
        type_line(desk, "sleep 979")
        desk.until(b"sleep 979")
        time.sleep(0.3 * SLOW)
        desk.type(b"\x1a")
        desk.until(b"[Ss]topped")
        shell(desk)
        type_line(desk, "kill -9 %1; sleep 0.2")
        shell(desk)
        type_line(desk, "exit 23")
        assert desk.end() == 23 and desk.is_as_before()
    wait_for(lambda: user("exec", container, "ls", "/dev/pts").stdout.split() == ["ptmx"])


def test_exec_exact_bytes(user: Dolium, container: str) -> None:
    ended = user("exec", "-t", container, "sh", "-c", "seq 1 20000; exit 4")
    assert (ended.code, ended.stderr) == (4, "")
    assert ended.out == b"".join(b"%d\r\n" % each for each in range(1, 20001))


def test_exec_as_another_user(root: Dolium, begin: Begin, alpine: str) -> None:
    for words in ((), ("--userns", "host"), ("--security-opt", "no-new-privileges=false")):
        name = begin(root, *words, alpine)
        ended = root("exec", "-t", "-u", "nobody", name, "sh", "-c", "stat -c '%U %G %a' $(tty); echo more >$(tty)")
        assert (ended.code, ended.out) == (0, b"nobody tty 620\r\nmore\r\n"), (words, ended)


def test_exec_leaves_the_terminal_as_it_was(user: Dolium, container: str) -> None:
    for program_, code in ((("no-such",), 127), (("sh", "-c", "kill -9 $$"), 137)):
        with Desk(user, "exec", "-it", container, *program_) as desk:
            assert desk.end() == code and desk.is_as_before()
    with Desk(user, "exec", "-it", container, "sh", "-c", "echo ready; exec sleep 980") as desk:
        desk.until(b"ready")
        desk.wait_until_raw()
        desk.type(b"\x03")  # not PID 1: one is enough
        assert desk.end() == 130 and desk.is_as_before()
    ended: Ended = user("exec", "-it", container, "true")
    assert ended.code == 125 and "standard input is no terminal" in ended.stderr


def test_exec_dies_with_the_container(user: Dolium, container: str) -> None:
    with Desk(user, "exec", "-it", container, "sh", "-c", "echo ready; exec sleep 981") as desk:
        desk.until(b"ready")
        desk.wait_until_raw()
        assert user("kill", container).code == 0
        assert desk.end() == 137 and desk.is_as_before()


def test_exec_detached(user: Dolium, container: str) -> None:
    """More than a terminal holds: dolium-keep reads it, and throws it away."""
    ended = user("exec", "-d", "-t", container, "sh", "-c", "seq 1 20000; tty >/tmp/where 2>/dev/null || tty >/dev/shm/where")
    assert (ended.code, ended.stdout, ended.stderr) == (0, "", "")
    wait_for(lambda: "/dev/pts/0" in user("exec", container, "sh", "-c", "cat /tmp/where /dev/shm/where 2>/dev/null").stdout)
