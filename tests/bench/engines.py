"""`true` in a container of its own, and in one that sleeps, by Podman, Docker and containerd's ctr, with each runtime below:
`python tests/bench/engines.py [ROUNDS]`.

All is done in a machine of namespaces (tests/clients/lab.py), which shows cgroup v1 alone, because crun refuses a host with both.
Each round calls every engine with every runtime once, in turn.  No network: that is the engine's own work and the same for all."""

from __future__ import annotations

import os
import statistics
import sys

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, f"{TESTS}/clients", f"{os.path.dirname(TESTS)}/src"]

import test_containerd
import test_docker
import test_podman
from conftest import ALPINE
from containers import wait_for
from lab import HERE, Lab
from pages import files

RUNTIMES = {"dolium-oci": "/usr/local/bin/dolium-oci", "runc": "/usr/sbin/runc", "crun": "/usr/bin/crun"}
SLEEPERS = (
    "podman --runtime {path} run -d --network none --name s-{name} localhost/alpine sleep 100000",
    "docker run -d --network none --runtime {name} --name s-{name} alpine sleep 100000",
    f"ctr run -d --runc-binary {{path}} {test_containerd.IMAGE} s-{{name}} sleep 100000",
)
ROWS = {
    "podman run --rm": "podman --runtime {path} run --rm --network none localhost/alpine true",
    "docker run --rm": "docker run --rm --network none --runtime {name} alpine true",
    "ctr run --rm": f"ctr run --rm --runc-binary {{path}} {test_containerd.IMAGE} b1 true",
    "podman exec": "podman exec s-{name} true",
    "docker exec": "docker exec s-{name} true",
    "ctr task exec": "ctr task exec --exec-id e1 s-{name} true",
}
CLOCK = 'began=$(date +%s%N); {line} || exit 1; echo $((($(date +%s%N) - began) / 1000))'
FIFTY = "for i in $(seq 50); do podman --runtime {path} run --rm --network none localhost/alpine true & done; wait"
TEN = "for i in $(seq 10); do podman --runtime {path} run -d --network none localhost/alpine sleep 1000 >/dev/null; done"
GROUP = "libpod_parent/libpod-*"
PSS = (f"for each in $(pgrep -x conmon) $(cat /sys/fs/cgroup/pids/{GROUP}/cgroup.procs); do cat /proc/$each/smaps_rollup; done | "
       "awk '/^Pss:/ {sum += $2} END {print sum}'")  # fmt: skip
CHARGED = f"cat /sys/fs/cgroup/memory/{GROUP}/memory.usage_in_bytes | awk '{{sum += $1}} END {{print sum / 1024}}'"
"""KiB: of the processes that are there because of the containers, and what the kernel counts as theirs."""


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    lab = Lab()
    try:
        lab.sh("umount /sys/fs/cgroup/unified && rmdir /sys/fs/cgroup/unified")
        lab.install()
        daemon = files("docker.md")["/etc/docker/daemon.json"].replace('"runtimes": {', '"runtimes": {"dolium-oci": {"path": "/usr/local/bin/dolium-oci"}, "crun": {"path": "/usr/bin/crun"}, ')
        lab.write({**test_podman.HERE, **files("podman.md"), **files("containerd.md"), "/etc/docker/daemon.json": daemon})
        daemons = [lab.start(line, f"{lab.directory}/{line.split()[0]}.log") for line in ("containerd", f"dockerd {test_docker.HERE}")]
        wait_for(lambda: lab.sh("docker version && ctr version").code == 0, 60)
        made = lab.sh(f"podman import {ALPINE} localhost/alpine && docker import {ALPINE} alpine &&"
                      f"python3 {HERE}/images.py {ALPINE} alpine:latest /tmp/a.tar && ctr image import /tmp/a.tar")  # fmt: skip
        assert made.code == 0, made
        measure(lab, rounds)
        for each in daemons:
            each.kill()
            each.wait()
    finally:
        lab.close()


def timed(lab: Lab, line: str) -> float:
    """Milliseconds."""
    ended = lab.sh(CLOCK.format(line=line), 300)
    assert ended.code == 0, ended
    return int(ended.stdout.split()[-1]) / 1000


def measure(lab: Lab, rounds: int) -> None:
    for line in SLEEPERS:
        for name, path in RUNTIMES.items():
            timed(lab, line.format(name=name, path=path))
    rows: dict[str, dict[str, list[float]]] = {row: {name: [] for name in RUNTIMES} for row in ROWS}
    for number in range(rounds + 1):
        for row, line in ROWS.items():
            for name in sorted(RUNTIMES, key=lambda each: hash((number, each))):
                took = timed(lab, line.format(name=name, path=RUNTIMES[name]))
                if number:  # the first warms up
                    rows[row][name].append(took)
    print(f"{'':24}" + "".join(f"{name:>14}" for name in RUNTIMES) + "   of runc   of crun")
    for row, found in rows.items():
        show(row, {name: statistics.median(times) for name, times in found.items()}, "ms")
    lab.sh("podman rm -a -f -t 0")
    fifty: dict[str, list[float]] = {name: [] for name in RUNTIMES}
    for _ in range(3):
        for name, path in RUNTIMES.items():
            fifty[name].append(timed(lab, FIFTY.format(path=path)))
    show("50 podman run at once", {name: statistics.median(times) for name, times in fifty.items()}, "ms")
    memory: dict[str, dict[str, float]] = {PSS: {}, CHARGED: {}}
    for name, path in RUNTIMES.items():
        lab.sh(TEN.format(path=path))
        for each, found in memory.items():
            found[name] = float(lab.sh(each).stdout) / 10
        lab.sh("podman rm -a -f -t 0")
    show("conmon and its program", memory[PSS], "KiB")
    show("charged to the container", memory[CHARGED], "KiB")


def show(row: str, found: dict[str, float], unit: str) -> None:
    print(f"{row:24}" + "".join(f"{value:11.0f} {unit:3}"[:15] for value in found.values())
          + "".join(f"{found['dolium-oci'] / found[other]:10.2f}" for other in ("runc", "crun")), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
