"""What a bench finds out, printed and kept for the README; and the rounds in which it is measured."""

import time
from collections.abc import Callable
from statistics import median

Work = Callable[[], None]
Samples = dict[str, list[float]]
CALLED, PODMAN, DOCKER = "subprocess.run of bubblewrap", "subprocess.run of podman", "docker-py"
TARGETS = {("start and finish", "floor"): 1.6, ("start and finish", "bubblewrap"): 0.8, ("dolium.run", CALLED): 0.8,
           ("Pool.run", CALLED): 0.4,
           ("dolium run", "runc"): 0.6, ("dolium run on the bridge", "podman run on its bridge"): 0.1}  # fmt: skip
"""Issue 2: helper path against the floor and bubblewrap, command against runc; issue 3: the bridge; issue 6: the pool."""
FRESH = "a fresh container, by `dolium.run`"
SHOWN = {("dolium.run", CALLED): FRESH, ("dolium.run", PODMAN): FRESH, ("dolium.run", DOCKER): FRESH,
         ("Pool.run", CALLED): "a fresh one out of a `Pool`",
         ("Pool.snippet", "python3 -c"): "Python in a fresh one, by `Pool.snippet`", ("dolium run", "runc"): "a container by `dolium run --rm`",
         ("dolium run on the bridge", "podman run on its bridge"): "`dolium run` on a bridge", ("dolium exec", "runc exec"): "`dolium exec`",
         ("dolium exec", "podman exec"): "`dolium exec`"}  # fmt: skip
"""What the first page shows, in its words."""
OF_PYTHON = ("dolium.run", "Pool.run", "Sandbox.run", "Python.run", "Pool.snippet")
"""Calls that give back what was printed, as subprocess.run does."""


class Report:
    """What has been found out: lines for people, rows for the README, and whether something of ours failed."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, ...]] = []
        self.notes: list[str] = []
        self.shown: list[tuple[str, ...]] = []
        self.failed = False

    def head(self, text: str) -> None:
        print(f"\n{text}")

    def note(self, text: str) -> None:
        print(f"  ({text})")
        self.notes.append(text)

    def failure(self, text: str) -> None:
        self.failed = True
        print(f"  FAILED: {text}")

    def line(self, title: str, name: str, times: list[float], against: str) -> None:
        half, most, least = (f"{each * 1000:.2f}" for each in (median(times), percentile(times, 99), min(times)))
        print(f"  {name:<28} {half:>8} ms {most:>8} ms {least:>8} ms   {against}")
        self.rows.append((f"{title}: {name}", half, most, least, against))

    def beside(self, name: str, peer: str, samples: Samples) -> tuple[str, str, str, str]:
        mine, theirs = samples[name], samples[peer]
        return SHOWN[name, peer], f"{median(mine) * 1000:.1f} ms", f"{peer} {median(theirs) * 1000:.1f} ms", f"{ratio_of(mine, theirs):.2f}"

    def table(self, title: str, samples: Samples, peers: tuple[str, ...]) -> None:
        """Median, 99th percentile and minimum of each, and the ratio to each of the peers, with its target where there is one."""
        self.head(f"{title} ({min(map(len, samples.values()))} rounds)")
        print(f"  {'':<28} {'p50':>11} {'p99':>11} {'minimum':>11}   median ratio")
        for name, times in samples.items():
            self.shown += [self.beside(name, peer, samples) for peer in samples if (name, peer) in SHOWN]
            against = []
            for peer in peers:
                if peer in samples and peer != name and name not in peers and (peer != CALLED or name in OF_PYTHON):
                    ratio = ratio_of(times, samples[peer])
                    target = TARGETS.get((name, peer))
                    verdict = f" (target {target}, {'ok' if ratio <= target else 'NO'})" if target else ""
                    least = min(times) / min(samples[peer])
                    against.append(f"{ratio:.2f} x {peer}, least {least:.2f}{verdict}")
            self.line(title, name, times, "; ".join(against))


def ratio_of(mine: list[float], theirs: list[float]) -> float:
    """The median of the rounds' ratios."""
    return median(one / other for one, other in zip(mine, theirs, strict=True))


def percentile(times: list[float], part: int) -> float:
    """The time that so many of a hundred are not above; of few, the greatest."""
    return sorted(times)[min(len(times) * part // 100, len(times) - 1)]


def rounds(contenders: dict[str, Work], count: int) -> Samples:
    """Seconds of each contender in each round.  The order turns, so that none always follows the same one."""
    names, samples = list(contenders), {name: [0.0] * count for name in contenders}
    for name in names:
        contenders[name]()
    for turn in range(count):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            began = time.perf_counter()
            contenders[name]()
            samples[name][turn] = time.perf_counter() - began
    return samples
