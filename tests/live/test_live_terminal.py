"""`-t`: the program has a terminal of its own, and the caller's is as it was in the end."""

import hashlib
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import leaks
import pytest
from containers import SLOW, Dolium, Ended, children, first_process, program, wait_for
from terminals import Desk, type_line

Begin = Callable[..., str]
LOOP = "while :; do sleep 0.02; done"


@pytest.fixture(params=["root", "plain"])
def user(request: pytest.FixtureRequest) -> Dolium:
    found: Dolium = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["directory", "@host"])
def image(request: pytest.FixtureRequest, user: Dolium) -> str:
    if request.param == "@host":
        return "@host"
    return str(request.getfixturevalue("alpine" if user.uid == 0 else "own_alpine"))


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a container that runs detached, and removes it after the test."""
    begun: list[tuple[Dolium, str]] = []

    def start(who: Dolium, *words: str, program: tuple[str, ...] = ("sleep", "1000")) -> str:
        ended = who("run", "-d", *words, *program)
        assert (ended.code, ended.stderr) == (0, ""), ended
        begun.append((who, ended.stdout.strip()))
        return begun[-1][1]

    yield start
    for who, name in begun:
        who("rm", "-f", name)


def shell(desk: Desk) -> None:
    """Its prompt, after which it reads; a mark of ours, since everybody's looks different."""
    desk.until(rb"[#$] ")


def sh(user: Dolium, image: str, line: str, *flags: str, **how: object) -> Desk:
    return Desk(user, "run", *flags, image, "sh", "-c", line, **how)


# size, bytes, environment

@pytest.mark.parametrize("flags", ["-it", "-t"])
def test_its_size_is_the_callers_from_the_first_moment(user: Dolium, image: str, flags: str) -> None:
    with Desk(user, "run", flags, image, "stty", "size", size=(41, 137)) as desk:
        assert (desk.end(), desk.shown.replace(b"\r\r\n", b"\r\n")) == (0, b"41 137\r\n")


def test_of_no_size_where_the_caller_has_none(root: Dolium, alpine: str) -> None:
    code = "import os; print(*os.get_terminal_size(1))"
    ended = root("run", "-t", "@host", "/usr/bin/python3", "-IS", "-c", code)
    assert (ended.code, ended.out, ended.stderr) == (0, b"0 0\r\n", "")


def test_it_is_resized(user: Dolium, image: str) -> None:
    with sh(user, image, f"trap 'stty size; exit 4' WINCH; echo ready; {LOOP}", "-it") as desk:
        desk.until(b"ready\r\n")
        desk.resize(12, 34)
        assert (desk.end(), desk.shown) == (4, b"12 34\r\n")


def test_both_streams_come_as_one(user: Dolium, image: str) -> None:
    ended = user("run", "-t", image, "sh", "-c", "echo a; echo b >&2; echo c")
    assert (ended.code, ended.out, ended.stderr) == (0, b"a\r\nb\r\nc\r\n", "")


def test_a_name_for_its_kind(user: Dolium, image: str) -> None:
    """xterm, as with docker, whatever the caller's is."""
    line = "echo [$TERM]"
    assert user("run", "-t", image, "sh", "-c", line, env={"TERM": "screen"}).out == b"[xterm]\r\n"
    assert user("run", "-t", "-e", "TERM", image, "sh", "-c", line, env={"TERM": "screen"}).out == b"[screen]\r\n"
    assert user("run", "--tty=false", image, "sh", "-c", line, env={"TERM": "screen"}).stdout in ("[]\n", "[dumb]\n")


@pytest.mark.parametrize("count", [1, 900, 40000])
def test_every_byte_comes_out(user: Dolium, image: str, count: int) -> None:
    wanted = b"".join(b"%d\r\n" % each for each in range(1, count + 1))
    with Desk(user, "run", "-it", image, "seq", str(count)) as desk:
        assert (desk.end(60), desk.shown) == (0, wanted)
    assert user("run", "-t", image, "seq", str(count)).out == wanted


