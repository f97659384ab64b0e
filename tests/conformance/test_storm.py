"""Many callers of the same few ids at once, at random: each answer is one that some order of the calls allows, and nothing is left."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from bundles import Bundle, scratch, script
from containers import SLOW

pytestmark = pytest.mark.needs_root
CALLERS, CALLS = 6, 80
GONE = "container does not exist: `ID`"
STATUS = "(?:created|running|paused|stopped|creating)"
VERBS: dict[str, tuple[tuple[str, ...], int, tuple[str, ...]]] = {
    "create": (("create", "-b", "BUNDLE", "ID"), 5, ("container `ID` exists already",)),
    "start": (("start", "ID"), 5, (GONE, f"container `ID` is {STATUS}, not created", "container `ID` is started already, or dead, not created")),
    "state": (("state", "ID"), 3, (GONE,)),
    "kill": (("kill", "ID", "KILL"), 2, (GONE, f"container not running: `ID` is {STATUS}")),
    "kill 0": (("kill", "ID", "0"), 1, (GONE, f"container not running: `ID` is {STATUS}")),
    "exec": (("exec", "ID", "true"), 3, (GONE, f"container `ID` is {STATUS}, not running", r"the process was killed while it was set up \(wait status 9\)")),
    "pause": (("pause", "ID"), 1, (GONE, f"container `ID` is {STATUS}, not running")),
    "resume": (("resume", "ID"), 2, (GONE, f"container `ID` is {STATUS}, not paused")),
    "update": (("update", "--pids-limit", "40", "ID"), 1, (GONE, f"container `ID` is {STATUS}, not running")),
    "delete": (("delete", "ID"), 2, (GONE, f"container `ID` is {STATUS}, not stopped")),
    "delete --force": (("delete", "--force", "ID"), 3, ()),
    "list": (("list", "--format", "json"), 1, ()),
    "ps": (("ps", "--format", "json", "ID"), 1, (GONE, f"container `ID` is {STATUS}, not running")),
}
"""Each with how often it is called, and what it may say instead of doing it."""


@pytest.fixture
def bundles(alpine: str) -> Iterator[list[Bundle]]:
    """Three in one state directory; of the first one each start and each end is written down."""
    top = scratch()
    found = []
    for name in ("a", "b", "c"):
        os.mkdir(f"{top}/{name}")
        found.append(Bundle(f"{top}/{name}", alpine, f"{top}/state"))
        found[-1].id = f"{os.path.basename(top)}-{name}"
        found[-1].write(script("echo >>/ran; exec sleep 1000", linux__resources={"pids": {"limit": 50}}))
    found[0].write(script("echo >>/ran; exec sleep 1000", hooks={"poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"echo >>{top}/ended"]}]}))
    os.mkdir(f"{top}/state")
    yield found
    for each in found:
        each.close()
    shutil.rmtree(top)


def lines(path: str) -> int:
    if not os.path.exists(path):
        return 0
    with open(path) as file:
        return len(file.readlines())


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_storm(bundles: list[Bundle], seed: int) -> None:
    root = bundles[0].root
    wrong: list[object] = []
    over = threading.Event()
    seen: Counter[tuple[str, str, str]] = Counter()

    def call(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        for _ in range(CALLS):
            name = chance.choices([*VERBS], [each[1] for each in VERBS.values()])[0]
            bundle, (words, _, refusals) = chance.choice(bundles), VERBS[name]
            said = f"{bundle.directory}/said-{number}"  # a container keeps its maker's stderr
            with open(said, "w") as err:
                argv = [{"BUNDLE": bundle.directory, "ID": bundle.id}.get(word, word) for word in words]
                done = subprocess.run([bundle.runtime, "--root", root, *argv], stdin=subprocess.DEVNULL, stderr=err, timeout=60 * SLOW, text=True,
                                      stdout=subprocess.PIPE if name in ("state", "list", "ps") else subprocess.DEVNULL, env=bundle.environment)  # fmt: skip
            text = bundle.read(os.path.basename(said)).replace(bundle.id, "ID").removeprefix("error: ")
            seen[bundle.id, name, text.strip()] += 1
            if done.stdout:
                json.loads(done.stdout)
            codes = (0,) if not text else (255,) if name == "exec" else (1,)
            if name == "exec" and not text:
                codes = (0, 128 + signal.SIGKILL)  # it was killed with the container
            if done.returncode not in codes or (text and not any(re.fullmatch(each + "\n", text) for each in refusals)):
                wrong.append((name, done.returncode, text))

    def look() -> None:
        """A state that is there can be read."""
        while not over.wait(0.001):
            for bundle in bundles:
                try:
                    with open(f"{root}/{bundle.id}/state.json") as file:
                        text = file.read()
                except FileNotFoundError:
                    continue
                try:
                    json.loads(text)
                except ValueError:
                    wrong.append(text)

    with ThreadPoolExecutor(CALLERS + 1) as pool:
        looking, *calling = pool.submit(look), *(pool.submit(call, number) for number in range(CALLERS))
        try:
            for each in calling:
                each.result()
        finally:
            over.set()
        looking.result()
    for key, count in sorted(seen.items()):
        print(count, key)
    assert not wrong, "\n".join(map(str, wrong))
    for bundle in bundles:
        bundle.close()
    assert os.listdir(root) == []
    counted = {name: seen[bundles[0].id, name, ""] for name in VERBS}
    assert counted["create"] == lines(f"{os.path.dirname(root)}/ended"), "each one that was created has been removed, once"
    assert lines(f"{bundles[0].rootfs}/ran") <= counted["start"] <= counted["create"], counted
    assert {"create", "start", "state", "exec", "delete --force"} <= {name for _, name, said in seen if not said}, seen
