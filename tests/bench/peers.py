"""The peers that Dolium is measured beside: built or found, and made to do as much as they can of the same."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dolium.engine import config, containers
from dolium.plan import build, limits
from dolium.runtime import cgroup, lease

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
NULL = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
MEMORY, CPUS = 64 << 20, 0.5
"""What floor.c has written into it, too."""


def spawn(argv: list[str]) -> None:
    """Run a program to its end, as cheaply as Python can."""
    actions = [(os.POSIX_SPAWN_DUP2, NULL, fd) for fd in range(3)]
    pid = os.posix_spawn(argv[0], argv, {"PATH": os.defpath}, file_actions=actions)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise RuntimeError(f"{os.path.basename(argv[0])}: exit code {code}")


def call(argv: list[str]) -> None:
    """The same, as programs do it who want to know what was printed, as they are told by dolium.run."""
    subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=True)


def options(*argv: str, limited: bool = True) -> config.Options:
    made = config.Options()
    made.argv = list(argv)
    if limited:
        made.memory, made.cpus = MEMORY, CPUS
    return made


def build_c(*arguments: str, source: str = "") -> None:
    compiler = os.environ.get("CC") or shutil.which("musl-gcc") or "cc"
    subprocess.run([compiler, "-static", "-O2", "-Wall", *arguments], input=source, text=True, check=True)


class Floor:
    """floor.c, built, with all that a plan would have told it."""

    def __init__(self, rootfs: str, scratch: str) -> None:
        self.program = f"{scratch}/floor"
        build_c("-std=c11", "-I", f"{TOP}/init", "-o", self.program, f"{HERE}/floor.c")
        self.lease = lease.take()
        prepared = containers.prepare(rootfs, options("true"), None, self.lease.id_base)
        steps = build.plan(prepared.spec, prepared.facts)
        loads = next(step for step in steps if step.op == "seccomp")
        with open(f"{scratch}/filter", "wb") as file:
            file.write(loads.data)
        linux = prepared.spec["linux"]
        where = limits.groups(prepared.spec, prepared.facts)
        cgroup.prepare(prepared.facts.controllers)
        self.parents = [os.path.dirname(where.get(each, "")) for each in ("cpu", "memory", "pids", "unified")]
        self.argv = [self.program, os.path.abspath(rootfs), str(self.lease.id_base), f"{scratch}/filter", str(loads.n1),
                     ":".join(linux["maskedPaths"]), ":".join(linux["readonlyPaths"]), *self.parents]  # fmt: skip

    def run(self) -> None:
        spawn([*self.argv, "true"])

    def close(self) -> None:
        """Remove what floor leaves when it fails, which it may: it cleans up only in the end."""
        for parent in {*self.parents}:
            for name in os.listdir(parent) if parent else ():
                if name.startswith("floor-"):
                    cgroup.kill(f"{parent}/{name}")
                    cgroup.remove(f"{parent}/{name}")
        self.lease.release()


def bubblewrap(*binds: str) -> list[str]:
    program = shutil.which("bwrap")
    return [program, "--unshare-all", *binds, "--proc", "/proc", "--dev", "/dev", "true"] if program else []


def host_binds() -> list[str]:
    found = ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib64"):
        if os.path.islink(name):
            found += ["--symlink", os.readlink(name), name]
        elif os.path.isdir(name):
            found += ["--ro-bind", name, name]
    return found


def bundle(rootfs: str, directory: str, limited: bool, *argv: str) -> str:
    """An OCI bundle of the container that `dolium run --network none DIR ARGV` is, but with the host's users and the
    directory itself as rootfs, read-only: less work for the peer, and what these runtimes are given by default."""
    prepared = containers.prepare(rootfs, options(*argv, limited=False), None, 1 << 30)
    spec = prepared.spec
    del spec["dolium"]
    spec["ociVersion"] = "1.0.2"
    spec["root"] = {"path": os.path.abspath(rootfs), "readonly": True}
    linux: dict[str, Any] = spec["linux"]
    linux.pop("uidMappings", None)
    linux.pop("gidMappings", None)
    linux["namespaces"] = [each for each in linux["namespaces"] if each["type"] != "user"]
    linux["cgroupsPath"] = "/dolium-bench-" + os.path.basename(directory)
    if not limited:
        del linux["resources"]
    os.makedirs(directory)
    with open(f"{directory}/config.json", "w") as file:
        json.dump(spec, file)
    return directory


PATH = f"{os.defpath}:/usr/sbin:/sbin:/usr/local/sbin:/usr/local/bin"


def runtime(name: str, rootfs: str, scratch: str) -> tuple[list[str], str]:
    """The command line of `runc run` or `crun run`, empty where it is not installed or cannot run this; and a note on it."""
    program = shutil.which(name, path=PATH)
    if not program:
        return [], f"{name} is not installed"
    words = ""
    for limited in (True, False):
        made = bundle(rootfs, f"{scratch}/{name}-{'limited' if limited else 'plain'}", limited, "true")
        argv = [program, "--root", f"{scratch}/{name}-state", "run", "--bundle", made, f"dolium-bench-{name}"]
        tried = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return argv, f"{name} runs without limits, for with them it says: {words}" if words else ""
        words = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1][:150]
        subprocess.run([*argv[:3], "delete", "--force", argv[-1]], capture_output=True, check=False)
    return [], f"{name} cannot run here: {words}"


@contextmanager
def asleep(name: str, rootfs: str, scratch: str) -> Iterator[tuple[list[str], str]]:
    """The command line of `runc exec` or `crun exec` of `true` in a container of its own that lasts as long as this, empty
    where it is not installed or cannot run that; and a note on it."""
    program = shutil.which(name, path=PATH)
    if not program:
        yield [], f"{name} is not installed"
        return
    words, identity = "", f"dolium-bench-{name}-asleep"
    base = [program, "--root", f"{scratch}/{name}-state"]
    for limited in (True, False):
        made = bundle(rootfs, f"{scratch}/{name}-asleep-{'limited' if limited else 'plain'}", limited, "sleep", "1000")
        with open(f"{made}/said", "w+") as said:
            begun = subprocess.run([*base, "run", "--detach", "--bundle", made, identity], stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            said.seek(0)
            words = words or (said.read().strip().splitlines() or [f"exit code {begun.returncode}"])[-1][:150]
        try:
            if begun.returncode == 0:
                yield [*base, "exec", identity, "true"], "" if limited else f"{name} exec is without limits, for with them it says: {words}"
                return
        finally:
            subprocess.run([*base, "delete", "--force", identity], capture_output=True, check=False)
    yield [], f"{name} cannot run here: {words}"


@contextmanager
def podman_asleep(rootfs: str) -> Iterator[tuple[list[str], str]]:
    """The same of `podman exec`."""
    program = shutil.which("podman")
    if not program:
        yield [], "podman is not installed"
        return
    base = [shutil.which("env") or "", "HOME=/root", f"PATH={os.environ['PATH']}", program]
    words = ""
    for chosen in ([], ["--runtime", "runc"]):
        identity = "dolium-bench-asleep"
        argv = [*base, *chosen, "run", "-d", "--name", identity, *LOW, "--network", "none", "--rootfs", rootfs, "sleep", "1000"]
        begun = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        try:
            if begun.returncode == 0:
                yield [*base, *chosen, "exec", identity, "true"], ""
                return
            words = (begun.stderr.strip().splitlines() or [f"exit code {begun.returncode}"])[-1][:150]
        finally:  # also what was made and did not start
            subprocess.run([*base, *chosen, "rm", "-f", "-t", "0", identity], capture_output=True, check=False)
    yield [], f"podman cannot run here: {words}"


LOW = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096")
"""Or podman asks for more than a machine without CAP_SYS_RESOURCE may give."""


def podman(rootfs: str, inside: list[str]) -> tuple[list[str], str]:
    """The command line of `podman run` with a bridge, empty where it is not installed or cannot run this; and a note on it."""
    program = shutil.which("podman")
    if not program:
        return [], "podman is not installed"
    words = ""
    for chosen in ([], ["--runtime", "runc"]):
        argv = [*inside, "env", "HOME=/root", f"PATH={os.environ['PATH']}", program, *chosen, "run", "--rm", *LOW, "--network", "bridge", "--rootfs", rootfs, "true"]
        tried = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if tried.returncode == 0:
            return argv, ""
        words = (tried.stderr.strip().splitlines() or [f"exit code {tried.returncode}"])[-1][:150]
    return [], f"podman cannot run here: {words}"


def podman_quiet(rootfs: str) -> tuple[list[str], str]:
    """The command line of `podman run` without a network, and a note on it, as above."""
    argv, note = podman(rootfs, [])
    return [word if word != "bridge" else "none" for word in argv], note


def docker_py(rootfs: str, scratch: str) -> tuple[Callable[[], None] | None, str]:
    """What runs `true` by docker-py, where that is installed and its daemon answers; and a note on it."""
    try:
        import docker

        client = docker.from_env(timeout=10)
        client.ping()
    except Exception as problem:
        return None, f"docker-py is not measured: {str(problem)[:120]}"
    packed = f"{scratch}/docker.tar"
    subprocess.run(["tar", "-C", rootfs, "-cf", packed, "."], check=True)
    with open(packed, "rb") as file:
        client.api.import_image_from_stream(file, repository="dolium-bench")

    def work() -> None:
        client.containers.run("dolium-bench", ["true"], remove=True, network_mode="none", mem_limit=MEMORY, nano_cpus=int(CPUS * 1e9))

    return work, ""


TRUE = """\
#include <stdlib.h>
#include <unistd.h>
int main(int count, char **arguments)
{
    return count > 1 ? (int)sleep((unsigned)atoi(arguments[1])) : 0;
}
"""


def rootfs(given: str | None, scratch: str) -> str:
    """A directory: the one given, a tarball unpacked, what `make run` has unpacked, or one of `true` and `sleep` alone."""
    unpacked = f"{TOP}/.build/rootfs"
    if not given and os.path.exists(f"{unpacked}/bin/true"):
        return unpacked
    if given and os.path.isdir(given):
        return os.path.abspath(given)
    directory = f"{scratch}/rootfs"
    os.mkdir(directory)
    os.chmod(scratch, 0o755)  # or only root could go in
    if given:
        subprocess.run(["tar", "-xf", given, "-C", directory, "--exclude=./dev/*"], check=True)
        return directory
    for name in ("bin", "dev", "etc", "proc", "sys"):
        os.mkdir(f"{directory}/{name}")
    build_c("-x", "c", "-o", f"{directory}/bin/true", "-", source=TRUE)
    shutil.copy(f"{directory}/bin/true", f"{directory}/bin/sleep")
    return directory
