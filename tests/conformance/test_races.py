"""Callers that race: whoever comes first wins, the others hear why, the state stays whole and nothing is left; named after the rule."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
from bundles import Bundle, config, script, wait_for
from containers import SLOW

ROUNDS = 3


def race(bundle: Bundle, *calls: tuple[str, ...]) -> list[tuple[int, str]]:
    """Exit code and words of each, begun at once."""
    racers, said = [], [f"{bundle.directory}/said-{number}" for number in range(len(calls))]  # files: a container keeps its maker's stderr
    with open("/dev/null", "r+") as null:
        for words, path in zip(calls, said, strict=True):
            with open(path, "w") as file:
                racers.append(subprocess.Popen([bundle.runtime, "--root", bundle.root, *words], stdin=null, stdout=null, stderr=file, env=bundle.environment))
    codes = [each.wait(60 * SLOW) for each in racers]
    ends = [(code, bundle.read(os.path.basename(path))) for code, path in zip(codes, said, strict=True)]
    assert all("Traceback" not in words and words.count("\n") <= 1 for _, words in ends), ends
    return ends


def groups_of(bundle: Bundle) -> list[str]:
    return [where for where, names, _ in os.walk("/sys/fs/cgroup") if bundle.id in names]


def gone(bundle: Bundle) -> None:
    assert bundle.verb("delete", "--force", bundle.id).code == 0
    assert bundle.status() == "gone" and os.listdir(bundle.root) == [] and not groups_of(bundle)


def test_two_creates_of_one_id(bundle: Bundle) -> None:
    """One makes it, complete; the others say that it exists, and take nothing of it away."""
    os.makedirs(bundle.root, exist_ok=True)
    for _ in range(ROUNDS):
        bundle.write(script("echo ran >/ran; sleep 1000"))
        ends = race(bundle, *[("create", "-b", bundle.directory, bundle.id)] * 3)
        assert sorted(code for code, _ in ends) == [0, 1, 1], ends
        assert all("exists" in words for code, words in ends if code), ends
        assert bundle.status() == "created" and bundle.start().code == 0
        wait_for(lambda: os.path.exists(f"{bundle.rootfs}/ran"))
        gone(bundle)
        os.unlink(f"{bundle.rootfs}/ran")


def test_create_and_delete(bundle: Bundle) -> None:
    """Either order: it is there and whole, or it never was."""
    os.makedirs(bundle.root, exist_ok=True)
    for _ in range(ROUNDS):
        bundle.write(config(process__args=["sleep", "1000"]))
        ends = race(bundle, ("create", "-b", bundle.directory, bundle.id), ("delete", "--force", bundle.id))
        assert ends[1][0] == 0, ends
        assert bundle.status() == ("created" if bundle.verb("list", "-q").out else "gone")
        gone(bundle)


def test_a_create_whose_directory_is_taken_for_remains(bundle: Bundle, strace: str) -> None:
    """`delete --force` comes between its making and its lock, and takes it away: another is made."""
    bundle.write(config(process__args=["sleep", "1000"]))
    slow = [strace, "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:delay_enter=1000000:when=1"]  # microseconds
    with open("/dev/null", "r+") as null:
        creating = subprocess.Popen([*slow, bundle.runtime, "--root", bundle.root, "create", "-b", bundle.directory, bundle.id], stdin=null, stdout=null,
                                    stderr=null, env=bundle.environment)  # fmt: skip
        wait_for(lambda: os.path.exists(f"{bundle.root}/{bundle.id}"))
        assert bundle.verb("delete", "--force", bundle.id).code == 0
        assert creating.wait(60 * SLOW) == 0 and bundle.status() == "created"


def test_kill_and_create(bundle: Bundle) -> None:
    """What is neither created nor running hears of no signal (runtime-spec, runtime.md "Kill")."""
    with open(f"{bundle.directory}/hook", "w") as file:
        file.write(f"#!/bin/sh\n: >{bundle.directory}/here\nwhile [ ! -e {bundle.directory}/go ]; do sleep 0.01; done\n")
    os.chmod(f"{bundle.directory}/hook", 0o755)
    bundle.write(config(process__args=["sleep", "1000"], hooks={"createRuntime": [{"path": f"{bundle.directory}/hook"}]}))
    with open("/dev/null", "r+") as null:
        creating = subprocess.Popen([bundle.runtime, "--root", bundle.root, "create", "-b", bundle.directory, bundle.id], stdin=null, stdout=null,
                                    stderr=null, env=bundle.environment)  # fmt: skip
        wait_for(lambda: os.path.exists(f"{bundle.directory}/here"))
        assert bundle.verb("kill", bundle.id, "KILL").err == f"error: container not running: `{bundle.id}` is creating\n"
        with open(f"{bundle.directory}/go", "w"):
            pass
        assert creating.wait(60 * SLOW) == 0 and bundle.status() == "created"


@pytest.mark.parametrize("delete", [("delete", "--force"), ("delete",)], ids=["force", "plain"])
def test_start_and_delete(bundle: Bundle, delete: tuple[str, ...]) -> None:
    for _ in range(ROUNDS):
        bundle.create(config(process__args=["sleep", "1000"]))
        (started, said), (deleted, why) = race(bundle, ("start", bundle.id), (*delete, bundle.id))
        assert started == 0 or "does not exist" in said or "is stopped" in said or "not created" in said or "ended" in said, said
        assert deleted == 0 or "is running, not stopped" in why, why
        assert bundle.status() == ("running" if deleted else "gone")
        gone(bundle)


def test_kill_and_delete(bundle: Bundle) -> None:
    for _ in range(ROUNDS):
        bundle.running(config(process__args=["sleep", "1000"]))
        (killed, said), (deleted, why) = race(bundle, ("kill", bundle.id, "KILL"), ("delete", "--force", bundle.id))
        assert killed == 0 or "not running" in said or "does not exist" in said, said
        assert (deleted, why) == (0, "") and bundle.status() == "gone"
        gone(bundle)


def test_what_a_program_prints_is_not_heard_before_it_is_started(bundle: Bundle, strace: str) -> None:
    """However slow `start` is to write its status down: who has heard of the program finds it running, and may act on that."""
    bundle.create(script("echo here; exec sleep 1000"))
    slow = [strace, "-qq", "-o", "/dev/null", "-e", "trace=rename,renameat", "-e", "inject=rename,renameat:delay_enter=1000000"]  # microseconds
    with open("/dev/null", "r+") as null:
        starting = subprocess.Popen([*slow, bundle.runtime, "--root", bundle.root, "start", bundle.id], stdin=null, stdout=null,
                                    stderr=null, env=bundle.environment)  # fmt: skip
        wait_for(lambda: "here" in bundle.read("out"))
        assert bundle.status() == "running"
        assert bundle.verb("delete", bundle.id).code == 1, "it would be killed, as one that was never started"
        assert starting.wait(60 * SLOW) == 0


def test_a_start_that_is_killed_on_the_way(bundle: Bundle, strace: str) -> None:
    """Once it is written down that it is started, and it is told so by nobody any more, it ends."""
    bundle.create(config(process__args=["sleep", "1000"]))
    killed = subprocess.run([strace, "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", "inject=sendto:signal=KILL:retval=1", bundle.runtime,
                             "--root", bundle.root, "start", bundle.id], env=bundle.environment, check=False, timeout=60 * SLOW)  # fmt: skip
    assert killed.returncode == -signal.SIGKILL
    bundle.wait("stopped")


def test_two_kills(bundle: Bundle) -> None:
    bundle.running(config(process__args=["sleep", "1000"]))
    ends = race(bundle, *[("kill", bundle.id, "KILL")] * 3)
    assert 0 in [code for code, _ in ends] and all(code == 0 or "not running" in words for code, words in ends), ends
    bundle.wait()


def test_exec_and_delete(bundle: Bundle) -> None:
    """What joins a container that goes ends with it."""
    for _ in range(ROUNDS):
        bundle.running(config(process__args=["sleep", "1000"]))
        (code, said), (deleted, why) = race(bundle, ("exec", bundle.id, "sleep", "1000"), ("delete", "--force", bundle.id))
        assert (deleted, why) == (0, "") and code in (255, 128 + signal.SIGKILL), (code, said)
        gone(bundle)


def test_pause_and_kill(bundle: Bundle) -> None:
    """What is killed while it is paused goes at the latest when it is resumed or deleted."""
    for _ in range(ROUNDS):
        bundle.running(config(process__args=["sleep", "1000"]))
        ends = race(bundle, ("pause", bundle.id), ("kill", bundle.id, "KILL"))
        assert ends[1][0] == 0 and (ends[0][0] == 0 or "not running" in ends[0][1]), ends
        gone(bundle)


def test_updates_one_after_the_other(bundle: Bundle) -> None:
    bundle.running(config(process__args=["sleep", "1000"], linux__resources={"pids": {"limit": 50}}))
    ends = race(bundle, *[("update", "--pids-limit", str(limit), bundle.id) for limit in (60, 61, 62)])
    assert ends == [(0, "")] * 3
    found = [open(f"{where}/{bundle.id}/pids.max").read().strip() for where in groups_of(bundle) if os.path.exists(f"{where}/{bundle.id}/pids.max")]  # noqa: SIM115
    assert found and set(found) <= {"60", "61", "62"}
