"""Images fetched and unpacked, beside podman, and skopeo with umoci: `python tests/bench/pulling.py [ROUNDS] [LAYERS]`.

An image of 300 MB and 20,000 files (which compress about as programs do), in a docker-registry on loopback.  Each round has every
contender fetch and unpack it once, into an empty store.  Medians in seconds, what ours is of the others, the memory of its largest
process (RSS), and what a second `pull` of the unchanged image takes beside one request.  Needs root.
"""

from __future__ import annotations

import os
import random
import shutil
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
NULL = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def image(layers: int) -> Made:
    """Files of which a third can be compressed away, in directories of a hundred."""
    source = random.Random(7)
    common = source.randbytes(1 << 16)
    made = []
    for number in range(layers):
        entries = []
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
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    layers = int(sys.argv[2]) if len(sys.argv) > 2 else 4
    missing = [each for each in ("docker-registry", "skopeo") if not program(each)]
    if missing:
        sys.exit(f"needs {', '.join(missing)}: make/setup.sh test, as root")
    with tempfile.TemporaryDirectory(prefix="dolium-bench-", dir="/var/tmp") as directory:
        layout = write_layout(f"{directory}/layout", {"x": image(layers)})
        os.mkdir(f"{directory}/registry")
        server = Debian(f"{directory}/registry")
        try:
            name = f"{server.name}/bench:x"
            subprocess.run(["skopeo", "copy", "--dest-tls-verify=false", f"oci:{layout}:x", f"docker://{name}"], check=True, **NULL)  # type: ignore[call-overload]
            measure(directory, name, rounds)
        finally:
            server.close()


def measure(directory: str, name: str, rounds: int) -> None:
    ours, theirs = f"{directory}/dolium", f"{directory}/podman"
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": directory}
    # In a mount namespace where /var/lib/dolium is the bench's own, on the file system that all contenders write to.
    enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", f'mount --bind {ours} /var/lib/dolium; exec "$@"', "-"]

    largest = 0

    def dolium() -> None:
        nonlocal largest
        # By way of a small process: what it was forked from counts as its own memory, wait4(2).
        code = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL); "
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)")  # fmt: skip
        command = [*enter, "/usr/bin/python3", "-IS", "-c", code, DOLIUM, "pull", "-q", name]
        largest = max(largest, int(subprocess.run(command, check=True, env=env, capture_output=True, text=True).stdout))

    def podman() -> None:
        subprocess.run(["podman", "--root", theirs, "--runroot", f"{directory}/run", "--storage-driver", "overlay", "pull", "-q",
                        "--tls-verify=false", name], check=True, env=env, **NULL)  # type: ignore[call-overload]  # fmt: skip

    def umoci() -> None:
        subprocess.run(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", f"oci:{directory}/copied:x"], check=True, **NULL)  # type: ignore[call-overload]
        subprocess.run(["umoci", "unpack", "--image", f"{directory}/copied:x", f"{directory}/bundle"], check=True, **NULL)  # type: ignore[call-overload]

    contenders: dict[str, Callable[[], None]] = {"dolium pull": dolium}
    if shutil.which("podman"):
        contenders["podman pull"] = podman
    if shutil.which("umoci"):
        contenders["skopeo copy + umoci unpack"] = umoci
    taken: dict[str, list[float]] = {each: [] for each in contenders}
    for _ in range(rounds):
        for each, work in contenders.items():
            for path in (ours, theirs, f"{directory}/copied", f"{directory}/bundle"):
                shutil.rmtree(path, ignore_errors=True)
            os.mkdir(ours, 0o700)
            os.sync()
            began = time.perf_counter()
            work()
            taken[each].append(time.perf_counter() - began)
            if each == "dolium pull":
                again = second_pull(enter, env, name)
    ours_median = statistics.median(taken["dolium pull"])
    for each, times in taken.items():
        median = statistics.median(times)
        print(f"{each:<28} {median:6.2f} s  (least {min(times):.2f})" + (f"  ours is {ours_median / median:.2f} of it" if times is not taken["dolium pull"] else ""))
    print(f"largest process of ours      {largest} MiB")
    print(again)


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
