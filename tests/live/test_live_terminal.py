"""`-t`: the program has a terminal of its own: its size, what it shows, what it is inside, and its keys."""

import hashlib
import json
import os
import re
import time

import pytest
from containers import SLOW, Dolium, children, first_process, program, wait_for
from terminals import LOOP, Desk, sh, shell, type_line

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
    if os.geteuid():
        pytest.skip("only root may look at the descriptors of a process that nobody may trace")
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


def test_explain_shows_it(user: Dolium, image: str) -> None:
    ended = user("explain", "-t", "--network", "none", "--json", image, "sh")
    steps = [each for each in json.loads(ended.stdout)["steps"] if each["why"] == "process.terminal"]
    assert [each["op"] for each in steps] == ["ptmx", "pts", "open_tree", "move_mount", "sync", "stdio", "ctty"]
    assert all(each["asked"] for each in steps)
    assert "process.terminal" not in user("explain", "--network", "none", "--json", image, "sh").stdout


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
