"""`dolium-oci` is killed at each of the calls by which its verbs change something, and each step of the host fails: `delete --force`
cleans what is there, and the id is free.  As tests/faults/test_kills.py does it for `dolium`; DOLIUM_KILLS=all takes every moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from typing import IO, Any

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
IN_C = {
    "start": ((("create", "-b", "BUNDLE", "ID"),), ("start", "ID")),
    "kill": ((("run", "--detach", "-b", "BUNDLE", "ID"),), ("kill", "ID", "KILL")),
    "delete": ((("run", "--detach", "-b", "BUNDLE", "ID"), ("kill", "ID", "KILL")), ("delete", "ID")),
}
"""What dolium-verbs does alone."""


class Stage:
    """A bundle that is ready for the verb of a case, and what else there was before."""

    def __init__(self, bundle: Bundle, strace: str, before: tuple[tuple[str, ...], ...], words: tuple[str, ...], spec: Any) -> None:
        self.bundle = bundle
        self.strace = [strace, "-qq", "-o"]
        self.before, self.words = before, words
        bundle.write(spec)
        os.makedirs(bundle.root, exist_ok=True)
        leaks.adopt_orphans()
        leaks.reap()
        self.others = {*leaks.family()}

    def prepare(self) -> None:
        """The container that the verb is for."""
        for each in self.before:
            assert self.call(each) == 0, each
            if each[0] == "kill":
                self.bundle.wait()

    def call(self, words: tuple[str, ...], *before: str, err: IO[str] | None = None) -> int:
        """The exit code of a verb, below another program where one is given."""
        argv = [{"BUNDLE": self.bundle.directory, "ID": self.bundle.id}.get(word, word) for word in words]
        with open("/dev/null", "r+") as null:
            return subprocess.run([*before, self.bundle.runtime, "--root", self.bundle.root, *argv], stdin=null, stdout=null, stderr=err or null,
                                  env=self.bundle.environment, timeout=60 * SLOW).returncode  # fmt: skip

    def cleaned(self, where: object) -> None:
        """Whatever the state is, it is shown, and gone after `delete --force`; then the id can be had again."""
        bundle = self.bundle
        assert bundle.status() in ("creating", "created", "running", "paused", "stopped", "gone"), where
        assert bundle.verb("list", "--format", "json").code == 0, where
        ended = bundle.verb("delete", "--force", bundle.id)
        assert (ended.code, ended.out, ended.err) == (0, "", ""), (where, ended)
        assert os.listdir(bundle.root) == [], where
        wait_for(lambda: not self._groups() and not self._processes(), 10)

    def made(self, calls: str) -> list[str]:
        """Those of these system calls that the verb makes, in their order; then its container is gone."""
        self.prepare()
        traced = f"{self.bundle.directory}/calls"
        self.call(self.words, *self.strace, traced, "-e", f"trace={calls}")
        self.cleaned("while it is watched")
        with open(traced) as file:
            return [line.partition("(")[0] for line in file if "(" in line]

    def killed(self, moments: list[tuple[str, int]], case: str) -> None:
        """At the Nth of some calls each time, or at some of these moments."""
        chosen = moments if EVERY else sorted(random.Random(case).sample(moments, min(MOST, len(moments))))
        kills = 0
        for group, number in chosen:
            self.prepare()
            these = ",".join(f"?{each}" for each in group.split(","))
            code = self.call(self.words, *self.strace, "/dev/null", "-e", f"trace={these}", "-e", f"inject={these}:signal=KILL:when={number}")
            kills += code == -signal.SIGKILL
            self.cleaned((case, group, number))
        assert kills > len(chosen) // 2, (kills, chosen)

    def _groups(self) -> list[str]:
        tops = [f"/sys/fs/cgroup/{each}/dolium" for each in ("", *os.listdir("/sys/fs/cgroup"))]
        return [f"{top}/{self.bundle.id}" for top in tops if os.path.isdir(f"{top}/{self.bundle.id}")]

    def _processes(self) -> list[int]:
        leaks.reap()
        return [pid for pid in leaks.family() if pid not in self.others]


@pytest.fixture
def stage(bundle: Bundle, case: str, strace: str) -> Stage:
    """As the case wants it."""
    return Stage(bundle, strace, *CASES[case], {**LIVES, "process": {**LIVES["process"], "args": ["sleep", "0.2"]}} if case == "run" else LIVES)


@pytest.mark.parametrize("case", CASES)
def test_a_verb_that_is_killed(stage: Stage, case: str) -> None:
    made = stage.made(",".join(f"?{each}" for group in CALLS for each in group.split(",")))
    stage.killed([(group, number) for group in CALLS for number in range(1, sum(each in group.split(",") for each in made) + 1)], case)


@pytest.mark.parametrize("verb", IN_C)
def test_dolium_verbs_is_killed(bundle: Bundle, strace: str, verb: str) -> None:
    """At any of its calls."""
    stage = Stage(bundle, strace, *IN_C[verb], {**LIVES, "hooks": {}})
    made = stage.made("all")
    assert made.count("execve") == 1, "it has become Python"
    stage.killed([(call, made[: index + 1].count(call)) for index, call in enumerate(made) if call != "execve"], verb)


@pytest.mark.parametrize("case", ["create", "run", "exec", "start", "delete"])
def test_a_call_that_fails(stage: Stage, case: str) -> None:
    """One call of Python's fails, as on a full disk: the verb says so in one line, without a traceback, and leaves what can be cleaned."""
    for name, error in (("mkdir", "ENOSPC"), ("rename", "EIO"), ("write", "ENOSPC"), ("memfd_create", "ENOMEM"), ("rmdir", "EBUSY"), ("connect", "ECONNREFUSED")):
        for number in (1, 2, 3):
            stage.prepare()
            with open(f"{stage.bundle.directory}/said", "w+") as said:
                stage.call(stage.words, *stage.strace, "/dev/null", "-e", f"trace={name}", "-e", f"inject={name}:error={error}:when={number}", err=said)
                said.seek(0)
                text = said.read()
            assert "Traceback" not in text and text.count("\n") <= 1, (case, name, number, text)
            stage.cleaned((case, name, number))
