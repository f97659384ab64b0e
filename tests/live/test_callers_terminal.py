"""`-t`: what becomes of the terminal that dolium itself is at: raw meanwhile, and in the end as it was, whatever happens."""

import os
import signal
import subprocess
import time

import leaks
import pytest
from containers import SLOW, Dolium, first_process, wait_for
from terminals import LOOP, Desk, sh, type_line


def test_it_is_raw_while_the_program_runs_and_then_as_before(user: Dolium, image: str) -> None:
    with sh(user, image, "echo ready; read x; exit 7", "-it") as desk:
        desk.until(b"ready")
        desk.wait_until_raw()
        type_line(desk, "go")
        assert desk.end() == 7 and desk.is_as_before()


@pytest.mark.parametrize(("words", "code", "said"), [
    (("@host", "no-such-program"), 127, b"cannot exec no-such-program"), (("-w", "/none", "@host", "true"), 125, b"no directory /none"),
    (("./no-such-directory", "true"), 125, b"no-such-directory")])  # fmt: skip
def test_an_error_leaves_it_as_it_was(root: Dolium, words: tuple[str, ...], code: int, said: bytes) -> None:
    with Desk(root, "run", "-it", *words) as desk:
        assert desk.end() == code
        assert said in desk.shown and b"error: " in desk.shown and desk.is_as_before()


@pytest.mark.parametrize("line", [f"trap 'exit 5' TERM; echo ready; {LOOP}", "trap '' TERM; echo ready; exec sleep 973"])
def test_a_signal_to_dolium_leaves_it_as_it_was(user: Dolium, line: str) -> None:
    """It is passed on, and the third ends what does not heed it."""
    with sh(user, "@host", line, "-it") as desk:
        desk.until(b"ready")
        desk.wait_until_raw()
        for _ in range(3):
            desk.process.send_signal(signal.SIGTERM)
            time.sleep(0.1 * SLOW)
        assert desk.end() == (5 if "exit 5" in line else 137) and desk.is_as_before()


def test_the_time_limit_leaves_it_as_it_was(root: Dolium) -> None:
    with Desk(root, "run", "-it", "--timeout", "300ms", "@host", "sleep", "974") as desk:
        assert desk.end() == 124 and desk.is_as_before() and b"time limit of 0.3 s" in desk.shown


def test_what_is_ended_from_elsewhere_leaves_it_as_it_was(root: Dolium) -> None:
    keeping = Dolium(forgets=False)
    name = f"terminal-{os.getpid()}"
    with Desk(keeping, "run", "--name", name, "-it", "@host", "sleep", "975") as desk:
        desk.wait_until_raw()
        assert keeping("kill", name).code == 0
        assert desk.end() == 137 and desk.is_as_before()
    assert keeping("rm", name).code == 0


def test_sigkill_of_dolium_ends_the_container(user: Dolium) -> None:
    """The terminal stays raw: nobody is left to restore it.  A shell such as bash does, else `stty sane`."""
    with Desk(user, "run", "-it", "@host", "sleep", "976") as desk:
        desk.wait_until_raw()
        first = first_process(desk.process)
        desk.process.kill()
        assert desk.end() == -9 and desk.is_raw()

        def is_buried() -> bool:
            leaks.reap()
            return not os.path.exists(f"/proc/{first}")

        wait_for(is_buried)
    assert user("ps").code == 0  # the next command mends


def test_a_terminal_that_is_closed(user: Dolium) -> None:
    """A shell inside is told so, and goes; one that does not mind is ended after a while."""
    for line, least, most in (("echo ready; exec cat", 0, 5), ("trap '' HUP; echo ready; exec sleep 977", 9, 20)):
        if least and user.uid:
            continue
        with sh(user, "@host", line, "-it") as desk:
            desk.until(b"ready")
            desk.wait_until_raw()
            began = time.monotonic()
            desk.hang_up()
            desk.process.wait(30 * SLOW)
            assert least <= time.monotonic() - began < most * SLOW


def test_stopped_and_continued(root: Dolium) -> None:
    """SIGTSTP from elsewhere: the terminal is the shell's meanwhile; afterwards it is raw again, and of the new size."""
    with sh(root, "@host", "trap 'stty size' WINCH; echo ready; until read x; do :; done; echo got $x; exit 3", "-it") as desk:
        desk.until(b"ready")
        desk.wait_until_raw()
        desk.process.send_signal(signal.SIGTSTP)
        wait_for(lambda: state(desk.process.pid) == "T" and desk.is_as_before())
        desk.resize(20, 60)
        desk.process.send_signal(signal.SIGCONT)
        desk.wait_until_raw()
        type_line(desk, "on")
        assert desk.end() == 3 and b"20 60\r\n" in desk.shown and b"got on\r\n" in desk.shown


