"""Parents that die, fork, and take other people's children's statuses: what is left is nothing, and descriptors stay as many."""

import concurrent.futures
import gc
import multiprocessing
import multiprocessing.resource_tracker
import os
import subprocess
import sys
from collections.abc import Callable

import leaks
import pytest
from containers import SLOW, SYSTEM_PYTHON, TOP, Dolium, wait_for

import dolium

CROWD = """
import sys, threading, time
sys.path.insert(0, SOURCE)
import dolium
def work(number):
    while True:
        if number % 2:
            dolium.run(["sleep", "0.2"])
        else:
            with dolium.Sandbox() as box:
                box.popen(["sleep", "600"])
                box.run(["sh", "-c", "sleep 600 & sleep 0.2"])
for number in range(50):
    threading.Thread(target=work, args=(number,), daemon=True).start()
print("go", flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("who", ["dolium", "plain"])
def test_fifty_at_once_and_their_parent_killed(request: pytest.FixtureRequest, who: str) -> None:
    """What is left besides is looked for by the check that watches every test here."""
    user: Dolium = request.getfixturevalue(who)
    code = CROWD.replace("SOURCE", repr(f"{TOP}/src"))
    with user.start(argv=[SYSTEM_PYTHON, "-c", code]) as process:
        assert process.stdout and process.stdout.readline() == b"go\n"
        wait_for(lambda: len(leaks.family()) > 50)
        process.kill()
    assert user("run", "@host", "true").code == 0  # the next command mends
    wait_for(lambda: not leaks.leases())


def once(number: int) -> int:
    with dolium.Sandbox() as box:
        return box.run(["sh", "-c", f"exit {number}"]).exit_code + dolium.run(["sh", "-c", f"exit {number}"]).exit_code


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method: str) -> None:
    once(1)  # the parent has containers, helpers and locks of its own
    with dolium.Sandbox() as box, concurrent.futures.ProcessPoolExecutor(4, multiprocessing.get_context(method)) as pool:
        assert [*pool.map(once, range(1, 9))] == [2 * number for number in range(1, 9)]
        assert box.run(["true"]).exit_code == 0
    gc.collect()  # its semaphores, which it unlinks by the tracker
    multiprocessing.resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]  # else it stays, with a pipe


def test_a_forked_child_holds_no_lease_of_its_parents(dolium: Dolium) -> None:
    """The parent is killed, the child lives on: what is left of the parent's container is mended all the same."""
    code = (f"import sys; sys.path.insert(0, {TOP + '/src'!r}); import dolium, os, time; box = dolium.Sandbox(); child = os.fork()\n"
            "if not child: time.sleep(600)\nprint(child, flush=True); os.kill(os.getpid(), 9)")  # fmt: skip
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        child = int(process.stdout.readline())
        process.wait()
        wait_for(lambda: [dolium("run", "@host", "true"), not leaks.leases()][1])
        os.kill(child, 0)
        os.kill(child, 9)


@pytest.mark.parametrize("before", ["import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)", """
import threading
def reap():
    while True:
        try: os.waitpid(-1, 0)
        except ChildProcessError: time.sleep(0.0005)
threading.Thread(target=reap, daemon=True).start()"""])
def test_a_parent_that_has_no_statuses(before: str) -> None:
    code = (f"import os, sys, time; sys.path.insert(0, {TOP + '/src'!r}); import dolium\n{before}\nfor number in range(10):\n"
            "    assert dolium.run(['sh', '-c', f'exit {number}']).exit_code == number\n"
            "    with dolium.Sandbox() as box: assert box.run(['sh', '-c', f'exit {number}']).exit_code == number")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120 * SLOW)
    assert done.returncode == 0, done.stderr


MANY = """
import os, sys
sys.path.insert(0, SOURCE)
import dolium
def pair():
    dolium.run(["true"])
    with dolium.Sandbox() as box:
        box.run(["true"]); box.write("/tmp/a", "x"); box.popen(["true"])
        try: box.run(["no-such-program"])
        except dolium.StepError: pass
def held():
    with open("/proc/self/statm") as file: pages = int(file.read().split()[1])
    return len(os.listdir("/proc/self/fd")), pages * 4
for _ in range(20): pair()
before = held()
for _ in range(150): pair()
print(*before, *held())
"""


@pytest.mark.parametrize("who", ["dolium", "plain"])
def test_three_hundred_containers_leave_descriptors_and_memory_as_they_were(request: pytest.FixtureRequest, who: str) -> None:
    user: Callable[..., object] = request.getfixturevalue(who)
    ended = user(argv=[SYSTEM_PYTHON, "-c", MANY.replace("SOURCE", repr(f"{TOP}/src"))], timeout=120)
    descriptors, kib, later, kib_later = map(int, ended.stdout.split())  # type: ignore[attr-defined]
    assert later == descriptors and kib_later < kib + 1024, ended
