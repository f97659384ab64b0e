"""Published holes of terminals, one test for each, named after it."""

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest
from containers import SLOW, SYSTEM_PYTHON, Begin, Dolium
from terminals import Desk, type_line


@pytest.fixture
def image(folder: str, alpine: str) -> str:
    """A copy of Alpine to spoil."""
    path = f"{folder}/image"
    shutil.copytree(alpine, path, symlinks=True)
    os.chmod(path, 0o755)
    return path


@pytest.fixture
def victim(folder: str) -> Iterator[str]:
    """A directory of the host, and a file in it, that must stay as they are."""
    path = f"{folder}/victim"
    os.mkdir(path)
    with open(f"{path}/file", "w") as file:
        file.write("untouched\n")
    os.chmod(f"{path}/file", 0o644)
    before = look(path)
    yield path
    assert look(path) == before


def look(path: str) -> list[object]:
    found: list[object] = [os.listdir(path)]
    for each in (path, f"{path}/file"):
        status = os.stat(each)
        found += [status.st_uid, status.st_gid, status.st_mode, status.st_size, status.st_mtime_ns]
    return found


def test_cve_2025_52565_no_name_of_an_image_is_followed(root: Dolium, image: str, victim: str) -> None:
    """What an image has as its console and its terminals, none of it is there: /dev is our own, and so is what is in it."""
    shutil.rmtree(f"{image}/dev", ignore_errors=True)
    os.mkdir(f"{image}/dev")
    for name, target in (("console", f"{victim}/file"), ("pts", victim), ("ptmx", f"{victim}/file"), ("tty", f"{victim}/file")):
        os.symlink(target, f"{image}/dev/{name}")
    line = "stat -c '%F %t:%T' /dev/console /dev/pts/0 $(readlink -f /dev/ptmx) /dev/tty; echo spoil >/dev/console"
    ended = root("run", "-t", "-v", f"{victim}:{victim}", image, "sh", "-c", line)
    device = "character special file"
    assert (ended.code, ended.stdout.splitlines()) == (0, [f"{device} {each}" for each in ("88:0", "88:0", "5:2", "5:0")] + ["spoil"])


TRAPS = {
    "a tmpfs": "mount -t tmpfs none /dev/pts; : >/dev/pts/ptmx",
    "a link": "mount -t tmpfs none /dev/pts; ln -s /victim/file /dev/pts/ptmx",
    "a link to a directory": "umount /dev/pts; rmdir /dev/pts; ln -s /victim /dev/pts; ln -s file /victim/ptmx 2>/dev/null",
    "a fifo": "mount -t tmpfs none /dev/pts; mkfifo /dev/pts/ptmx",
    "a file over it": "mount --bind /victim/file /dev/pts/ptmx",
    "another node over it": "mount --bind /dev/zero /dev/pts/ptmx",
    "a directory of the host": "mount --bind /victim /dev/pts",
    "a file": "umount /dev/pts; rmdir /dev/pts; : >/dev/pts",
    "nothing": "umount /dev/pts",
}


@pytest.mark.parametrize("trap", [*TRAPS])
def test_cve_2025_52565_who_enters_a_container_takes_no_terminal_from_it(
        root: Dolium, begin: Begin, alpine: str, victim: str, trap: str) -> None:  # fmt: skip
    """With the right to mount, its root can put anything where the terminals are: then there is none, and nothing is opened."""
    name = begin(root, "--cap-add", "SYS_ADMIN", "-v", f"{victim}:/victim:ro", alpine)
    assert root("exec", name, "sh", "-c", f"{TRAPS[trap]}; :").code == 0
    ended = root("exec", "-t", name, "echo", "entered", timeout=20)
    assert ended.code == 125 and ended.stdout == "", ended
    assert ended.stderr.startswith("error: cannot open ptmx in /dev/pts: ") and "no terminals of its own at /dev/pts" in ended.stderr
    assert root("exec", name, "echo", "fine").stdout == "fine\n"


def test_cve_2025_52565_also_while_it_changes(root: Dolium, begin: Begin, alpine: str, victim: str) -> None:
    """A racer mounts and unmounts what lies over the terminals: each time there is one, or an error, never a file."""
    name = begin(root, "--cap-add", "SYS_ADMIN", "-v", f"{victim}:/victim:ro", alpine)
    racer = "while :; do mount --bind /victim/file /dev/pts/ptmx; umount /dev/pts/ptmx; mount -t tmpfs none /dev/pts; umount /dev/pts; sleep 0.02; done"
    assert root("exec", "-d", name, "sh", "-c", racer).code == 0
    codes = set()
    for turn in range(600):
        if turn >= 60 and len(codes) == 2:
            break
        ended = root("exec", "-t", name, "readlink", "/proc/self/fd/0")
        assert ended.stdout.startswith("/dev/pts/") if ended.code == 0 else "cannot open ptmx" in ended.stderr, ended
        codes.add(ended.code)
    assert codes == {0, 125}, "the race was none"


