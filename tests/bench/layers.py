"""`dolium run` of an image of one layer, and of one with a hundred: `python tests/bench/layers.py [ahead] [ROUNDS]`.

Milliseconds of `dolium run --rm --network none IMAGE true`, one after the other in each round, and milliseconds of processors; medians
and least.  `ahead`: before whatever else the machine does (SCHED_FIFO).  The target (issue 7) is 1.2 times one layer.  Needs root.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [TESTS, f"{os.path.dirname(TESTS)}/src"]

from archives import DIRECTORY, archive, entry
from layouts import Made, write_layout
from machine import Machine

STATIC = "/bin/busybox"


def main() -> None:
    rounds = next((int(each) for each in sys.argv[1:] if each.isdigit()), 50)
    with open(STATIC, "rb") as file:
        base = archive(entry("bin", DIRECTORY), entry("bin/true", data=file.read(), mode=0o755))
    more = [archive(entry(f"file-{at}", data=b"x" * 100)) for at in range(99)]
    made = {"1 layer": Made([base], {"Env": ["PATH=/bin"]}), "100 layers": Made([base, *more], {"Env": ["PATH=/bin"]})}
    names = {each: f"docker.io/library/x{at}:1" for at, each in enumerate(made)}
    machine = Machine()
    try:
        with tempfile.TemporaryDirectory() as folder:
            layout = write_layout(f"{folder}/layout", {names[each]: one for each, one in made.items()})
            assert machine("load", "-i", layout).code == 0
        if "ahead" in sys.argv:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(5))
        taken: dict[str, list[tuple[float, float]]] = {each: [] for each in made}
        for at in range(rounds + 1):  # the first unpacks
            for each, name in names.items():
                found = once([*machine.command, "run", "--rm", "--network", "none", name, "true"])
                if at:
                    taken[each].append(found)
    finally:
        machine.close()
    for kind, what in enumerate(("ms", "ms of processors")):
        one, hundred = ([each[kind] for each in found] for found in taken.values())
        print(f"1 layer {statistics.median(one):.1f} {what} (least {min(one):.1f}), 100 layers {statistics.median(hundred):.1f} "
              f"(least {min(hundred):.1f}): {statistics.median(hundred) / statistics.median(one):.2f} x, "
              f"least {min(hundred) / min(one):.2f} x")  # fmt: skip


def once(argv: list[str]) -> tuple[float, float]:
    """Milliseconds by the clock, and of processors."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(argv, check=True)
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return took * 1000, (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


if __name__ == "__main__":
    main()