def test_every_byte_comes_out_also_to_a_slow_reader(root: Dolium, alpine: str) -> None:
    """More than the terminal, the pipe and dolium hold together, and nobody reads before the program has long written it."""
    with root.start("run", "-t", alpine, "sh", "-c", "stty -opost; seq 1 60000") as process:
        time.sleep(0.3 * SLOW)
        assert process.stdout
        out = b""
        while chunk := process.stdout.read(1000):
            out += chunk
        assert process.wait(20 * SLOW) == 0
    assert out == b"".join(b"%d\n" % each for each in range(1, 60001))


def test_every_byte_goes_in(user: Dolium, image: str) -> None:
    data = bytes(range(256)) * 400
    with sh(user, image, f"stty raw -echo; echo ready; head -c {len(data)} | md5sum; exit 6", "-it") as desk:
        desk.until(b"ready")
        desk.wait_until_raw()
        desk.type(data)
        desk.until(hashlib.md5(data).hexdigest().encode())
        assert desk.end() == 6


def test_what_was_typed_ahead_is_not_lost(root: Dolium, alpine: str) -> None:
    with Desk(root, "run", "-it", alpine, "head", "-n", "1") as desk:
        desk.type(b"early\n")
        assert desk.end() == 0 and desk.shown.endswith(b"early\r\n")


# what it is inside

def test_it_is_the_programs_own(user: Dolium, image: str) -> None:
    line = """tty; stat -c '%t:%T %U %a' /dev/pts/0 /dev/console; echo again >/dev/pts/0; echo thrice >/dev/console
              echo fourth >/dev/tty; ls /dev/pts | cat; cat /proc/1/stat"""
    ended = user("run", "-t", image, "sh", "-c", line)
    lines = ended.stdout.replace("\r\n", "\n").splitlines()
    assert lines[0] == "/dev/pts/0" and lines[1:3] == ["88:0 root 620"] * 2
    assert lines[3:6] == ["again", "thrice", "fourth"] and {*" ".join(lines[6:-1]).split()} == {"0", "ptmx"}
    fields = lines[-1].rpartition(")")[2].split()
    assert fields[2:6] == ["1", "1", str(os.makedev(136, 0)), "1"], "leader of a group, of a session, with it, in front"


def test_its_owner_is_the_programs_user(root: Dolium, alpine: str) -> None:
    for words in (("-u", "nobody"), ("-u", "nobody", "--userns", "host"), ("-u", "nobody", "--security-opt", "no-new-privileges=false")):
        ended = root("run", "-t", *words, alpine, "sh", "-c", "stat -c '%U %G %a' $(tty); echo more >$(tty); cat <$(tty) & kill $!")
        assert (ended.code, ended.out) == (0, b"nobody tty 620\r\nmore\r\n"), (words, ended)


def test_nothing_but_the_terminal_is_open(user: Dolium, image: str) -> None:
    leaky = [os.open("/", os.O_RDONLY) for _ in range(5)]
    try:
        with sh(user, image, "ls -l /proc/$$/fd; :", "-it", ) as desk:
            assert desk.end() == 0
            found = re.findall(rb"(\d+) -> (\S+)", re.sub(rb"\x1b\[[\d;]*m", b"", desk.shown))
    finally:
        for fd in leaky:
            os.close(fd)
    assert {number: target for number, target in found if number != b"10"} == {b"%d" % each: b"/dev/pts/0" for each in range(3)}


def test_a_first_process_that_is_not_the_program(user: Dolium, image: str) -> None:
    """--init: the program leads the session, Ctrl-C is for it, and PID 1 holds nothing of the terminal."""
    with sh(user, image, f"trap 'echo got; exit 9' INT; echo ready; {LOOP}", "-it", "--init") as desk:
        desk.until(b"ready\r\n")
        desk.wait_until_raw()
        first = first_process(desk.process)
        held = [os.readlink(f"/proc/{first}/fd/{each}") for each in os.listdir(f"/proc/{first}/fd")]
        assert held == ["/dev/null"] * 3
        desk.type(b"\x03")
        assert desk.end() == 9 and b"got" in desk.shown


