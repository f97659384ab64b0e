"""A caller in odd surroundings: full disks, closed descriptors, no environment, few descriptors, no /proc.  Each gets a clear
error or works; nothing is left, which the check after every test sees."""

import os
import shlex
import shutil
import signal
import subprocess

import pytest
from containers import DOLIUM, SLOW, SYSTEM_PYTHON, TOP, Dolium, Ended


def shell(dolium: Dolium, script: str, *, env: dict[str, str] | None = None, **how: object) -> Ended:
    """A shell's script, in which $DOLIUM is the command, run by that user."""
    return dolium(argv=["/bin/sh", "-c", script], env={"DOLIUM": DOLIUM, **(env or {})}, **how)


@pytest.mark.parametrize(("closed", "code", "out", "err"), [
    ("<&-", 3, "out\n", "err\n"), (">&-", 3, "", "err\n"), ("2>&-", 3, "out\n", ""), ("<&- >&- 2>&-", 3, "", "")])  # fmt: skip
def test_closed_descriptors(dolium: Dolium, closed: str, code: int, out: str, err: str) -> None:
    for flag in ("", "-i"):
        ended = shell(dolium, f"$DOLIUM run --rm --network none {flag} @host sh -c 'cat; echo out; echo err >&2; exit 3' {closed}")
        assert (ended.code, ended.stdout, ended.stderr) == (code, out, err)
    assert shell(dolium, f"$DOLIUM run --rm --network none @host nope {closed}").code == 127


@pytest.mark.parametrize("asleep", ["", "trap '' INT; "])
def test_interrupted_before_it_has_begun(dolium: Dolium, folder: str, asleep: str) -> None:
    """Quietly; who is told to ignore it, as by nohup(1) or a shell's `&`, goes on."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace here")
    # `places` looks for main.py, with stat(2), in each place, after Python itself has started
    how = f"{strace} -qq -o {folder}/log -P {TOP}/src/dolium/cli/main.py -e inject=newfstatat:signal=SIGINT:when=1"
    ended = shell(dolium, f"{asleep}exec {how} {SYSTEM_PYTHON} -IS $DOLIUM --version")
    if "ptrace" in ended.stderr:
        pytest.skip("strace may not trace here")
    assert (ended.code, ended.stderr) == ((0, "") if asleep else (-signal.SIGINT, "")), ended


def test_nobody_reads(dolium: Dolium) -> None:
    assert shell(dolium, "$DOLIUM explain @host sh | head -n 1").stdout.startswith("Plan for `sh` in @host")
    ended = shell(dolium, "{ sleep 0.3; $DOLIUM explain @host sh; echo $? >&2; } | true")
    assert ended.stderr == "0\n"


@pytest.mark.parametrize("words", ["explain @host sh", "--version", "--help", "run --help", "ps"])
def test_standard_output_is_full(dolium: Dolium, words: str) -> None:
    """Data that is lost is an error."""
    ended = shell(dolium, f"$DOLIUM {words} >/dev/full")
    assert (ended.code, ended.stderr) == (125, "error: cannot write to standard output: No space left on device\n")


def test_the_programs_own_trouble_is_its_own(dolium: Dolium) -> None:
    ended = shell(dolium, "$DOLIUM run --rm --network none @host sh -c 'echo x || exit 7' >/dev/full 2>/dev/full")
    assert ended.code == 7


def test_no_environment(dolium: Dolium) -> None:
    for words in ("", "HOME=/nonexistent", "HOME= PATH="):
        ended = shell(dolium, f"env -i $(env | grep ^DOLIUM_PYTHON) {words} $DOLIUM run --rm --network none @host sh -c 'echo $HOME $#'")
        assert (ended.code, ended.stdout, ended.stderr) == (0, "/root 0\n", ""), words


def test_the_current_directory_is_gone(dolium: Dolium, alpine: str, folder: str) -> None:
    os.chmod(folder, 0o777)
    gone = f"mkdir {folder}/d && cd {folder}/d && rmdir {folder}/d && "
    assert shell(dolium, f"{gone} exec $DOLIUM run --rm --network none {alpine} pwd").stdout == "/\n"
    for words in ("./x true", "-v ./x:/x @host true", "-v .:/x @host true"):
        for command in ("run --rm --network none", "explain"):
            ended = shell(dolium, f"{gone} exec $DOLIUM {command} --network none {words}")
            assert ended.code == 125 and "is relative, and the current directory is gone" in ended.stderr, ended


def test_children_are_not_told_of(dolium: Dolium) -> None:
    ended = dolium("run", "@host", "sh", "-c", "echo x; exit 4", preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
    assert (ended.code, ended.stdout, ended.stderr) == (4, "x\n", "")


def test_few_descriptors(dolium: Dolium, alpine: str) -> None:
    """From some number on it works; below, an error says what is short, and nothing is left."""
    works = []
    for most in (12, 14, 16, 20, 24, 28, 64):
        ended = shell(dolium, f"ulimit -n {most}; exec $DOLIUM run --rm --network none {alpine} echo fine")
        if ended.code == 0:
            works.append(most)
            assert ended.stdout == "fine\n"
        else:
            assert ended.code == 125 and not works and "Too many open files" in ended.stderr and ended.stdout == "", (most, ended)
            assert "Traceback" not in ended.stderr
    assert 64 in works and 12 not in works


@pytest.mark.parametrize("most", [0, 1, 8, 16])
def test_no_room_in_files(dolium: Dolium, alpine: str, most: int) -> None:
    """RLIMIT_FSIZE in blocks of 512 bytes; plan and helpers go through files in memory."""
    ended = shell(dolium, f"ulimit -f {most}; exec $DOLIUM run --rm --network none {alpine} true")
    assert ended.code == 125 and len(ended.stderr.splitlines()) <= 3, ended
    assert "the limit of file sizes" in ended.stderr or "File too large" in ended.stderr, ended


def in_own_mounts(script: str) -> Ended:
    """A script in a mount namespace of its own, where it may hide and fill what it likes."""
    words = ["unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", script]
    done = subprocess.run(words, env={**os.environ, "DOLIUM": DOLIUM}, stdin=subprocess.DEVNULL, capture_output=True, timeout=60 * SLOW)
    return Ended(done.returncode, done.stdout, done.stderr)


def small(directory: str, *, filled: bool) -> str:
    """The shell's words that put a disk of 64 KiB at a directory."""
    words = f"mkdir -p {directory} && mount -t tmpfs -o size=64k,mode=700 disk {directory}; "
    return words + (f"dd if=/dev/zero of={directory}/fill bs=4k count=99 2>/dev/null; " if filled else "")


