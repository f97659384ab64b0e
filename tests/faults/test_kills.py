"""kill -9 at any moment: `ps` tells the truth, the next command mends, and nothing is left.

strace kills the command at the Nth of each system call that changes something, so the moments are the same each time.
DOLIUM_KILLS=all takes every moment, not a few of each call.
"""

from __future__ import annotations

import os
import random
import signal
import time

import leaks
import pytest
from containers import SLOW, children, program, wait_for
from machine import Machine

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("nothing_left")]
CALLS = ("mkdir", "symlink", "rename", "unlink", "rmdir", "flock", "fsync", "write", "pwrite64", "sendto", "recvmsg", "vfork,clone,clone3",
         "pidfd_send_signal", "poll", "exit_group")  # fmt: skip
EVERY = os.environ.get("DOLIUM_KILLS") == "all"
MOST = 5
"""Moments of each command, unless all are wanted; which, is a matter of chance, the same each time."""
KEPT = ("run", "--name", "x", "@host", "true")
LIVES = ("run", "-d", "--name", "x", "@host", "sleep", "1000")
OTHER = ("run", "--name", "other", "@host", "true")
CASES = {
    "run": ((), ("run", "--name", "x", "@host", "true")),
    "run --rm": ((), ("run", "--rm", "--name", "x", "@host", "true")),
    "run -d": ((), LIVES),
    "run -d --rm": ((), ("run", "-d", "--rm", "--name", "x", "@host", "sleep", "1000")),
    "start": ((LIVES, ("kill", "x")), ("start", "x")),
    "start -a": ((KEPT,), ("start", "-a", "x")),
    "stop": ((LIVES,), ("stop", "x")),
    "kill": ((LIVES,), ("kill", "x")),
    "rm": ((KEPT,), ("rm", "x")),
    "rm -f": ((LIVES,), ("rm", "-f", "x")),
    "exec": ((LIVES,), ("exec", "x", "true")),
    "exec -d": ((LIVES,), ("exec", "-d", "x", "sleep", "1000")),
    "rename": ((LIVES,), ("rename", "x", "y")),
    "prune": ((KEPT, OTHER), ("prune",)),
    "wait": ((("run", "-d", "--name", "x", "@host", "sleep", "0.1"),), ("wait", "x")),
    "inspect": ((LIVES,), ("inspect", "x")),
    "ps": ((KEPT,), ("ps", "-a")),
}  # fmt: skip


def moments(machine: Machine, strace: str, words: tuple[str, ...], case: str, path: str) -> list[tuple[str, int]]:
    """Of a command, as it is now: the first few of each of its calls, or all."""
    traced = f"{path}/calls"
    machine(*words, argv=[strace, "-qq", "-o", traced, "-e", f"trace={','.join(f'?{each}' for call in CALLS for each in call.split(','))}",
                          *machine.command])  # fmt: skip
    with open(traced) as file:
        made = [line.partition("(")[0] for line in file]
    found = []
    for call in CALLS:
        count = sum(each in call.split(",") for each in made)
        found += [(call, number) for number in range(1, (count if EVERY else min(count, 4)) + 1)]
    return found if EVERY else sorted(random.Random(case).sample(found, min(MOST, len(found))))


def mended(machine: Machine, where: object) -> None:
    """`ps` tells the truth; then all is removed, and nothing is left."""
    wait_for(machine.is_true)
    rows = machine.rows()
    assert {*rows} <= {"x", "y", "other"} and not {"x", "y"} <= {*rows}, (where, rows)
    for name, row in rows.items():
        assert row["State"] != "dead", (where, row)
        assert machine("inspect", "-f", "{{.State.Status}} {{.Name}}", row["ID"][:8]).stdout in (
            f"{row['State']} {name}\n", f"exited {name}\n"), where  # fmt: skip
    ended = machine("rm", "-f", *rows) if rows else machine("ps")
    assert (ended.code, ended.stderr) == (0, ""), (where, ended)
    assert machine("run", "--rm", "@host", "true").code == 0, where
    assert machine.rows() == {}, where
    deadline = time.monotonic() + 5 * SLOW  # from here on: the commands before take their time on a busy machine
    wait_for(lambda: not machine.files() or time.monotonic() > deadline)
    assert not machine.files(), where
    again = machine("run", "--name", "x", "@host", "true")  # the name is free
    assert again.code == 0, (where, again)
    assert machine("rm", "x").code == 0 and not machine.files(), where


