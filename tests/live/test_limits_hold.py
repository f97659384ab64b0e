"""Limits, seen to hold; exit codes; and that nothing outlives those who watch over it."""

import os
import random
import signal
import time

import pytest
from containers import SLOW, Dolium, keeper, read_line, wait_for


@pytest.mark.needs_root
@pytest.mark.parametrize("words", [["tail", "/dev/zero"], ["sh", "-c", "sleep 600 & sleep 600 & tail /dev/zero & wait"]])
def test_memory(dolium: Dolium, alpine: str, words: list[str]) -> None:
    ended = dolium("run", "-m", "32MiB", alpine, *words)
    assert ended.code == 137
    assert ended.stderr.splitlines()[-1].startswith("dolium: killed: memory limit of 32 MiB reached (peak 32 MiB"), ended


@pytest.mark.needs_root
def test_files_in_tmpfs_are_counted(dolium: Dolium, alpine: str) -> None:
    ended = dolium("run", "-m", "32m", alpine, "sh", "-c", "dd if=/dev/zero of=/x bs=1M count=12 2>/dev/null; tail /dev/zero")
    assert "of it 12" in ended.stderr and ended.code == 137, ended
    small = dolium.output("-m", "32m", alpine, "df", "-k", "/")
    assert small.split()[8] == "16384", "half of the limit"


@pytest.mark.needs_root
def test_true_runs_in_512k(dolium: Dolium, alpine: str) -> None:
    assert dolium("run", "-m", "512k", alpine, "true").code == 0
    said = dolium.refused("-m", "16k", alpine, "true")
    assert "16 KiB" in said and "too small" in said


@pytest.mark.needs_root
def test_cpus_throttle(dolium: Dolium, alpine: str) -> None:
    inside = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; cat /sys/fs/cgroup/cpu.stat /sys/fs/cgroup/cpu/cpu.stat 2>/dev/null || :"
    counted = dict(line.split() for line in dolium.output("--cpus", "0.1", alpine, "sh", "-c", inside).splitlines())
    assert int(counted["nr_throttled"]) > 0


@pytest.mark.parametrize("who", ["root", "plain"])
def test_processes(request: pytest.FixtureRequest, who: str) -> None:
    user: Dolium = request.getfixturevalue(who)
    ended = user("run", "--pids-limit", "10", "@host", "sh", "-c", "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 1 & done; wait")
    assert "fork" in ended.stderr and ended.code == 2, ended


def test_processes_of_root_without_cap_sys_admin(root: Dolium) -> None:
    """Whose processes the kernel does not count, and who has no cgroups: nothing is said to hold that would not."""
    root.command = ["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", *root.command]
    said = root.refused("--pids-limit", "10", "@host", "true")
    assert "nothing limits the processes of root" in said and "CAP_SYS_ADMIN" in said.splitlines()[-1]
    assert "RLIMIT_NPROC" not in root("explain", "@host", "true").stdout
    ended = root("doctor", "--json", "cgroup-pids")
    assert ended.code == 1 and "without CAP_SYS_ADMIN" in ended.stdout, ended


@pytest.mark.parametrize("words", [["-m", "64m"], ["--cpus", "1"], ["--cpuset-cpus", "0"]])
def test_what_cannot_be_enforced_is_an_error(plain: Dolium, words: list[str]) -> None:
    ended = plain("run", *words, "@host", "true")
    if ended.code == 0:
        pytest.skip("this user has a delegated cgroup")
    assert ended.code == 125 and "controller" in ended.stderr and "hint: " in ended.stderr, ended


def test_time(dolium: Dolium) -> None:
    ended = dolium("run", "--timeout", "0.5", "@host", "sh", "-c", "trap '' TERM; sleep 600")
    assert (ended.code, ended.stderr) == (124, "dolium: killed: time limit of 0.5 s reached\n")