@pytest.mark.parametrize("absolute", [True, False])
def test_cve_2026_41579_cve_2026_47766_a_dev_that_is_a_link(root: Dolium, image: str, victim: str, absolute: bool) -> None:
    shutil.rmtree(f"{image}/dev", ignore_errors=True)
    os.symlink(victim if absolute else "../victim", f"{image}/dev")
    said = root.refused("-t", image, "true")
    assert "cannot move_mount" in said or "no directory at /dev" in said


def test_cve_2026_88264_cve_2026_88265_nothing_of_the_host_changes_its_owner(root: Dolium, image: str, victim: str) -> None:
    """With closed streams and a /dev/null and a console that lead elsewhere: only what is the container's is chowned."""
    shutil.rmtree(f"{image}/dev", ignore_errors=True)
    os.mkdir(f"{image}/dev")
    for name in ("null", "console"):
        os.symlink(f"{victim}/file", f"{image}/dev/{name}")
    null = os.stat("/dev/null")
    words = ["/bin/sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *root.command, "run", "--rm", "--network", "none", "-t", "-u", "nobody"]
    for userns in ("auto", "host"):
        done = subprocess.run([*words, "--userns", userns, image, "true"], env=root.environment, timeout=60 * SLOW)
        assert done.returncode == 0
    after = os.stat("/dev/null")
    assert (null.st_uid, null.st_gid, null.st_mode) == (after.st_uid, after.st_gid, after.st_mode)


PUSH = """
import fcntl, os, termios
for fd in (0, 1, 2, os.open("/dev/tty", os.O_RDWR)):
    print("own", os.fstat(fd).st_dev, os.fstat(fd).st_rdev)
    for byte in b"exit 99\\n":
        try:
            fcntl.ioctl(fd, termios.TIOCSTI, bytes([byte]))
        except OSError as error:
            print("refused", error.errno)
            break
"""


@pytest.mark.parametrize("command", ["run", "exec"])
def test_cve_2017_5226_the_callers_terminal_is_out_of_reach(root: Dolium, begin: Begin, command: str) -> None:
    """TIOCSTI types on a terminal that controls one's session: here that is the container's own."""
    words = ["run", "-it", "@host"] if command == "run" else ["exec", "-it", begin(root, "@host")]
    with Desk(root, *words, SYSTEM_PYTHON, "-IS", "-c", PUSH) as desk:
        assert desk.end() == 0
        shown = [line.split() for line in desk.shown.decode().splitlines() if line.startswith("own")]
        ours = os.fstat(desk.slave)
        assert len(shown) == 4 and all(int(device) != ours.st_dev for _, device, _ in shown[:3])
        os.set_blocking(desk.slave, False)
        with pytest.raises(BlockingIOError):
            os.read(desk.slave, 1)
    ended = root("run", "@host", "sh", "-c", "exec 3<>/dev/tty", stdin=subprocess.DEVNULL)
    assert ended.code != 0, "without -t there is none at all"


def test_a_program_that_reads_nothing_holds_nobody_up(root: Dolium) -> None:
    """More is typed than its terminal takes: dolium still heeds its own signals."""
    with Desk(root, "run", "-it", "@host", "sh", "-c", "stty raw -echo; echo ready; exec sleep 985") as desk:
        desk.until(b"ready")
        desk.wait_until_raw()
        os.set_blocking(desk.master, False)
        typed = 0
        for _ in range(100):
            try:
                typed += os.write(desk.master, b"x" * 1000)
            except BlockingIOError:
                break
        assert typed > 8000
        os.set_blocking(desk.master, True)
        for _ in range(3):
            desk.process.terminate()
            desk.see(0.05)
        assert desk.end() == 137 and desk.is_as_before()


def test_what_is_printed_is_all_that_comes_out(root: Dolium) -> None:
    """The program cannot put the other end into another mode: it is not on that end (TIOCPKT), and what it sets is its own."""
    line = "stty -echo rows 3 cols 4 -onlcr; stty size; read x; echo \"$x\""
    with Desk(root, "run", "-it", "@host", "sh", "-c", line) as desk:
        desk.until(b"3 4\n")
        desk.wait_until_raw()
        type_line(desk, "plain")
        assert desk.end() == 0 and desk.shown.endswith(b"plain\n") and desk.is_as_before()
