"""A machine of the tests' own: engines with their usual files in their usual places, and nothing of it on the host.

It has a root file system that is an overlay of the host's, and mount, network, PID, IPC, UTS and cgroup namespaces: what an engine
makes lies in groups, mounts and directories that end with it.  Dolium is installed in it as a user does it."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from containers import SLOW, TOP, Ended, program, wait_for

HERE = os.path.dirname(os.path.abspath(__file__))
GROUPS = "/sys/fs/cgroup"
V2 = os.path.exists(f"{GROUPS}/cgroup.controllers")
"""cgroup v2 alone: there the machine's own processes have a group in its group, which may then hand its controllers on."""
SPACES = ("mount", "net", "pid", "ipc", "uts", "cgroup")
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", "TERM": "xterm"}
SETTLE = 15
"""Seconds that an engine may take to clear away what has ended."""


class Lab:
    """The machine.  `sh` carries out a shell's line in it."""

    def __init__(self) -> None:
        self.directory = tempfile.mkdtemp(prefix="dolium-lab-", dir="/var/tmp")  # a disk; /tmp may be an overlay
        os.chmod(self.directory, 0o755)
        for each in ("memory", "disk"):
            os.mkdir(f"{self.directory}/{each}")
        self.name = f"dolium-lab-{os.getpid()}"
        self.groups = list(_make_groups(self.name))
        self.places = self.groups
        spaces = [f"--{each}" for each in SPACES]
        self.holder = subprocess.Popen(["sh", "-c", f'{self._join()}; exec unshare {" ".join(spaces)} --propagation private --kill-child --fork '
                                        'sh "$@"', "sh", f"{HERE}/lab.sh", self.directory])  # fmt: skip
        wait_for(lambda: self.holder.poll() is not None or self._first() and program(self._first()) == "sleep")
        assert self.holder.poll() is None, "the machine did not start"
        if V2:
            self.places = [f"{self.groups[0]}/machine"]
            with open(f"{self.places[0]}/cgroup.procs", "w") as file:
                file.write(str(self.holder.pid))
            _hand_on(self.groups[0])
        self.enter = ["nsenter", f"--target={self._first()}", *(f"--{each}" for each in SPACES), "--"]
        self.clean: set[str] = set()
        self.tolerated: set[str] = set()
        """What an engine leaves as long as it likes, whatever is below it."""

    def _first(self) -> int:
        with open(f"/proc/{self.holder.pid}/task/{self.holder.pid}/children") as file:
            return int((file.read().split() or ["0"])[0])

    def _join(self) -> str:
        return "; ".join(f"echo $$ >{group}/cgroup.procs" for group in self.places)

    def install(self) -> None:
        """Dolium, as a user does it, to /usr/local."""
        done = self.sh(f"make -C {TOP} install PREFIX=/usr/local")
        assert done.code == 0, done

    def has(self, program: str) -> bool:
        """Whether that program or file is there."""
        return self.sh(f"command -v {program} || test -e {program}").code == 0

    def add(self, package: str) -> str:
        """Install a package of Debian's in this machine, by the host's network; no service is started.  The last that apt-get says."""
        self.write({"/usr/sbin/policy-rc.d": "#!/bin/sh\nexit 101\n"})
        self.sh("chmod 755 /usr/sbin/policy-rc.d")
        words = [each for each in self.enter if each != "--net"]
        install = f"apt-get update -q -o Acquire::Retries=3; DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-remove --no-install-recommends {package}"
        done = subprocess.run([*words, "sh", "-c", install], env={**os.environ, **ENVIRONMENT}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return (done.stdout.decode(errors="replace").splitlines() or [""])[-1]

    def write(self, files: dict[str, str]) -> None:
        """Files by their paths."""
        for path, text in files.items():
            done = self.sh(f"mkdir -p {os.path.dirname(path)} && cat >{path}", input=text)
            assert done.code == 0, done

    def sh(self, line: str, seconds: float = 120, input: str | None = None, **environment: str) -> Ended:
        """Both outputs and the exit code of a shell's line."""
        command = ["sh", "-c", f'{self._join()}; exec "$@"', "sh", *self.enter, "timeout", "-k", "1", "-s", "KILL", str(seconds * SLOW), "sh", "-c", line]
        done = subprocess.run(command, env={**ENVIRONMENT, **environment}, capture_output=True, input=(input or "").encode(), timeout=seconds * SLOW + 30)
        return Ended(done.returncode, done.stdout, done.stderr)

    def start(self, line: str, log: str, **environment: str) -> subprocess.Popen[bytes]:
        """Leave a shell's line running; what it says goes into a file of the host's."""
        with open(log, "wb") as file:
            return subprocess.Popen(["sh", "-c", f'{self._join()}; exec "$@"', "sh", *self.enter, "sh", "-c", f"exec {line}"],
                                    env={**ENVIRONMENT, **environment}, stdin=subprocess.DEVNULL, stdout=file, stderr=file)  # fmt: skip

    def world(self) -> set[str]:
        """A name for all that there is."""
        script = r"""
            for each in /proc/[0-9]*; do
                read -r name <"$each/comm" && case $name in sh|tr|cat|find|ip|timeout) ;; *) echo "process $name" ;; esac
            done 2>/dev/null
            cut -d ' ' -f 5 /proc/self/mountinfo | sed 's/^/mount /'
            find /sys/fs/cgroup -mindepth DEPTH -type d | sed 's/^/cgroup /'
            ls /run/netns | sed 's/^/netns /'
            ip -o link | cut -d : -f 2 | sed 's/@.*//; s/^/link/'
            ls -d /run/dolium/* /run/dolium/oci/* /run/runc/* /run/containerd/runc/*/* /run/docker/runtime-runc/moby/* 2>/dev/null |
                sed 's/^/state /'""".replace("DEPTH", "1" if V2 else "2")
        return {each for each in self.sh(script).stdout.splitlines() if not each.endswith("/dolium")}  # Dolium's own groups stay

    def settled(self) -> None:
        """From here on nothing may be left that is not there now."""
        self.clean = self.world()

    def left(self) -> list[str]:
        """What is there beyond that, and does not go away."""
        deadline = time.monotonic() + SETTLE * SLOW
        while (remaining := self.world() - self.clean - self.tolerated) and time.monotonic() < deadline:
            time.sleep(0.1)
        return sorted(remaining)

    def close(self) -> None:
        """The end of all that was made in it."""
        first = self._first()
        if first:
            ended = os.pidfd_open(first)
            self.holder.kill()  # and so that, with all in its PID namespace
            select.select([ended], [], [])
            os.close(ended)
        self.holder.wait()
        for group in self.groups:
            for directory, _, _ in os.walk(group, topdown=False):
                os.rmdir(directory)
        shutil.rmtree(self.directory)


def _hand_on(group: str) -> None:
    """Let those below it have all its controllers."""
    with open(f"{group}/cgroup.controllers") as file:
        words = " ".join(f"+{each}" for each in file.read().split())
    with open(f"{group}/cgroup.subtree_control", "w") as file:
        file.write(words)


def _make_groups(name: str) -> Iterator[str]:
    """A group in every hierarchy."""
    with open("/proc/self/cgroup") as file:
        found = [line.split(":")[1].removeprefix("name=") or "unified" for line in file]
    if V2:
        _hand_on(GROUPS)
        found = ["."]
    for each in found:
        group = os.path.normpath(f"{GROUPS}/{each}/{name}")
        os.mkdir(group)
        if each == "cpuset":
            for file_name in ("cpuset.cpus", "cpuset.mems"):
                with open(f"{GROUPS}/{each}/{file_name}") as above, open(f"{group}/{file_name}", "w") as own:
                    own.write(above.read())
        yield group


class Pair:
    """An engine with two runtimes below it: `dolium-oci`, which its configuration names, and runc.

    `ways` are the variables that a script has for the one and for the other."""

    def __init__(self, lab: Lab, ways: dict[str, dict[str, str]]) -> None:
        self.lab = lab
        self.ways = ways

    def each(self, script: str, **how: Any) -> dict[str, Ended]:
        """How a script ends with each runtime; nothing may be left of it."""
        found = {}
        for runtime, variables in self.ways.items():
            found[runtime] = self.lab.sh(script, **how, **variables)
            left = self.lab.left()
            if left:
                self.lab.settled()  # once is enough
            assert not left, (runtime, found[runtime], left)
        return found

    def same(self, script: str, wanted: str, **how: Any) -> None:
        """What a script prints with either, both outputs in one; `wanted` is a regular expression where it begins with `^`."""
        for runtime, ended in self.each(f"exec 2>&1\n{script}", **how).items():
            said = ended.stdout.replace("\r", "")
            assert re.fullmatch(wanted, said, re.S) if wanted.startswith("^") else said == wanted, f"{runtime}:\n{said}\nwanted:\n{wanted}"
