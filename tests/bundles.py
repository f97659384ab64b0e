"""How the tests make bundles and call the OCI runtime on them, as an engine does."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from typing import Any

import pytest
from containers import NOBODY, SLOW, TOP

RUNTIME = f"{TOP}/.build/oci/bin/dolium-oci"
"""As it is when installed (make/setup.sh): dolium-verbs, and behind it what is in bin/."""
PYTHON_ALONE = f"{TOP}/bin/dolium-oci"
KERNEL = tuple(int(each) for each in os.uname().release.split("-")[0].split(".")[:2])
SAFE = ["nosuid", "noexec", "nodev"]
PLAIN = f"setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups"
"""The words with which a plain user is somebody."""
DEFAULT: dict[str, Any] = {
    "ociVersion": "1.0.2-dev",
    "root": {"path": "rootfs"},
    "process": {
        "user": {"uid": 0, "gid": 0}, "args": ["true"], "cwd": "/",
        "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
        "capabilities": {each: ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETGID", "CAP_SETUID"]
                         for each in ("bounding", "effective", "permitted")},
        "noNewPrivileges": True,
    },
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": SAFE},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
        {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
         "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": [*SAFE, "mode=1777", "size=65536k"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*SAFE, "ro"]},
    ],
    "linux": {"namespaces": [{"type": each} for each in ("pid", "network", "ipc", "uts", "mount", "cgroup")],
              "maskedPaths": ["/proc/kcore", "/proc/keys", "/sys/firmware"], "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"]},
}  # fmt: skip
"""Much like what `runc spec` writes."""


def maps_ids_of(path: str) -> bool:
    """Whether this kernel can have the ids of that file system mapped: those of a tmpfs since 6.3, those of an overlay not."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True, check=True).stdout.strip()
    return kind != "overlayfs" and (kind != "tmpfs" or KERNEL >= (6, 3))


def config(**changes: Any) -> dict[str, Any]:
    """The default config with changes: `process__args=[...]`, `linux__resources={...}`."""
    found = copy.deepcopy(DEFAULT)
    for path, value in changes.items():
        *way, last = path.split("__")
        inner = found
        for each in way:
            inner = inner.setdefault(each, {})
        inner[last] = value
    return found


def script(text: str, **changes: Any) -> dict[str, Any]:
    """A config that runs a shell script."""
    return config(process__args=["sh", "-c", text], **changes)


PYTHON = 77
"""The exit code of what stands for the Python program behind dolium-verbs."""


def without_python(folder: str, sanitized: bool = False) -> str:
    """dolium-oci as it is installed, with something behind it that only says that it was called; `sanitized`: built so that a
    wrong step in memory ends it."""
    os.makedirs(f"{folder}/prefix/bin")
    if sanitized:
        built = subprocess.run(["cc", "-std=c11", "-g", "-O1", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all",
                                "-o", f"{folder}/prefix/bin/dolium-oci", *(f"{TOP}/init/{each}.c" for each in ("verbs", "exec_again", "words"))], check=False)  # fmt: skip
        if built.returncode:
            pytest.skip("no compiler with sanitizers")
    else:
        shutil.copy(RUNTIME, f"{folder}/prefix/bin/dolium-oci")
    behind = f"{folder}/prefix/lib/dolium"
    os.makedirs(behind)
    os.symlink(f"{TOP}/src/dolium", f"{behind}/dolium")
    with open(f"{behind}/dolium-oci", "w") as file:
        file.write(f'#!/bin/sh\n[ -z "$SEEN" ] || printf "%s\\n" "$@" >"$SEEN"\nexit {PYTHON}\n')
    os.chmod(file.name, 0o755)
    return f"{folder}/prefix/bin/dolium-oci"


def call(program: str, *words: str, **environment: str) -> tuple[int, str, str]:
    """Its exit code, and what it has printed."""
    done = subprocess.run([program, *words], capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL,
                          env={"PATH": "/usr/bin:/bin", **environment}, check=False)  # fmt: skip
    return done.returncode, done.stdout, done.stderr


