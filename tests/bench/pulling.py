"""Images fetched and unpacked, beside podman, and skopeo with umoci: `python tests/bench/pulling.py [ahead] [ROUNDS] [LAYERS]`.

An image of 300 MB and 20,000 files (which compress about as programs do), in a docker-registry on loopback.  Each round has every
contender fetch and unpack it once, into an empty store.  Seconds, medians and least; what ours is of the others; seconds of processors;
the memory of the largest process (RSS); and what a second `pull` of the unchanged image takes beside one request.  Needs root.

Nothing is removed until all has been measured: ext4 does not give an inode away again for some seconds after it was freed, and
passes over each of those when it looks for a new one, so that who unpacks just after 20,000 files have gone pays for them.  `ahead`: all
contenders and the registry come before whatever else the machine does (SCHED_RR).  Who takes longer than PATIENCE is ended, and takes
no further part: podman has been seen to spin.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, f"{os.path.dirname(TESTS)}/src"]

from archives import DIRECTORY, archive, entry
from layouts import Made, write_layout
from registry_servers import Debian, program

DOLIUM = f"{os.path.dirname(TESTS)}/bin/dolium"
FILES, BYTES = 20_000, 300_000_000
PATIENCE = 180
NULL = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def image(layers: int) -> Made:
    """Files of which a third can be compressed away, in directories of a hundred."""
    source = random.Random(7)
    common = source.randbytes(1 << 16)
    made = []
    for number in range(layers):
        entries = [entry("usr", DIRECTORY), entry(f"usr/l{number}", DIRECTORY)]  # as builders write them: those above come first
        for at in range(FILES // layers):
            if at % 100 == 0:
                entries.append(entry(f"usr/l{number}/d{at // 100}", DIRECTORY))
            size = max(1, int(source.expovariate(FILES / BYTES)))
            data = b""
            while len(data) < size:
                data += source.randbytes(2048) + common[(start := source.randrange(60000)) : start + 1024]
            entries.append(entry(f"usr/l{number}/d{at // 100}/f{at}", data=data[:size]))
        made.append(archive(*entries))
    return Made(made, {"Cmd": ["/bin/true"]})


def call(*argv: str, env: dict[str, str] | None = None) -> float:
    began = time.perf_counter()
    subprocess.run(argv, check=True, env=env, **NULL)  # type: ignore[call-overload]
    return time.perf_counter() - began


def main() -> None:
    words = sys.argv[1:]
    ahead = ["chrt", "-r", "5"] if "ahead" in words else []
    numbers = [int(each) for each in words if each.isdigit()]
    rounds, layers = [*numbers, *(5, 4)[len(numbers) :]]
    missing = [each for each in ("docker-registry", "skopeo") if not program(each)]
    if missing:
        sys.exit(f"needs {', '.join(missing)}: make/setup.sh test, as root")
    with tempfile.TemporaryDirectory(prefix="dolium-bench-", dir="/var/tmp") as directory:
        layout = write_layout(f"{directory}/layout", {"x": image(layers)})
        os.mkdir(f"{directory}/registry")
        server = Debian(f"{directory}/registry")
        try:
            if ahead:
                subprocess.run(["chrt", "-a", "-r", "-p", "5", str(server.process.pid)], check=True)
            name = f"{server.name}/bench:x"
            subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:x", f"docker://{name}"], check=True, **NULL)  # type: ignore[call-overload]
            measure(directory, name, rounds, ahead)
        finally:
            server.close()


def bounded(argv: list[str], env: dict[str, str]) -> str:
    """What a command prints; TimeoutExpired where it takes too long, with all that it has started gone."""
    with subprocess.Popen(argv, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            out, _ = process.communicate(timeout=PATIENCE)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv)
    return out


class Taken:
    """What one contender took: seconds of each round, seconds of processors, MiB of its largest process."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.processors: list[float] = []
        self.largest = 0

    def measure(self, commands: list[list[str]], env: dict[str, str]) -> None:
        # By way of a small process: what it was forked from counts as its own memory, wait4(2).
        code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
                "r = resource.getrusage(resource.RUSAGE_CHILDREN); print(r.ru_utime + r.ru_stime, r.ru_maxrss)")  # fmt: skip
        began, processors = time.perf_counter(), 0.0
        for argv in commands:
            used, largest = bounded(["/usr/bin/python3", "-IS", "-c", code, *argv], env).split()
            processors, self.largest = processors + float(used), max(self.largest, int(largest) // 1024)
        self.times.append(time.perf_counter() - began)
        self.processors.append(processors)


def measure(directory: str, name: str, rounds: int, ahead: list[str]) -> None:
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": directory}

    def dolium(place: str) -> list[list[str]]:
        return [[*enter(place), *ahead, DOLIUM, "pull", "-q", name]]

    def podman(place: str) -> list[list[str]]:
        apart = ["unshare", "--mount", "--propagation", "private"]  # where it is ended it leaves a mount
        return [[*apart, *ahead, "podman", "--root", place, "--runroot", f"{place}-run", "--storage-driver", "overlay", "pull", "-q",
                 "--tls-verify=false", name]]  # fmt: skip

    def umoci(place: str) -> list[list[str]]:
        return [[*ahead, "skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"oci:{place}/copied:x"],
                [*ahead, "umoci", "unpack", "--image", f"{place}/copied:x", f"{place}/bundle"]]  # fmt: skip

    contenders: dict[str, Callable[[str], list[list[str]]]] = {"dolium pull": dolium}
    if shutil.which("podman"):
        contenders["podman pull"] = podman
    if shutil.which("umoci"):
        contenders["skopeo copy + umoci unpack"] = umoci
    taken = {each: Taken() for each in contenders}
    out: set[str] = set()
    for at in range(rounds):
        for number, (each, work) in enumerate(contenders.items()):
            os.mkdir(f"{directory}/{at}-{number}", 0o700)
            os.sync()
            try:
                if each not in out:
                    taken[each].measure(work(f"{directory}/{at}-{number}"), env)
            except subprocess.TimeoutExpired:
                out.add(each)
                print(f"{each} took more than {PATIENCE} s in round {at + 1}")
    ours = taken["dolium pull"]
    for each, found in taken.items():
        if not found.times:
            continue
        line = (f"{each:<28} {statistics.median(found.times):6.2f} s  (least {min(found.times):.2f})  processors "
                f"{statistics.median(found.processors):.1f} s  {found.largest} MiB")  # fmt: skip
        if found is not ours and ours.times:
            line += (f"  ours takes {statistics.median(ours.times) / statistics.median(found.times):.2f} of it, "
                     f"least {min(ours.times) / min(found.times):.2f}")  # fmt: skip
        print(line)
    print(second_pull(enter(f"{directory}/0-0"), env, name))


def enter(place: str) -> list[str]:
    """In a mount namespace where /var/lib/dolium is the bench's own, on the file system that all contenders write to."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'mount --bind {place} /var/lib/dolium; exec "$@"', "-"]


def second_pull(enter: list[str], env: dict[str, str], name: str) -> str:
    host, _, rest = name.partition("/")
    code = (f"import http.client; c = http.client.HTTPConnection({host!r}); "
            f"c.request('HEAD', '/v2/{rest.partition(':')[0]}/manifests/x'); c.getresponse()")
    times, one, empty = [], [], []
    for _ in range(9):
        times.append(call(*enter, DOLIUM, "pull", "-q", name, env=env) * 1000)
        one.append(call(*enter, "/usr/bin/python3", "-IS", "-c", code, env=env) * 1000)
        empty.append(call(*enter, "/usr/bin/python3", "-IS", "-c", "pass", env=env) * 1000)
    return (f"second pull                  {statistics.median(times):.0f} ms (least {min(times):.0f}); Python with one request "
            f"{statistics.median(one):.0f} ms (least {min(one):.0f}), Python alone {statistics.median(empty):.0f} ms")


if __name__ == "__main__":
    main()
