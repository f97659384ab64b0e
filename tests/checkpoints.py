"""How the tests have containers written down by criu and made again, where this host has a criu that can."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from typing import Any

from bundles import Bundle, Verb, script, wait_for
from containers import SLOW

COUNT = "i=0; while :; do i=$((i+1)); echo $i; echo $i >/dev/shm/count; sleep 0.05; done"
"""Counts, where its output goes and in its memory."""


def missing() -> str:
    """Why nothing can be checkpointed here; empty where it can."""
    if os.geteuid():
        return "only root can have criu do it"
    if not (criu := shutil.which("criu", path=f"{os.environ.get('PATH', '')}:/usr/sbin")):
        return "no criu here (Debian: criu)"
    ended = subprocess.run([criu, "check"], capture_output=True, text=True, check=False, timeout=60 * SLOW)
    return f"criu check: {(ended.stdout + ended.stderr).strip().splitlines()[0]}" if ended.returncode else ""


def forgets_no_new_privileges() -> bool:
    """criu before 3.19."""
    said = subprocess.run(["criu", "--version"], capture_output=True, text=True, check=False).stdout
    return tuple(int(each) for each in said.split()[1].split(".")[:2]) < (3, 19)


class Taken:
    """A container whose output goes to a pipe of the test's, and the images of it."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.images = f"{bundle.directory}/images"
        self.work = f"{bundle.directory}/work"
        self.pid_file = f"{bundle.directory}/pid"
        self._ends: list[int] = []
        self.output = b""

    def run(self, spec: dict[str, Any] | None = None, *flags: str, **how: Any) -> int:
        """Start one that counts, unless told otherwise; its pid.  A criu that forgets no_new_privs is not asked for it."""
        spec = spec or script(COUNT)
        if forgets_no_new_privileges():
            spec["process"]["noNewPrivileges"] = False
        self.bundle.write(spec)
        ended = self._with_pipe("run", "--detach", "--bundle", self.bundle.directory, *flags, self.bundle.id, **how)
        assert ended.code == 0, ended
        return int(self.bundle.state()["pid"])

    def checkpoint(self, *flags: str, **how: Any) -> Verb:
        return self.bundle.verb("checkpoint", "--image-path", self.images, "--work-path", self.work, *flags, self.bundle.id, **how)

    def taken(self, *flags: str, **how: Any) -> None:
        """Checkpointed, without a word."""
        pid = self.bundle.state()["pid"]
        ended = self.checkpoint(*flags, **how)
        assert (ended.code, ended.out, ended.err) == (0, "", ""), (ended, self.log("dump"))
        try:
            os.waitpid(pid, os.WNOHANG)  # it is free again only then
        except ChildProcessError:  # of one in the foreground, which `run` has waited for
            pass

    def restore(self, *flags: str, **how: Any) -> Verb:
        return self._with_pipe("restore", "--image-path", self.images, "--work-path", self.work, "--bundle", self.bundle.directory, *flags,
                               self.bundle.id, **how)

    def rewrite(self, spec: dict[str, Any]) -> None:
        """Another config to restore with."""
        if forgets_no_new_privileges():
            spec["process"]["noNewPrivileges"] = False
        self.bundle.write(spec)

    def restored(self, *flags: str, **how: Any) -> int:
        """Restored, without a word; its pid."""
        ended = self.restore("--detach", "--pid-file", self.pid_file, *flags, **how)
        assert ended.code == 0 and "error" not in ended.err, (ended, self.log("restore"))
        state = self.bundle.state()
        with open(self.pid_file) as file:
            assert state["status"] == "running" and file.read() == str(state["pid"]), state
        return int(state["pid"])

    def _with_pipe(self, *words: str, **how: Any) -> Verb:
        """Its output goes to a pipe, what it has to complain of to a file of the host's."""
        mine, theirs = os.pipe()
        os.set_blocking(mine, False)
        self._ends.append(mine)
        how = {"stdin": subprocess.DEVNULL, "env": self.bundle.environment, **how}
        with open(f"{self.bundle.directory}/err", "w") as err:
            ended = subprocess.run([self.bundle.runtime, "--root", self.bundle.root, *words], timeout=60 * SLOW, check=False, cwd="/",
                                   **{"stdout": theirs, "stderr": err, **how})
        os.close(theirs)
        return Verb(ended.returncode, "", self.bundle.read("err"))

    def read(self) -> str:
        """All that it has printed so far."""
        for end in self._ends:
            try:
                while chunk := os.read(end, 65536):
                    self.output += chunk
            except BlockingIOError:
                pass
        return self.output.decode()

    def last(self) -> int:
        """The last number that it has printed."""
        return int(self.read().split()[-1])

    def counts(self, beyond: int) -> int:
        """Wait until it has counted further than that."""
        return int(wait_for(lambda: self.read().endswith("\n") and self.last() > beyond and self.last()))

    def log(self, name: str) -> str:
        path = f"{self.work}/{name}.log"
        if not os.path.exists(path):
            return ""
        with open(path, errors="replace") as file:
            return "".join(line for line in file if "Error" in line)

    def exec(self, text: str) -> str:
        ended = self.bundle.verb("exec", self.bundle.id, "sh", "-c", text)
        assert ended.code == 0, ended
        return ended.out

    def close(self) -> None:
        for end in self._ends:
            os.close(end)


def foreground(one: Taken, *words: str) -> subprocess.Popen[bytes]:
    """A verb on it that goes on, and prints nothing."""
    return subprocess.Popen([one.bundle.runtime, "--root", one.bundle.root, *words, one.bundle.id], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=one.bundle.environment)  # fmt: skip


def status(pid: int) -> dict[str, str]:
    """What /proc says of rights and limits of a process."""
    with open(f"/proc/{pid}/status") as file:
        fields = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
    names = ("Uid", "Gid", "Groups", "Umask", "NoNewPrivs", "Seccomp", "Seccomp_filters", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    found = {name: fields[name] for name in names if name in fields}
    with open(f"/proc/{pid}/limits") as file:
        found["limits"] = file.read()
    for name in ("oom_score_adj", "uid_map", "gid_map", "cgroup", "cmdline", "environ"):
        with open(f"/proc/{pid}/{name}") as file:
            found[name] = file.read()
    return found


def mounts(pid: int) -> set[str]:
    """Its mounts, without their numbers."""
    with open(f"/proc/{pid}/mountinfo") as file:
        lines = [line.split() for line in file]
    found = set()
    for words in lines:
        place, dash = words[4], words.index("-")
        found.add(" ".join([words[3], place, words[5], words[dash + 1], ",".join(sorted(words[dash + 3].split(",")))]))
    return found


def groups_of(bundle: Bundle) -> dict[str, str]:
    """Limits in the container's groups, by their files."""
    with open(f"{bundle.root}/{bundle.id}/state.json") as file:
        directories = {*json.load(file)["groups"].values()}
    found = {}
    for directory in directories:
        for name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.max", "cpu.cfs_quota_us", "devices.list", "cpu.shares", "cpu.weight"):
            if os.path.exists(f"{directory}/{name}"):
                with open(f"{directory}/{name}") as file:
                    found[f"{directory}/{name}"] = file.read()
    return found