@pytest.mark.parametrize("case", CASES)
def test_of_the_command(machine: Machine, strace: str, case: str, folder: str) -> None:
    before, words = CASES[case]

    def prepare() -> None:
        for each in before:
            ended = machine(*each)
            assert ended.code == 0, ended

    prepare()
    chosen = moments(machine, strace, words, case, folder)
    mended(machine, "while it is watched")
    tried: list[tuple[str, int]] = []
    ended_before: set[str] = set()
    for call, number in chosen:
        if call in ended_before:
            continue
        prepare()
        names = ",".join(f"?{each}" for each in call.split(","))
        argv = [strace, "-qq", "-o", "/dev/null", "-e", f"trace={names}", "-e", f"inject={names}:signal=KILL:when={number}", *machine.command]
        tried.append((call, number))
        if machine(*words, argv=argv).code != -signal.SIGKILL:  # how often it looks, while it waits, is not the same each time
            ended_before.add(call)
        mended(machine, (case, call, number))
    assert len(tried) - len(ended_before) > len(tried) // 2, (ended_before, tried)


HELPERS = ("dolium-init", "dolium-keep")


def helpers() -> list[int]:
    """Of ours that run now: dolium-init, dolium-keep, and the last command of one."""
    found = []
    for pid in leaks.family():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if words[0].decode() in HELPERS or b"_ended" in words:
            found.append(pid)
    return found


@pytest.mark.parametrize("words", [("run", "-d", "--name", "x"), ("run", "-d", "--rm", "--name", "x"), ("run", "--name", "x")], ids=str)
def test_of_those_who_watch(machine: Machine, words: tuple[str, ...]) -> None:
    """And of `dolium _ended`, while a container comes to its end."""
    chance = random.Random(20261125)
    for turn in range(60 if EVERY else 8):
        with machine.start(*words, "@host", "sleep", "0.03"):
            deadline = time.monotonic() + chance.uniform(0.0, 0.25) * SLOW
            while time.monotonic() < deadline:
                time.sleep(0.002)
            for pid in helpers():
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        mended(machine, (words, turn))


def test_of_all_at_once(machine: Machine) -> None:
    """The command, its helpers: whoever there is."""
    chance = random.Random(7)
    for turn in range(60 if EVERY else 8):
        detached = ["-d"] if turn % 2 else []
        with machine.start("run", *detached, "--name", "x", "@host", "sleep", "1000") as process:
            time.sleep(chance.uniform(0.0, 0.15) * SLOW)
            for pid in [process.pid, *children(process.pid), *helpers()]:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
        mended(machine, turn)


def test_how_it_ended_is_not_forgotten_by_a_kill(machine: Machine, strace: str) -> None:
    """Of the last command of dolium-keep, at each of its changes: the next one finds the same exit code and reason."""
    for call in ("rename", "unlink", "rmdir", "write"):
        for number in (1, 2, 3):
            ended = machine("run", "-d", "--name", "x", "-m", "16m", "@host", "sh", "-c", "sleep 0.2; exec tail /dev/zero")
            assert ended.code == 0, ended
            keep = wait_for(lambda: next((pid for pid in helpers() if program(pid) == "dolium-keep"), 0))
            argv = [strace, "-qq", "-f", "-o", "/dev/null", "-p", str(keep), "-e", f"trace={call}", "-e",
                    f"inject={call}:signal=KILL:when={number}"]  # fmt: skip
            machine(argv=argv)
            row = machine.rows()["x"]
            assert (row["State"], row["ExitCode"]) == ("exited", 137), (call, number, row)
            reason = machine("inspect", "-f", "{{.Dolium.Ended.Reason}}", "x").stdout
            assert reason == "memory\n" or (call == "write" and reason == "dolium-keep was killed\n"), (call, number, reason)
            mended(machine, (call, number))


def test_a_name_is_free_when_the_one_who_had_it_has_gone_unseen(machine: Machine) -> None:
    for _ in range(2):
        ended = machine("run", "-d", "--rm", "--name", "x", "@host", "sleep", "1000")
        assert ended.code == 0, ended
        keep = wait_for(lambda: next((pid for pid in helpers() if program(pid) == "dolium-keep"), 0))
        os.kill(keep, signal.SIGKILL)
    mended(machine, "the name")


def test_who_is_quicker_than_its_maker_is_settled(machine: Machine) -> None:
    """The container of `run -d true` may have ended before dolium leaves it to dolium-keep."""
    for _ in range(20):
        assert machine("run", "-d", "--rm", "--name", "x", "@host", "true").code == 0
        wait_for(lambda: not machine.files())