@pytest.mark.needs_root
@pytest.mark.parametrize("directory", ["/run/dolium", "/var/lib/dolium"])
def test_a_full_disk(directory: str, alpine: str) -> None:
    find = f"find {directory} -type f -o -type l; "
    for flags in ("--rm", ""):
        ended = in_own_mounts(small(directory, filled=True) + f"$DOLIUM run --network none {flags} {alpine} true; echo $?; {find}")
        assert ended.stdout == f"125\n{directory}/fill\n", ended
        assert ended.stderr.startswith("error: ") and "No space left on device" in ended.stderr.splitlines()[0], ended
        assert directory in ended.stderr.splitlines()[0], "it says which"


@pytest.mark.needs_root
def test_a_container_that_fills_the_disk(alpine: str, strace: str) -> None:
    """Its exit code is told, it is listed, and can be removed, which makes room; also where it is quicker than dolium, which writes
    down that it runs."""
    slow = f"{strace} -qq -o /dev/null -e trace=recvmsg -e inject=recvmsg:delay_exit=300000"  # microseconds
    inside = "dd if=/dev/zero of=/big bs=4k count=99 2>/dev/null; exit 5"
    script = small("/var/lib/dolium", filled=False) + (
        f"{slow} $DOLIUM run --network none --name hog {alpine} sh -c {shlex.quote(inside)}; echo $?; $DOLIUM ps -a --no-trunc >/run/listed; echo $?; "
        "grep -c 'Exited (5)' /run/listed; rm /run/listed; $DOLIUM rm hog; ls /var/lib/dolium/containers /run/dolium/running | grep -c json")
    ended = in_own_mounts("mount -t tmpfs -o mode=755 run /run; mkdir -m 700 /run/dolium; " + script)
    assert ended.stdout == "5\n0\n1\nhog\n0\n", ended
    assert "the disk is full" in ended.stderr and "dolium rm hog" in ended.stderr, ended


@pytest.mark.needs_root
@pytest.mark.parametrize("command", ["run --rm --network none", "explain"])
def test_no_proc(command: str) -> None:
    ended = in_own_mounts(f"mount -t tmpfs none /proc; $DOLIUM {command} --network none @host true")
    assert ended.code == 125 and ended.stderr.startswith("error: unsupported: containers: /proc is not mounted"), ended


@pytest.mark.needs_root
def test_a_place_that_cannot_be_written() -> None:
    for directory in ("/run/dolium", "/var/lib/dolium"):
        ended = in_own_mounts(f"mkdir -p {directory}; mount -t tmpfs -o ro,mode=700 none {directory}; $DOLIUM run --rm --network none @host true")
        assert ended.code == 125 and f"`{directory}/" in ended.stderr and "Read-only file system" in ended.stderr, ended


def test_root_of_a_user_namespace(plain: Dolium) -> None:
    """`unshare -r`, a rootless container of others: root by its number, and a plain user in what it may do and where it writes."""
    plain.command = ["unshare", "--user", "--map-root-user", DOLIUM]
    if plain(argv=["unshare", "--user", "--map-root-user", "true"]).code:
        pytest.skip("who is not root may make no user namespace here")
    assert plain.output("@host", "sh", "-c", "id -u; echo x >/dev/null") == "0\n"
    assert "takes a device filter" in plain.refused("--device", "/dev/zero:/dev/zero:r", "@host", "true")
    assert "only in a user namespace" in plain.refused("--userns", "host", "@host", "true")


@pytest.mark.needs_root
def test_root_of_few_capabilities(root: Dolium) -> None:
    """As in a container of Docker's: it is said what is short, and nobody who is root is told to be root."""
    without = ["unshare", "--net", "setpriv", "--inh-caps=-{0}", "--bounding-set=-{0}", DOLIUM]
    root.network = ""
    root.command = [each.format("net_admin") for each in without]
    said = root.refused("@host", "true")
    assert said.startswith("error: unsupported: --network bridge: the kernel does not make a bridge: Operation not permitted\n")
    root.command = [each.format("sys_admin") for each in without]
    said = root.refused("--memory", "64m", "@host", "true")
    assert "hint: you are root without CAP_SYS_ADMIN: what started this system" in said
    assert "run it as root" not in said