@pytest.mark.parametrize(("words", "code"), [(["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -TERM $$; exit 3"], 3), (["nope"], 127),
                                             (["/etc/passwd"], 126), (["/tmp"], 126), (["./nope"], 127)])  # fmt: skip
def test_exit_codes(dolium: Dolium, words: list[str], code: int) -> None:
    assert dolium("run", "@host", *words).code == code


@pytest.mark.parametrize(("text", "code", "why"), [
    ("#!/bin/sh\r\necho hi\r\n", 127, "a script whose lines end in CR LF"), ("#!/none\n", 127, "the interpreter or loader that it names"),
    ("hello\n", 126, "neither a program of this machine's kind nor a script")], ids=["windows", "interpreter", "text"])
def test_what_the_kernel_cannot_execute(dolium: Dolium, folder: str, text: str, code: int, why: str) -> None:
    """It is there, and executable; exit codes as Docker documents them."""
    with open(f"{folder}/x", "w", newline="") as file:
        file.write(text)
    os.chmod(f"{folder}/x", 0o755)
    ended = dolium("run", "-v", f"{folder}/x:/tmp/x", "@host", "/tmp/x")
    assert ended.code == code and "cannot exec /tmp/x: execve(2): " in ended.stderr and why in ended.stderr, ended


def test_signals_are_forwarded(dolium: Dolium) -> None:
    with dolium.start("run", "@host", "sh", "-c", "trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done") as process:
        assert read_line(process) == "ready"
        process.send_signal(signal.SIGTERM)
        assert read_line(process) == "got it"
        assert process.wait(30 * SLOW) == 5


def test_the_third_interrupt_ends_it(dolium: Dolium) -> None:
    with dolium.start("run", "@host", "sh", "-c", "trap '' INT; echo ready; sleep 600") as process:
        assert read_line(process) == "ready"
        sent = 0
        while process.poll() is None and sent < 30:  # two that come at once are one, signal(7)
            process.send_signal(signal.SIGINT)
            sent += 1
            time.sleep(0.1 * SLOW)
        assert process.wait(30 * SLOW) == 137 and sent >= 3


def test_kill_9_of_dolium_at_any_moment(dolium: Dolium) -> None:
    """That nothing is left is seen by the check after the test, once the next command has run."""
    chance, label = random.Random(20261123), f"killed={os.getpid()}"
    for _ in range(20):
        with dolium.start("run", "--label", label, "@host", "sleep", "600") as process:
            time.sleep(chance.uniform(0, 0.06) * SLOW)
            process.kill()
    assert dolium("run", "@host", "true").code == 0
    wait_for(lambda: dolium("ps", "-a", "-q", "--filter", f"label={label}").stdout == "")


def test_kill_9_of_dolium_and_its_keeper(dolium: Dolium) -> None:
    with dolium.start("run", "@host", "sh", "-c", "echo ready; sleep 600") as process:
        assert read_line(process) == "ready"
        watcher = wait_for(lambda: keeper(process))
        os.kill(process.pid, signal.SIGKILL)
        os.kill(watcher, signal.SIGKILL)
    assert dolium("run", "@host", "true").code == 0


@pytest.mark.needs_root
def test_parents_removed_while_a_program_lives() -> None:
    """`dolium system reset` takes the parents of all groups away; a program that has started containers starts others."""
    from dolium.plan.facts import Hierarchy
    from dolium.runtime import cgroup, host

    mounted = next(iter(host.facts().controllers.values()))
    above = f"{os.path.dirname(mounted.parent)}/dolium-test-{os.getpid()}"
    hierarchies = {"test": Hierarchy(1, f"{above}/dolium")}
    os.mkdir(above)
    try:
        for _ in range(2):
            cgroup.prepare(hierarchies)
            cgroup.make(f"{above}/dolium/one", hierarchies)
            assert cgroup.remove(f"{above}/dolium/one")
            os.rmdir(f"{above}/dolium")
    finally:
        os.rmdir(above)