def state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0]


def test_begun_in_the_background(root: Dolium) -> None:
    """It stops before it changes a terminal that is somebody else's, as every program does, and goes on when its turn comes."""
    script = """
import os, signal, sys
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
child = os.fork()
if child == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
os.setpgid(child, child)
_, status = os.waitpid(child, os.WUNTRACED)
print("stopped by", os.WSTOPSIG(status), flush=True)
sys.stdin.readline()
os.tcsetpgrp(0, child)
os.killpg(child, signal.SIGCONT)
_, status = os.waitpid(child, 0)
os.tcsetpgrp(0, os.getpgrp())
os._exit(os.waitstatus_to_exitcode(status))
"""
    words = ["/usr/bin/python3", "-IS", "-c", script, *root.command, "run", "--rm", "--network", "none", "-it", "@host", "sh", "-c",
             "read x; echo got $x; exit 8"]  # fmt: skip
    with Desk(root, argv=words) as desk:
        desk.until(b"stopped by %d" % signal.SIGTTOU)
        assert desk.is_as_before()
        type_line(desk, "")
        desk.wait_until_raw()
        type_line(desk, "it")
        assert desk.end() == 8 and b"got it" in desk.shown and desk.is_as_before()


# without -i, without a terminal

def test_without_i_nothing_is_passed_on_and_the_terminal_is_left_alone(user: Dolium, image: str) -> None:
    with sh(user, image, f"trap 'exit 4' INT; echo ready; {LOOP}", "-t") as desk:
        desk.until(b"ready")
        assert desk.is_as_before()
        desk.type(b"unseen\n\x03")  # Ctrl-C is a signal to dolium here, which passes it on
        assert desk.end() == 4


@pytest.mark.parametrize("how", [{"stdin": subprocess.DEVNULL}, {"input": b"echo no\n"}])
def test_what_is_no_terminal_cannot_be_typed_at(user: Dolium, how: dict[str, object]) -> None:
    keeping = Dolium(user.uid, forgets=False)
    keeping("ps", "-aq")  # settles what other tests have killed
    before = keeping("ps", "-aq").stdout
    said = keeping.refused("-it", "@host", "sh", **how)
    assert said.startswith("error: `-i` with `-t`: standard input is no terminal\n") and "hint: leave `-t` out" in said
    assert keeping("ps", "-aq").stdout == before, "nothing was made"


def test_closed_streams(root: Dolium) -> None:
    """`<&-`: there is nothing to type at; and what is printed on a closed stdout goes nowhere."""
    line = 'exec "$@" <&-'
    ended = root("run", "--rm", "--network", "none", "-it", "@host", "true", argv=["/bin/sh", "-c", line, "sh", *root.command])
    assert ended.code == 125 and "standard input is no terminal" in ended.stderr
    line = 'exec "$@" <&- >&-'
    ended = root("run", "--rm", "--network", "none", "-t", "@host", "sh", "-c", "seq 1 9999; exit 3", argv=["/bin/sh", "-c", line, "sh", *root.command])
    assert (ended.code, ended.out, ended.stderr) == (3, b"", "")


def test_a_reader_that_goes(user: Dolium) -> None:
    """`| head -n 1`: for the program too its terminal is gone then."""
    with user.start("run", "-t", "@host", "yes") as process:
        assert process.stdout and process.stdout.readline() == b"y\r\n"
        process.stdout.close()
        assert process.wait(20 * SLOW) != 0


def test_output_that_is_no_terminal(root: Dolium, folder: str) -> None:
    with open(f"{folder}/out", "wb") as file, Desk(root, "run", "-it", "@host", "sh", "-c", "stty size; read x; echo $x",
                                                    stdout=file) as desk:  # fmt: skip
        desk.wait_until_raw()
        type_line(desk, "into the file")
        assert desk.end() == 0 and desk.shown == b""
    with open(f"{folder}/out", "rb") as file:
        assert sorted(file.read().splitlines(keepends=True)) == [b"33 101\r\n", b"into the file\r\n", b"into the file\r\n"]


@pytest.mark.parametrize("words", [("-v", "/etc:/dev/pts"), ("--tmpfs", "/dev/pts"), ("-v", "/dev/null:/dev/console"),
                                   ("-v", "/dev/null:/dev/pts/ptmx"), ("--tmpfs", "/dev//pts/")])  # fmt: skip
def test_nothing_may_lie_where_it_is_to_be(dolium: Dolium, words: tuple[str, str]) -> None:
    said = dolium.refused("-t", *words, "@host", "true")
    assert words[0].replace("-v", "--volume") in said and "in a container with a terminal" in said
    assert dolium("run", *words, "@host", "true").code == 0