def test_what_closes_it_may_open_it_again(root: Dolium, alpine: str) -> None:
    """As an init does: it is not gone while nobody has it open."""
    line = "exec 0<&- 1>&- 2>&-; sleep 0.3; echo back >/dev/console; exit 3"
    with sh(root, alpine, line, "-it") as desk:
        assert (desk.end(), desk.shown) == (3, b"back\r\n")
    assert root("run", "-t", alpine, "sh", "-c", line).out == b"back\r\n"


# keys

def test_ctrl_c_is_for_what_runs_in_front(user: Dolium, image: str) -> None:
    with Desk(user, "run", "-it", image, "sh") as desk:
        shell(desk)
        type_line(desk, "sleep 970; echo code=$?; echo still=here")
        desk.until(b"sleep 970")
        wait_for(lambda: runs(desk, "sleep"))
        desk.type(b"\x03")
        shell(desk)
        type_line(desk, "exit 17")
        assert desk.end() == 17
        assert desk.is_as_before()


def runs(desk: Desk, name: str) -> bool:
    """Whether a program of that name runs in the container, below its first process."""
    return any(program(each) == name for each in children(first_process(desk.process)))


@pytest.mark.parametrize(("key", "trap", "code"), [(b"\x03", "INT", 3), (b"\x1c", "QUIT", 3), (b"\x04", "", 0)])
def test_keys_that_act_inside(user: Dolium, image: str, key: bytes, trap: str, code: int) -> None:
    line = f"trap 'exit 3' {trap}; echo ready; {LOOP}" if trap else "echo ready; exec cat"
    with sh(user, image, line, "-it") as desk:
        desk.until(b"ready")
        desk.wait_until_raw()
        desk.type(key)
        assert desk.end() == code


def test_ctrl_z_stops_a_job_and_fg_goes_on_with_it(user: Dolium, image: str) -> None:
    with Desk(user, "run", "-it", image, "sh") as desk:
        shell(desk)
        type_line(desk, "sleep 971")
        wait_for(lambda: runs(desk, "sleep"))
        desk.type(b"\x1a")
        desk.until(b"[Ss]topped")
        shell(desk)
        type_line(desk, "fg")
        desk.until(b"sleep 971")
        time.sleep(0.3 * SLOW)  # the shell says so before it has put the job in front
        desk.type(b"\x03")
        shell(desk)
        type_line(desk, "exit 5")
        assert desk.end() == 5


def test_who_is_deaf_to_ctrl_c_is_ended_by_three(user: Dolium, image: str) -> None:
    """The kernel drops what PID 1 has no handler for; a program that reads the key itself is another matter."""
    with Desk(user, "run", "-it", image, "sleep", "972") as desk:
        desk.wait_until_raw()
        for _ in range(3):
            desk.type(b"\x03")
            time.sleep(0.05 * SLOW)
        assert desk.end() == 137
        assert b"3 interrupts, and the program heeded none" in desk.shown and desk.is_as_before()
    with sh(user, image, "stty raw -echo; echo ready; head -c 5 | od -c; exit 2", "-it") as desk:
        desk.until(b"ready")
        for _ in range(5):
            desk.type(b"\x03")
            time.sleep(0.02 * SLOW)
        assert desk.end() == 2 and desk.shown.count(b"003") == 5


# the caller's terminal

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


# detached, and started again

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


def test_explain_shows_it(user: Dolium, image: str) -> None:
    ended = user("explain", "-t", "--network", "none", "--json", image, "sh")
    steps = [each for each in json.loads(ended.stdout)["steps"] if each["why"] == "process.terminal"]
    assert [each["op"] for each in steps] == ["ptmx", "pts", "open_tree", "move_mount", "sync", "stdio", "ctty"]
    assert all(each["asked"] for each in steps)
    assert "process.terminal" not in user("explain", "--network", "none", "--json", image, "sh").stdout
