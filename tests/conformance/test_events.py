"""`events`: what a container uses, and when it has run out of memory, as lines of JSON."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from bundles import Bundle, config, script, wait_for
from containers import SLOW

EATS = "while ! test -e /eat; do sleep 0.05; done; (x=a; while :; do x=$x$x; done); while ! test -e /end; do sleep 0.05; done"


@contextmanager
def events(bundle: Bundle, *words: str) -> Iterator[subprocess.Popen[str]]:
    argv = [bundle.runtime, "--root", bundle.root, "events", *words, bundle.id]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=bundle.environment, cwd="/") as process:
        try:
            yield process
        finally:
            process.kill()


def touch(bundle: Bundle, name: str) -> None:
    with open(f"{bundle.rootfs}/{name}", "w"):
        pass


def test_stats(bundle: Bundle) -> None:
    """By the names that go-runc reads."""
    bundle.running(config(process__args=["sleep", "1000"], linux__resources={"memory": {"limit": 64 << 20}, "pids": {"limit": 50}}))
    found = json.loads(bundle.verb("events", "--stats", bundle.id).out)
    assert (found["type"], found["id"]) == ("stats", bundle.id)
    data = found["data"]
    assert set(data) == {"cpu", "cpuset", "memory", "pids", "blkio", "hugetlb", "intel_rdt", "network_interfaces"} and data["cpuset"]["cpus"][:1] in ([], [0])
    assert data["pids"] == {"current": 1, "limit": 50} and data["cpu"]["usage"]["total"] > 0
    memory = data["memory"]
    assert memory["usage"]["limit"] == 64 << 20 and 0 < memory["usage"]["usage"] <= memory["usage"]["max"]
    assert memory["swap"]["limit"] >= memory["usage"]["limit"] and memory["cache"] >= 0 and memory["raw"]


def test_an_end_for_want_of_memory_is_an_event(bundle: Bundle) -> None:
    """At once, whatever the interval; it ends with the container, also of one of its processes that is not the first."""
    bundle.running(script(EATS, linux__resources={"memory": {"limit": 20 << 20, "swap": 20 << 20}}))
    with events(bundle, "--interval=1h") as process:
        assert process.stdout
        assert json.loads(process.stdout.readline())["type"] == "stats"
        touch(bundle, "eat")
        assert json.loads(process.stdout.readline()) == {"type": "oom", "id": bundle.id}
        assert bundle.status() == "running"
        touch(bundle, "end")
        assert process.wait(20 * SLOW) == 0 and "stats" not in process.stdout.read()


def test_it_ends_when_nobody_reads(bundle: Bundle) -> None:
    bundle.running()
    with events(bundle, "--interval", "50ms") as process:
        assert process.stdout
        assert process.stdout.readline() and process.stdout.readline()
        process.stdout.close()
        assert process.wait(20 * SLOW) == 0
    assert bundle.status() == "running"


def test_one_that_is_being_deleted(bundle: Bundle) -> None:
    bundle.running()
    with events(bundle) as process:
        assert process.stdout and process.stdout.readline()
        assert bundle.verb("delete", "--force", bundle.id).code == 0
        wait_for(lambda: process.poll() is not None)
        assert process.returncode == 0 and process.stdout.read() == ""
    ended = bundle.verb("events", bundle.id)
    assert ended.code == 1 and ended.err == f"error: container does not exist: `{bundle.id}`\n"
