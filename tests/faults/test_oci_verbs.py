"""`dolium-oci` is killed at each of the calls by which its verbs change something, and each step of the host fails: `delete --force`
cleans what is there, and the id is free.  As tests/faults/test_kills.py does it for `dolium`; DOLIUM_KILLS=all takes every moment."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess

import leaks
import pytest
from bundles import Bundle, config, wait_for
from containers import SLOW

pytestmark = [pytest.mark.needs_root, pytest.mark.usefixtures("nothing_left")]
CALLS = ("mkdir", "rename", "unlink", "rmdir", "flock", "write", "pwrite64", "sendto", "sendmsg", "recvmsg", "recvfrom", "connect", "bind",
         "vfork,clone,clone3", "pidfd_send_signal", "kill", "exit_group")  # fmt: skip
EVERY = os.environ.get("DOLIUM_KILLS") == "all"
MOST = 7
LIVES = config(process__args=["sleep", "1000"], linux__resources={"memory": {"limit": 64 << 20}, "pids": {"limit": 50}},
               hooks={"createRuntime": [{"path": "/bin/true"}], "poststop": [{"path": "/bin/true"}]})  # fmt: skip
CASES = {
    "create": ((), ("create", "-b", "BUNDLE", "ID")),
    "start": ((("create", "-b", "BUNDLE", "ID"),), ("start", "ID")),
    "run": ((), ("run", "-b", "BUNDLE", "ID")),
    "run --detach": ((), ("run", "--detach", "-b", "BUNDLE", "ID")),
    "exec": ((("run", "--detach", "-b", "BUNDLE", "ID"),), ("exec", "ID", "true")),
    "exec --detach": ((("run", "--detach", "-b", "BUNDLE", "ID"),), ("exec", "--detach", "ID", "sleep", "1000")),
    "kill": ((("run", "--detach", "-b", "BUNDLE", "ID"),), ("kill", "ID", "KILL")),
    "pause": ((("run", "--detach", "-b", "BUNDLE", "ID"),), ("pause", "ID")),
    "update": ((("run", "--detach", "-b", "BUNDLE", "ID"),), ("update", "--pids-limit", "40", "ID")),
    "delete": ((("create", "-b", "BUNDLE", "ID"),), ("delete", "ID")),
    "delete --force": ((("run", "--detach", "-b", "BUNDLE", "ID"),), ("delete", "--force", "ID")),
}  # fmt: skip


def call(bundle: Bundle, words: tuple[str, ...], *before: str) -> int:
    argv = [{"BUNDLE": bundle.directory, "ID": bundle.id}.get(word, word) for word in words]
    with open("/dev/null", "r+") as null:
        return subprocess.run([*before, bundle.runtime, "--root", bundle.root, *argv], stdin=null, stdout=null, stderr=null, env=bundle.environment,
                              timeout=60 * SLOW).returncode  # fmt: skip


def cleaned(bundle: Bundle, where: object) -> None:
    """Whatever the state is, it is shown, and gone after `delete --force`; then the id can be had again."""
    assert bundle.status() in ("creating", "created", "running", "paused", "stopped", "gone"), where
    assert bundle.verb("list", "--format", "json").code == 0, where
    ended = bundle.verb("delete", "--force", bundle.id)
    assert (ended.code, ended.out, ended.err) == (0, "", ""), (where, ended)
    assert os.listdir(bundle.root) == [], where
    leaks.reap()
    wait_for(lambda: not groups(bundle) and not processes(), 10)


def groups(bundle: Bundle) -> list[str]:
    tops = [f"/sys/fs/cgroup/{each}/dolium" for each in ("", *os.listdir("/sys/fs/cgroup"))]
    return [f"{top}/{bundle.id}" for top in tops if os.path.isdir(f"{top}/{bundle.id}")]


def processes() -> list[int]:
    leaks.reap()
    return [pid for pid in leaks.family() if pid not in BEFORE]


BEFORE: set[int] = set()


@pytest.mark.parametrize("case", CASES)
def test_a_verb_that_is_killed(bundle: Bundle, case: str) -> None:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace")
    leaks.adopt_orphans()
    leaks.reap()
    BEFORE.clear()
    BEFORE.update(leaks.family())
    before, words = CASES[case]
    spec = {**LIVES, "process": {**LIVES["process"], "args": ["sleep", "0.2"]}} if case == "run" else LIVES
    bundle.write(spec)
    os.makedirs(bundle.root, exist_ok=True)

    def prepare() -> None:
        for each in before:
            assert call(bundle, each) == 0, each

    prepare()
    traced = f"{bundle.directory}/calls"
    names = ",".join(f"?{each}" for group in CALLS for each in group.split(","))
    call(bundle, words, strace, "-qq", "-o", traced, "-e", f"trace={names}")
    cleaned(bundle, "while it is watched")
    with open(traced) as file:
        made = [line.partition("(")[0] for line in file]
    moments = [(group, number) for group in CALLS for number in range(1, sum(each in group.split(",") for each in made) + 1)]
    chosen = moments if EVERY else sorted(random.Random(case).sample(moments, min(MOST, len(moments))))
    kills = 0
    for group, number in chosen:
        prepare()
        these = ",".join(f"?{each}" for each in group.split(","))
        code = call(bundle, words, strace, "-qq", "-o", "/dev/null", "-e", f"trace={these}", "-e", f"inject={these}:signal=KILL:when={number}")
        kills += code == -signal.SIGKILL
        cleaned(bundle, (case, group, number))
    assert kills > len(chosen) // 2, (kills, chosen)


@pytest.mark.parametrize("case", ["create", "run", "exec", "start", "delete"])
def test_a_call_that_fails(bundle: Bundle, case: str) -> None:
    """One call of Python's fails, as on a full disk: the verb says so in one line, without a traceback, and leaves what can be cleaned."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace")
    leaks.adopt_orphans()
    leaks.reap()
    BEFORE.clear()
    BEFORE.update(leaks.family())
    before, words = CASES[case]
    bundle.write({**LIVES, "process": {**LIVES["process"], "args": ["sleep", "0.2"]}} if case == "run" else LIVES)
    os.makedirs(bundle.root, exist_ok=True)
    argv = [{"BUNDLE": bundle.directory, "ID": bundle.id}.get(word, word) for word in words]
    for name, error in (("mkdir", "ENOSPC"), ("rename", "EIO"), ("write", "ENOSPC"), ("memfd_create", "ENOMEM"), ("rmdir", "EBUSY"), ("connect", "ECONNREFUSED")):
        for number in (1, 2, 3):
            for each in before:
                assert call(bundle, each) == 0, each
            with open(f"{bundle.directory}/said", "w+") as said, open("/dev/null", "r+") as null:
                subprocess.run([strace, "-qq", "-o", "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={number}",
                                bundle.runtime, "--root", bundle.root, *argv], stdin=null, stdout=null, stderr=said, env=bundle.environment,
                               timeout=60 * SLOW)  # fmt: skip
                said.seek(0)
                text = said.read()
            assert "Traceback" not in text and text.count("\n") <= 1, (case, name, number, text)
            cleaned(bundle, (case, name, number))