class Verb:
    """How a verb ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    def __repr__(self) -> str:
        return f"Verb({self.code}, {self.out[-3000:]!r}, {self.err[-3000:]!r})"


class Bundle:
    """A directory with a rootfs and a config, and the container made of it."""

    def __init__(self, directory: str, rootfs: str, root: str, runtime: str = RUNTIME) -> None:
        self.directory = directory
        self.rootfs = f"{directory}/rootfs"
        self.root = root
        self.runtime = runtime
        self.id = f"test-{os.path.basename(directory)}"
        self.environment = {"PATH": os.environ.get("PATH", "/usr/bin:/bin")}
        if "DOLIUM_PYTHON" in os.environ:
            self.environment["DOLIUM_PYTHON"] = os.environ["DOLIUM_PYTHON"]
        os.mkdir(self.rootfs)
        for name in os.listdir(rootfs):  # links to the same files: a rootfs of one's own at no cost
            subprocess.run(["cp", "-al", f"{rootfs}/{name}", f"{self.rootfs}/{name}"], check=True)

    def give(self, owner: int) -> None:
        """All of its files to another user and group; they are no links to others' any more."""
        subprocess.run(["cp", "-a", self.rootfs, f"{self.rootfs}.own"], check=True)
        shutil.rmtree(self.rootfs)
        os.rename(f"{self.rootfs}.own", self.rootfs)
        subprocess.run(["chown", "-hR", f"{owner}:{owner}", self.rootfs], check=True)

    def write(self, spec: Any) -> None:
        with open(f"{self.directory}/config.json", "w") as file:
            if isinstance(spec, str):
                file.write(spec)
            else:
                json.dump(spec, file)

    def verb(self, *words: str, input: str | None = None, options: tuple[str, ...] = (), **how: Any) -> Verb:
        """One call of the runtime."""
        how.setdefault("env", self.environment)
        how.setdefault("cwd", "/")
        how.setdefault("stdin", subprocess.DEVNULL if input is None else None)
        if input is not None:
            how["input"] = input
            del how["stdin"]
        ended = subprocess.run([self.runtime, "--root", self.root, *options, *words], capture_output=True, text=True, errors="replace",
                               timeout=60 * SLOW, check=False, **how)
        return Verb(ended.returncode, ended.stdout, ended.stderr)

    def create(self, spec: Any = None, *flags: str, **how: Any) -> Verb:
        """`create`; what the program prints goes into files."""
        if spec is not None:
            self.write(spec)
        with open(f"{self.directory}/out", "w") as out, open(f"{self.directory}/err", "w") as err:
            how.setdefault("env", self.environment)
            how.setdefault("cwd", "/")
            ended = subprocess.run([self.runtime, "--root", self.root, "create", "--bundle", self.directory, *flags, self.id],
                                   stdin=subprocess.DEVNULL, stdout=out, stderr=err, timeout=60 * SLOW, check=False, **how)
        return Verb(ended.returncode, self.read("out"), self.read("err"))

    def read(self, name: str) -> str:
        with open(f"{self.directory}/{name}", errors="replace") as file:
            return file.read()

    def start(self) -> Verb:
        return self.verb("start", self.id)

    def state(self) -> dict[str, Any]:
        ended = self.verb("state", self.id)
        assert ended.code == 0, ended
        found: dict[str, Any] = json.loads(ended.out)
        return found

    def status(self) -> str:
        ended = self.verb("state", self.id)
        return str(json.loads(ended.out)["status"]) if ended.code == 0 else "gone"

    def wait(self, status: str = "stopped") -> None:
        deadline = time.monotonic() + 20 * SLOW
        while self.status() != status:
            assert time.monotonic() < deadline, self.verb("state", self.id)
            time.sleep(0.01)

    def output(self, spec: Any, *flags: str) -> str:
        """Everything from create to delete; what the program has printed."""
        created = self.create(spec, *flags)
        assert created.code == 0, created
        started = self.start()
        assert (started.code, started.out, started.err) == (0, "", ""), started
        self.wait()
        deleted = self.verb("delete", self.id)
        assert (deleted.code, deleted.out, deleted.err) == (0, "", ""), deleted
        assert self.read("err") == "", self.read("err")
        return self.read("out")

    def refused(self, spec: Any, *flags: str) -> str:
        """The one line with which `create` fails; nothing is left."""
        ended = self.create(spec, *flags)
        assert ended.code == 1 and ended.out == "", ended
        assert ended.err.startswith("error: ") and ended.err.count("\n") == 1 and "Traceback" not in ended.err, ended
        assert self.status() == "gone"
        return ended.err[7:-1]

    def running(self, spec: Any = None, *flags: str) -> int:
        """Create and start one that goes on; its pid."""
        created = self.create(spec or config(process__args=["sleep", "1000"]), *flags)
        assert created.code == 0, created
        started = self.start()
        assert started.code == 0, started
        return int(self.state()["pid"])

    def called_by(self, owner: int, words: str) -> None:
        """Have the runtime called by somebody else: `words` are of a shell, and end in exec of who that is."""
        path = f"{self.directory}/caller"
        with open(path, "w") as file:
            file.write(f'#!/bin/sh\n{words} "{self.runtime}" "$@"\n')
        os.chmod(path, 0o755)
        os.makedirs(self.root, exist_ok=True)
        for each in (self.root, self.directory):
            os.chown(each, owner, owner)
        self.runtime = path

    def close(self) -> None:
        ended = self.verb("delete", "--force", self.id)
        assert ended.code == 0, ended


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> Any:
    deadline = time.monotonic() + seconds * SLOW
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return value


def scratch() -> str:
    path = tempfile.mkdtemp(prefix="dolium-oci-", dir="/tmp")
    os.chmod(path, 0o755)
    return path


def end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
