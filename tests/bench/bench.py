"""How long Dolium takes, beside a C program that does the same work (floor.c) and beside the peers that are installed.

    python3 tests/bench/bench.py [--rootfs DIR] [--rounds N] [--check] [--write]

All of a table is measured in one run, in rounds that every contender takes part in, so that what else the machine does
falls on all of them; a ratio is the median of the rounds' ratios, and beside it that of the least times, which a busy
machine disturbs less.  Needs root.  Figures are printed, never asserted.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from statistics import median

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, f"{TOP}/src")

import library as of_library
import peers
import same
from installed import installed
from peers import CPUS, MEMORY
from report import CALLED, Report, Samples, Work, rounds

import dolium
from dolium.engine import containers
from dolium.errors import DoliumError
from dolium.runtime.launch import Running

CROWD = 200
LABEL = "dolium-bench"
GIB = 1 << 30

def start(image: str, *argv: str) -> Running:
    return containers.start(image, peers.options(*argv), None, (peers.NULL,) * 3)[0]


def library(image: str) -> Work:
    """The helper path, without the pipes and the poll loop of dolium.run."""

    def work() -> None:
        code = start(image, "true").finish().exit_code
        if code:
            raise RuntimeError(f"true in {image}: exit code {code}")

    return work


def helper_path(rootfs: str, floor: peers.Floor, count: int, report: Report) -> None:
    contenders: dict[str, Work] = {
        "start and finish": library(rootfs),
        "dolium.run": lambda: of_library.fresh(rootfs),
        "floor": floor.run,
    }
    if peer := peers.bubblewrap("--bind", rootfs, "/"):
        contenders["bubblewrap"] = lambda: peers.spawn(peer)
        contenders[CALLED] = lambda: peers.call(peer)
    else:
        report.note("bubblewrap is not installed")
    report.table("From a running Python", rounds(contenders, count), ("floor", "bubblewrap", CALLED))


def command(program: str, rootfs: str, scratch: str, count: int, report: Report) -> None:
    """With --rm, for `runc run` forgets its container, too; and kept, which is two files that the disk must have."""
    words = ["--network", "none", rootfs, "true"]
    contenders: dict[str, Work] = {
        "dolium run": lambda: peers.spawn([program, "run", "--rm", *words]),
        "dolium run, kept": lambda: peers.spawn([program, "run", "--label", LABEL, *words]),
    }
    for name in ("runc", "crun"):
        argv_of_peer, note = peers.runtime(name, rootfs, scratch)
        if note:
            report.note(note)
        if argv_of_peer:
            contenders[name] = partial(peers.spawn, argv_of_peer)
    try:
        report.table("From the command line", rounds(contenders, count), ("runc", "crun"))
    finally:
        kept = subprocess.run([program, "ps", "-aq", "--filter", f"label={LABEL}"], stdout=subprocess.PIPE, text=True, check=True)
        peers.spawn([program, "rm", "--force", *kept.stdout.split()])


@contextmanager
def network() -> Iterator[list[str]]:
    """The words that put a command into a network namespace of the bench's own, while it lasts."""
    with subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec sleep infinity"], stdout=subprocess.PIPE) as holder:
        assert holder.stdout
        holder.stdout.readline()
        try:
            yield [shutil.which("nsenter") or "", f"--net=/proc/{holder.pid}/ns/net"]
        finally:
            holder.kill()


def bridge(program: str, rootfs: str, count: int, report: Report) -> None:
    """With an address on a bridge; docker is not here: it would be its daemon that is measured, in a network of its own."""
    with network() as inside:
        dolium_run = [*inside, program, "run", "--rm", "--network"]
        contenders: dict[str, Work] = {"dolium run on the bridge": lambda: peers.spawn([*dolium_run, "bridge", rootfs, "true"]),
                                       "dolium run without": lambda: peers.spawn([*dolium_run, "none", rootfs, "true"])}  # fmt: skip
        argv, note = peers.podman(rootfs, inside)
        if note:
            report.note(note)
        if argv:
            contenders["podman run on its bridge"] = lambda: peers.spawn(argv)
        report.table("With a network", rounds(contenders, count), ("dolium run without", "podman run on its bridge"))


