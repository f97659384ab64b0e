"""The commands of a container's life, as Docker's users know them: what they print, their exit codes, their errors."""

import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator

import pytest
from containers import SLOW, Dolium, Ended, Started, read_line, wait_for
from machine import Machine
from test_live_exec import rootfs


@pytest.fixture(params=["root", "plain"])
def kept(request: pytest.FixtureRequest) -> Iterator[Dolium]:
    """The command, as root and as a plain user; what the test has started is removed after it."""
    who: Dolium = request.getfixturevalue(request.param)
    who.forgets = False
    yield who
    left = who("ps", "-aq", "-f", f"label=test={os.getpid()}").stdout.split()
    if left:
        who("rm", "-f", *left)


def name(word: str) -> str:
    return f"{word}-{os.getpid()}"


def begin(who: Dolium, request: pytest.FixtureRequest, word: str, *program: str) -> str:
    words = ["run", "-d", "-l", f"test={os.getpid()}", "--name", name(word), rootfs(request, who), *(program or ("sleep", "1000"))]
    ended = who(*words)
    assert (ended.code, ended.stderr) == (0, ""), ended
    return ended.stdout.strip()


def done(ended: Ended, stdout: str | None = None) -> str:
    assert (ended.code, ended.stderr) == (0, "") and (stdout is None or ended.stdout == stdout), ended
    return ended.stdout


def error(ended: Ended, words: str, code: int = 1) -> None:
    assert ended.code == code and ended.stderr.startswith("error: ") and words in ended.stderr, ended
    assert "Traceback" not in ended.stderr, ended


def test_stop(kept: Dolium, request: pytest.FixtureRequest) -> None:
    heeds = "trap 'exit 7' TERM; trap 'exit 8' HUP; echo ready; while :; do sleep 0.02; done"
    for flags, code in ((["-t", "100"], 7), (["--timeout=100", "-s", "HUP"], 8), (["--time", "0"], 137)):
        begin(kept, request, "s", "sh", "-c", heeds)
        wait_for(lambda: kept("logs", name("s")).stdout == "ready\n")
        done(kept("stop", *flags, name("s")), f"{name('s')}\n")
        if code != 137:  # with no patience at all either may come first
            done(kept("wait", name("s")), f"{code}\n")
        done(kept("stop", name("s")), f"{name('s')}\n")  # twice is no mistake
        done(kept("rm", name("s")), f"{name('s')}\n")
    error(kept("stop", "nothing-such"), "no container `nothing-such`")


def test_kill(kept: Dolium, request: pytest.FixtureRequest) -> None:
    begin(kept, request, "k", "sh", "-c", "trap 'exit 9' USR1; echo ready; while :; do sleep 0.02; done")
    wait_for(lambda: kept("logs", name("k")).stdout == "ready\n")
    done(kept("kill", "-s", "USR1", name("k")), f"{name('k')}\n")
    done(kept("wait", name("k")), "9\n")
    error(kept("kill", name("k")), f"container `{name('k')}` is exited, not running")
    assert "no signal" in kept("kill", "-s", "NOSUCH", name("k")).stderr


def test_wait_for_several(kept: Dolium, request: pytest.FixtureRequest) -> None:
    begin(kept, request, "w1", "sh", "-c", "sleep 0.2; exit 3")
    begin(kept, request, "w2", "sh", "-c", "exit 4")
    ended = kept("wait", name("w1"), name("w2"), "nothing-such")
    assert (ended.code, ended.stdout) == (1, "3\n4\n") and "no container `nothing-such`" in ended.stderr


def test_wait_for_one_that_is_removed_then(kept: Dolium, request: pytest.FixtureRequest) -> None:
    """Detached and in the foreground; several wait, and all hear how it ended."""
    for detached in (["-d"], []):
        words = ["run", "--rm", *detached, "--name", name("gone"), rootfs(request, kept), "sh", "-c", "trap 'exit 5' TERM; sleep 999 & wait"]
        with kept.start(*words) as running:
            wait_for(lambda: "running" in kept("inspect", "-f", "{{.State.Status}}", name("gone")).stdout)
            waiting = [kept.start("wait", name("gone")) for _ in range(3)]
            for each in waiting:
                wait_for(lambda pid=each.pid: any("/running/" in target for target in opened(pid)))
            assert kept("kill", "-s", "TERM", name("gone")).code == 0
            assert [each.communicate(timeout=30 * SLOW) for each in waiting] == [(b"5\n", b"")] * 3
            running.communicate()
        wait_for(lambda: "no container" in kept("wait", name("gone")).stderr)


