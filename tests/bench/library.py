"""The library beside what else runs a program in a container from Python."""

import os
import resource
import time
from concurrent.futures import ThreadPoolExecutor
from statistics import median

import peers
from peers import CPUS, MEMORY
from report import CALLED, DOCKER, PODMAN, Report, Work, rounds

import dolium
from dolium.runtime import host


def must(result: dolium.Result) -> None:
    """It is to have succeeded.  Raises RuntimeError."""
    if result.exit_code:
        raise RuntimeError(repr(result))


def fresh(rootfs: str) -> None:
    """One program in a container of its own."""
    must(dolium.run(["true"], image=rootfs, memory=MEMORY, cpus=CPUS))


def same_job(rootfs: str, scratch: str, count: int, report: Report) -> None:
    """A fresh container without a network, and what it printed, as a program in Python gets it from Podman and from Docker; with
    bubblewrap that is in the first table."""
    contenders: dict[str, Work] = {"dolium.run": lambda: fresh(rootfs)}
    argv, note = peers.podman_quiet(rootfs)
    if argv:
        contenders[PODMAN] = lambda: peers.call(argv)
    else:
        report.note(note)
    work, note = peers.docker_py(rootfs, scratch)
    if work:
        contenders[DOCKER] = work
    else:
        report.note(note)
    if len(contenders) > 1:
        report.table("The same job from Python", rounds(contenders, count), (PODMAN, DOCKER))


def kept_box(rootfs: str, count: int, report: Report) -> None:
    """A program in a container of a pool, and one more in a Sandbox, beside a fresh bubblewrap for each."""
    with (dolium.Sandbox(image=rootfs, memory=MEMORY, cpus=CPUS) as box, dolium.Sandbox() as own, own.python() as python,
          dolium.Pool(size=8, image=rootfs, memory=MEMORY, cpus=CPUS) as pool,
          dolium.Pool(size=4, preload=["decimal"]) as snippets):  # fmt: skip
        contenders: dict[str, Work] = {
            "Pool.run": lambda: must(pool.run(["true"])),
            "Sandbox.run": lambda: must(box.run(["true"])),
            "Python.run": lambda: _same(python.run("1 + 1")),
            "Pool.snippet": lambda: _same(snippets.snippet("1 + 1")),
            "python3 -c": lambda: peers.call(["/usr/bin/python3", "-c", "import decimal; print(1 + 1)"]),
        }
        if peer := peers.bubblewrap("--bind", rootfs, "/"):
            contenders[CALLED] = lambda: peers.call(peer)
        samples = rounds(contenders, count)
    report.table("In a container that is there", samples, (CALLED,))
    quick = median(samples["Pool.snippet"]) * 1000
    print(f"  Pool.snippet: target 6 ms, {'ok' if quick <= 6 else 'NO'}; python3 -c, with no container, is beside it")


def threads(rootfs: str, count: int, report: Report) -> None:
    """Fresh runs by 16 threads beside those by one."""

    def crowd_of(threads: int) -> Work:
        def work() -> None:
            with ThreadPoolExecutor(threads) as pool:
                [*pool.map(lambda _: fresh(rootfs), range(64))]

        return work

    both = rounds({"one thread": crowd_of(1), "16 threads": crowd_of(16)}, count)
    ratio = median(one / many for one, many in zip(both["one thread"], both["16 threads"], strict=True))
    report.head("64 runs by threads")
    report.line("64 runs", "one thread", both["one thread"], "")
    report.line("64 runs", "16 threads", both["16 threads"], f"{ratio:.2f} x as many (target 1.4, {'ok' if ratio >= 1.4 else 'NO'})")


def _same(found: dolium.Snippet) -> None:
    if found.value != "2":
        raise RuntimeError(repr(found))


RUNS = 1000


def flat(rootfs: str, report: Report) -> None:
    """Descriptors, memory and mounts of this process before and after 1,000 runs, groups and processes of the host, and their time."""
    times = []
    fresh(rootfs)
    before = held()
    for _ in range(RUNS):
        began = time.perf_counter()
        fresh(rootfs)
        times.append(time.perf_counter() - began)
    after = held()
    part = RUNS // 10
    report.head(f"{RUNS:,} runs")
    first, last = median(times[:part]), median(times[-part:])
    grown = "; ".join(f"{name} {before[name]} -> {after[name]}" for name in before)
    report.line(f"{RUNS:,} runs", "dolium.run", times, f"the last {part} {last / first:.2f} x the first; {grown}")


def held() -> dict[str, int]:
    """What this process has, and what there is of containers on this host, which nobody else should use meanwhile."""
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * resource.getpagesize() >> 10
    with open("/proc/self/mountinfo") as file:
        mounts = len(file.readlines())
    with open(f"/proc/self/task/{os.getpid()}/children") as file:
        children = len(file.read().split())
    return {"descriptors": len(os.listdir("/proc/self/fd")), "resident KiB": resident, "mounts": mounts,
            "groups": sum(len(os.listdir(each.parent)) for each in host.facts().controllers.values() if os.path.isdir(each.parent)),
            "children": children}  # fmt: skip