def another(program: str, rootfs: str, scratch: str, count: int, report: Report) -> None:
    """One more program in a container that runs."""
    run = [program, "run", "-d", "--rm", "--network", "none", rootfs, "sleep", "1000"]
    identity = subprocess.run(run, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout.strip()
    argv = [program, "exec", identity, "true"]
    contenders: dict[str, Work] = {"dolium exec": lambda: peers.spawn(argv)}
    others = {"runc exec": peers.asleep("runc", rootfs, scratch), "crun exec": peers.asleep("crun", rootfs, scratch),
              "podman exec": peers.podman_asleep(rootfs)}  # fmt: skip
    try:
        with ExitStack() as stack:
            for name, each in others.items():
                argv_of_peer, note = stack.enter_context(each)
                if note:
                    report.note(note)
                if argv_of_peer:
                    contenders[name] = partial(peers.spawn, argv_of_peer)
            report.table("In a container that runs", rounds(contenders, count), tuple(others))
    finally:
        subprocess.run([program, "rm", "-f", identity], stdin=subprocess.DEVNULL, capture_output=True, check=False)


def own_programs(count: int, report: Report) -> None:
    contenders = {"@host, start and finish": library("@host")}
    if peer := peers.bubblewrap(*peers.host_binds()):
        contenders["bubblewrap"] = lambda: peers.spawn(peer)
    report.table("With the host's own /usr", rounds(contenders, count), ("bubblewrap",))


def smallest(rootfs: str, report: Report) -> None:
    """The least power of two of KiB under which `true` runs."""

    def works(kib: int) -> bool:
        try:
            return dolium.run(["true"], image=rootfs, memory=kib << 10).exit_code == 0
        except DoliumError:
            return False

    least = next((kib for kib in (1 << power for power in range(4, 15)) if works(kib)), 0)
    verdict = "ok" if works(512) else "NO"
    report.head("Memory")
    print(f"  true under --memory 512k: {verdict}; the least that works: {least} KiB")
    report.rows.append(("`true` under `--memory 512k`", verdict, "", "", f"least that works: {least} KiB"))


class Sampler:
    """Another Python, holding so many bytes, that measures the helper path whenever it is told to."""

    def __init__(self, rootfs: str, hold: int) -> None:
        argv = [sys.executable, os.path.abspath(__file__), "--rootfs", rootfs, "--sample", str(hold)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask()

    def ask(self) -> float:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()


def sample(rootfs: str, hold: int) -> None:
    held = bytearray(b"\1") * hold  # written to, so resident
    work = library(rootfs)
    work()
    for _ in sys.stdin:
        began = time.perf_counter()
        work()
        print(time.perf_counter() - began, flush=True)
    del held


def caller_memory(rootfs: str, count: int, report: Report) -> None:
    title = "With a large caller"
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable"))
    if free < 4 * GIB:
        report.head(title)
        report.note(f"not measured: {free / GIB:.1f} GiB are free, 4 GiB are needed")
        return
    samplers = {"small caller": Sampler(rootfs, 0), "caller of 2 GiB": Sampler(rootfs, 2 * GIB)}
    try:
        samples: Samples = {name: [] for name in samplers}
        for _ in range(count):
            for name, each in samplers.items():
                samples[name].append(each.ask())
    finally:
        for each in samplers.values():
            each.close()
    report.table(title, samples, ("small caller",))


@contextmanager
def crowd(rootfs: str) -> Iterator[None]:
    """So many containers, asleep, while it lasts."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    sleeping: list[Running] = []
    try:
        for _ in range(CROWD):
            sleeping.append(start(rootfs, "sleep", "1000"))
        yield
    finally:
        for each in sleeping:
            each.abandon()


def neighbours(rootfs: str, floor: peers.Floor, count: int, report: Report) -> None:
    """Alone, beside the crowd, and alone again, so that the machine's own change meanwhile falls on both sides."""
    contenders = {"start and finish": library(rootfs), "floor": floor.run}
    before = rounds(contenders, count)
    with crowd(rootfs):
        beside = rounds(contenders, count)
    after = rounds(contenders, count)
    title = f"Beside {CROWD} containers"
    report.head(f"{title} ({count} rounds)")
    for name in contenders:
        ratio = median(beside[name]) / median(before[name] + after[name])
        report.line(title, name + ", alone", before[name] + after[name], "")
        report.line(title, name + ", beside them", beside[name], f"{ratio:.2f} x alone")


def check(rootfs: str, floor: peers.Floor, report: Report) -> None:
    """Fails where a program sees something else in floor's container than in Dolium's."""
    report.head("What a program sees in Dolium's container and in floor's")
    ours = dolium.run(["sh", "-c", same.SEEN], image=rootfs, memory=MEMORY, cpus=CPUS, text=True)
    with open("/dev/null") as empty:
        argv = [*floor.argv, "sh", "-c", same.SEEN]
        theirs = subprocess.run(argv, stdin=empty, capture_output=True, text=True, check=False)
    if ours.exit_code or theirs.returncode:
        report.failure(f"exit codes {ours.exit_code} and {theirs.returncode}: {ours.stderr}{theirs.stderr}")
        return
    differing = same.differences(ours.stdout, theirs.stdout)
    for line in differing:
        report.failure(line)
    print(f"  {len(ours.stdout.splitlines())} lines, {len(differing)} differ")


def write(report: Report) -> None:
    """Put all figures where README.md beside this has the markers for them, and what people compare into the top one."""
    with open("/proc/cpuinfo") as file:
        models = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    cpu = models[0] if models else os.uname().machine
    when = f"{time.strftime('%Y-%m-%d')}, Linux {os.uname().release.partition('-')[0]}, {os.cpu_count()} CPUs, {cpu}; by `make bench`."
    notes = ["", *(f"- {each}" for each in dict.fromkeys(report.notes))] if report.notes else []
    _between_markers(f"{TOP}/README.md", [f"Medians, {when} [All figures](tests/bench/README.md).", "", "| start, run `true`, end | Dolium | beside it | of that |",
                                          "|---|---:|---:|---:|", *_lines(report.shown)])  # fmt: skip
    _between_markers(f"{TOP}/tests/bench/README.md", [when, "", "| | p50 ms | p99 ms | least ms | |", "|---|---:|---:|---:|---|",
                                                      *_lines(report.rows), *notes])  # fmt: skip


def _lines(rows: list[tuple[str, ...]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in rows]


def _between_markers(path: str, lines: list[str]) -> None:
    with open(path) as file:
        text = file.read()
    first, begin, rest = text.partition("<!-- bench -->\n")
    _, end, last = rest.partition("<!-- /bench -->")
    if not end:
        raise RuntimeError(f"{path} has no <!-- bench --> and <!-- /bench -->")
    with open(path, "w") as file:
        file.write("\n".join([first + begin + lines[0], *lines[1:], end + last]))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rootfs", default=os.environ.get("ROOTFS"), help="a directory or a tarball with `true` and `sleep` in it")
    parser.add_argument("--rounds", type=int, default=100, help="of each table, the slow ones have fewer (default 100)")
    parser.add_argument("--check", action="store_true", help="compare what floor.c and Dolium make, measure nothing")
    parser.add_argument("--write", action="store_true", help="put the figures between the markers in README.md")
    parser.add_argument("--sample", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if os.geteuid():
        print("bench: not run: needs root, for without it there are no limits to set")
        return 1
    if given.sample is not None:
        sample(given.rootfs, given.sample)
        return 0
    report = Report()
    with tempfile.TemporaryDirectory(prefix="dolium-bench-") as scratch:
        rootfs = peers.rootfs(given.rootfs, scratch)
        floor = peers.Floor(rootfs, scratch)
        program = installed(f"{scratch}/prefix") + "/dolium"
        parts: list[Work] = [
            lambda: helper_path(rootfs, floor, given.rounds, report),
            lambda: command(program, rootfs, scratch, max(given.rounds // 3, 1), report),
            lambda: another(program, rootfs, scratch, max(given.rounds // 3, 1), report),
            lambda: bridge(program, rootfs, max(given.rounds // 3, 1), report),
            lambda: of_library.same_job(rootfs, scratch, max(given.rounds // 3, 1), report),
            lambda: of_library.kept_box(rootfs, given.rounds, report),
            lambda: of_library.threads(rootfs, max(given.rounds // 20, 1), report),
            lambda: of_library.flat(rootfs, report),
            lambda: own_programs(max(given.rounds // 2, 1), report),
            lambda: smallest(rootfs, report),
            lambda: caller_memory(rootfs, given.rounds, report),
            lambda: neighbours(rootfs, floor, max(given.rounds // 2, 1), report),
        ]
        try:
            for part in parts if not given.check else [lambda: check(rootfs, floor, report)]:
                try:
                    part()
                except (DoliumError, OSError, RuntimeError) as problem:
                    report.failure(str(problem))
        finally:
            floor.close()
    if given.write:
        write(report)
    return int(report.failed)


if __name__ == "__main__":
    sys.exit(main())