def opened(pid: int) -> list[str]:
    """What a process has open."""
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return found


def test_rm(kept: Dolium, request: pytest.FixtureRequest) -> None:
    identity = begin(kept, request, "r")
    error(kept("rm", name("r")), f"container `{name('r')}` is running, not stopped")
    assert "rm --force" in kept("rm", name("r")).stderr
    done(kept("rm", "-f", name("r")), f"{name('r')}\n")
    error(kept("rm", identity), f"no container `{identity}`")
    done(kept("rm", "-f", identity), "")
    error(kept("rm", "-v", identity), "has no `-v`", 125)


def test_start_again_with_what_it_wrote(kept: Dolium, request: pytest.FixtureRequest) -> None:
    begin(kept, request, "again", "sh", "-c", "echo x >>/tmp/count; wc -l </tmp/count")
    done(kept("wait", name("again")), "0\n")
    done(kept("start", name("again")), f"{name('again')}\n")
    done(kept("wait", name("again")), "0\n")
    assert done(kept("logs", name("again"))).split() == ["1", "2"]
    assert done(kept("start", "-a", name("again"))).split() == ["3"]


def test_rename(kept: Dolium, request: pytest.FixtureRequest) -> None:
    identity = begin(kept, request, "old")
    begin(kept, request, "other")
    done(kept("rename", name("old"), name("new")), "")
    assert done(kept("inspect", "-f", "{{.Name}} {{.Id}}", name("new"))) == f"{name('new')} {identity}\n"
    error(kept("rename", name("new"), name("other")), f"container `{name('other')}` exists already", 125)
    error(kept("inspect", name("old")), "no container")
    done(kept("rename", name("new"), name("new")), "")
    done(kept("rename", name("other"), name("old")), "")
    error(kept("rename", name("old"), "a/b"), "NAME", 125)
    done(kept("kill", name("new")))
    assert kept("run", "--name", name("new"), rootfs(request, kept), "true").code == 125


def test_names_ids_and_their_beginnings(kept: Dolium, request: pytest.FixtureRequest) -> None:
    one, two = begin(kept, request, "n1"), begin(kept, request, "n2")
    short = next(one[:length] for length in range(1, 13) if not two.startswith(one[:length]))
    shape = ("inspect", "-f", "{{.Id}}")
    taken = kept("ps", "-aq").stdout.split()
    if [each for each in taken if each.startswith(short)] == [one]:
        done(kept(*shape, short), f"{one}\n")
    begins = next((each for each in "0123456789abcdef" if sum(known.startswith(each) for known in taken) > 1), "")
    if begins:
        assert "ids begin so" in kept(*shape, begins).stderr
    assert f"did you mean `{name('n1')}`" in kept(*shape, name("n1") + "x").stderr or name("n1") in kept(*shape, name("n1") + "x").stderr
    for odd in ("", "/", "..", "../names", "a/b", "\x1b[2J", "x" * 300):
        error(kept(*shape, odd), "no container")


def test_ps(kept: Dolium, request: pytest.FixtureRequest) -> None:
    identity = begin(kept, request, "p")
    mine = ("-f", f"label=test={os.getpid()}")
    head, row = done(kept("ps", *mine)).splitlines()
    assert re.split(r"\s{2,}", head) == ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "NAMES"]
    assert row.startswith(f"{identity}   ") and row.endswith(f"   {name('p')}") and "   Up " in row
    for pattern, hit in ((f"^{name('p')}$", True), ("^p", True), ("^$", False), ("p-.*", True)):
        assert (done(kept("ps", "-q", *mine, "-f", f"name={pattern}")) == f"{identity}\n") == hit, pattern
    error(kept("ps", "-f", "name=("), "no regular expression", 125)
    done(kept("kill", name("p")))
    assert done(kept("ps", "-q", *mine)) == ""
    assert "Exited (137) " in done(kept("ps", "-a", *mine)) and done(kept("ps", "-q", *mine, "-f", "exited=137")) == f"{identity}\n"
    error(kept("ps", "-l"), "has no `-l`", 125)


def test_logs(kept: Dolium, request: pytest.FixtureRequest) -> None:
    begin(kept, request, "l", "sh", "-c", "echo one; sleep 1.2; echo two; echo err >&2; printf three")
    done(kept("wait", name("l")))
    ended = kept("logs", name("l"))
    assert (ended.stdout, ended.stderr) == ("one\ntwo\nthree", "err\n")
    stamped = kept("logs", "-t", name("l")).stdout.splitlines()
    first, second = (line.split()[0] for line in stamped[:2])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", first)
    assert kept("logs", "--tail", "2", name("l")).stdout in ("two\nthree", "three", "two\n")
    assert kept("logs", "--since", second[:26] + "Z", name("l")).stdout == "two\nthree"
    assert kept("logs", "--until", second[:26] + "Z", name("l")).stdout == "one\n"
    assert kept("logs", "--since", "1h", name("l")).stdout.startswith("one") and kept("logs", "--until", "1h", name("l")).stdout == ""
    error(kept("logs", "--since", "yesterday", name("l")), "no time: `yesterday`", 125)
    done(kept("start", name("l")))
    with kept.start("logs", "-f", "--since", "1ms", name("l")) as following:
        out, _ = following.communicate(timeout=30 * SLOW)
    assert out == b"one\ntwo\nthree" or out == b"two\nthree", out
    error(kept("logs", "--details", name("l")), "has no `--details`", 125)


def test_a_long_log_keeps_its_end(kept: Dolium, request: pytest.FixtureRequest) -> None:
    """Else who prints for months fills the disk.  What is left is whole, and goes on when it is started again."""
    line = "yes $(printf %04000d 7) | head -n 19000 | cat -n; echo last"
    identity = begin(kept, request, "l", "sh", "-c", line)
    done(kept("wait", name("l")))
    ended = kept("logs", name("l"))
    numbers = [int(each.split()[0]) for each in ended.stdout.splitlines()[:-1]]
    assert ended.stdout.endswith("\nlast\n") and ended.stderr == "dolium: the beginning is gone: a log keeps its last 64 MiB\n"
    assert 1 < numbers[0] < 5000 and numbers == [*range(numbers[0], 19001)]
    tail = kept("logs", "--tail", "1", name("l"))
    assert (tail.stdout, tail.stderr) == ("last\n", "")
    log = kept("inspect", "-f", "{{.LogPath}}", name("l")).stdout.strip()
    assert identity in log and os.stat(log).st_blocks * 512 < 68 << 20 < os.stat(log).st_size


def together(*calls: "tuple[Dolium, tuple[str, ...]]") -> list[Ended]:
    """Those commands at the same moment."""
    found: list[Ended | None] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def act(place: int) -> None:
        gate.wait()
        found[place] = calls[place][0](*calls[place][1])

    threads = [threading.Thread(target=act, args=(place,)) for place in range(len(calls))]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return [each for each in found if each is not None]


ROUNDS = 6


def test_two_of_one_name(kept: Dolium, request: pytest.FixtureRequest) -> None:
    words = ("run", "-d", "-l", f"test={os.getpid()}", "--name", name("two"), rootfs(request, kept), "sleep", "1000")
    for _ in range(ROUNDS):
        ended = together((kept, words), (kept, words), (kept, words))
        assert sorted(each.code for each in ended) == [0, 125, 125], ended
        assert all(f"container `{name('two')}` exists already" in each.stderr for each in ended if each.code), ended
        assert len(kept("ps", "-q", "-f", f"label=test={os.getpid()}").stdout.split()) == 1
        done(kept("rm", "-f", name("two")))


def test_start_and_start(kept: Dolium, request: pytest.FixtureRequest) -> None:
    identity = begin(kept, request, "ss")
    for _ in range(ROUNDS):
        done(kept("kill", identity))
        ended = together((kept, ("start", identity)), (kept, ("start", identity)))
        assert [(each.code, each.stdout) for each in ended] == [(0, f"{identity}\n")] * 2, ended
        assert len(kept("exec", identity, "sh", "-c", "echo /proc/[0-9]*").stdout.split()) == 2, "its own and this one"


def test_rm_and_start(kept: Dolium, request: pytest.FixtureRequest) -> None:
    for _ in range(ROUNDS):
        identity = begin(kept, request, "rs", "true")
        done(kept("wait", identity))
        removed, started = together((kept, ("rm", identity)), (kept, ("start", identity)))
        there = identity in kept("ps", "-aq").stdout
        assert (removed.code, started.code) in ((0, 1), (1, 0), (0, 0)) and there == bool(removed.code), (removed, started)
        kept("rm", "-f", identity)


def test_stop_and_rm(kept: Dolium, request: pytest.FixtureRequest) -> None:
    for force in ([], ["-f"]):
        for _ in range(ROUNDS // 2):
            identity = begin(kept, request, "sr")
            stopped, removed = together((kept, ("stop", identity)), (kept, ("rm", *force, identity)))
            assert stopped.code == 0 or "no container" in stopped.stderr or "exited, not running" in stopped.stderr, stopped
            assert removed.code == 0 or (not force and "is running" in removed.stderr), removed
            assert (identity in kept("ps", "-aq").stdout) == (removed.code != 0)
            kept("rm", "-f", identity)


def test_rename_and_rename(kept: Dolium, request: pytest.FixtureRequest) -> None:
    one, two = begin(kept, request, "r1"), begin(kept, request, "r2")
    for turn in range(ROUNDS):
        wanted = name(f"wanted{turn}")
        ended = together((kept, ("rename", one, wanted)), (kept, ("rename", two, wanted)))
        assert sorted(each.code for each in ended) == [0, 125], ended
        others = together((kept, ("rename", one, name(f"a{turn}"))), (kept, ("rename", one, name(f"b{turn}"))))
        assert [each.code for each in others] == [0, 0], others
        names = kept("ps", "-a", "-f", f"id={one}", "--format", "{{.Names}}").stdout.split()
        assert names in ([name(f"a{turn}")], [name(f"b{turn}")])
        free = name(f"b{turn}") if names == [name(f"a{turn}")] else name(f"a{turn}")
        error(kept("inspect", free), "no container")
        done(kept("rename", two, free))


def test_prune_and_start(machine: Machine) -> None:
    for _ in range(ROUNDS):
        identity = machine("run", "-d", "@host", "sleep", "1000").stdout.strip()
        done(machine("kill", identity))
        pruned, started = together((machine, ("prune",)), (machine, ("start", identity)))
        runs = identity in machine("ps", "-q").stdout
        assert runs == (started.code == 0) != (identity in pruned.stdout), (pruned, started)
        machine("rm", "-f", identity)


def test_a_watcher_that_is_stopped_stops_nobody_else(kept: Dolium, request: pytest.FixtureRequest) -> None:
    """`ps` and `inspect` answer while dolium-keep is frozen."""
    identity = begin(kept, request, "frozen")
    pid = int(kept("inspect", "-f", "{{.State.Pid}}", identity).stdout)
    with open(f"/proc/{pid}/stat") as file:
        keep = int(file.read().rpartition(")")[2].split()[1])
    os.kill(keep, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        assert kept("ps", "-q", "-f", f"id={identity}").code == 0
        assert kept("inspect", "-f", "{{.State.Pid}}", identity, timeout=20).stdout == "0\n"
    finally:
        os.kill(keep, signal.SIGCONT)
    done(kept("wait", identity), "137\n")


@pytest.fixture
def early(root: Dolium) -> Iterator[tuple[Dolium, str, Started]]:
    """A container whose program is heard, by its name, while `run` is slow to write down that it runs: strace(1) delays that."""
    strace, word = shutil.which("strace"), name("early")
    if not strace:
        pytest.skip("no strace")
    root.forgets = False
    slow = [strace, "-qq", "-o", "/dev/null", "-e", "trace=rename", "-e", "inject=rename:delay_enter=300000:when=2+", *root.command]
    with root.start("run", "--name", word, "@host", "sh", "-c", "echo here; exec sleep 1000", argv=slow) as run:
        assert read_line(run) == "here"
        yield root, word, run
        wait_for(lambda: root("rm", "-f", word).code == 0 or not root("ps", "-aq", "-f", f"name={word}").stdout)


@pytest.mark.needs_root
def test_who_has_heard_of_a_program_finds_it_running(early: tuple[Dolium, str, Started]) -> None:
    dolium, word, _ = early
    with dolium.start("wait", word) as waiting, dolium.start("exec", word, "true") as joining, dolium.start("cp", f"{word}:/etc/passwd", "-") as copying:
        assert dolium("inspect", "--format", "{{.State.Status}}", word).stdout == "running\n"
        assert [each.communicate()[1] for each in (joining, copying)] == [b"", b""] and joining.returncode == copying.returncode == 0
        done(dolium("kill", word))
        assert waiting.communicate() == (b"137\n", b"")


@pytest.mark.needs_root
@pytest.mark.parametrize("verb", ["stop", "kill", "rm -f"], ids=["stop", "kill", "rm"])
def test_who_has_heard_of_a_program_can_end_it(early: tuple[Dolium, str, Started], verb: str) -> None:
    dolium, word, run = early
    done(dolium(*verb.split(), word), f"{word}\n")
    assert run.wait(20 * SLOW) == 137
