"""Programs that use the library in the way that programs do: callbacks that fail, forks in the middle, threads, cancellations, sudden ends."""

import asyncio
import concurrent.futures
import gc
import multiprocessing
import os
import random
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from containers import SLOW, SYSTEM_PYTHON, TOP

import dolium
from dolium import aio


class Boom(Exception):
    """A callback's."""


@pytest.mark.parametrize("stream", ["on_stdout", "on_stderr"])
def test_a_callback_that_raises_ends_the_program(stream: str) -> None:
    def boom(_: bytes) -> None:
        raise Boom

    argv, how = ["sh", "-c", "echo a; echo b >&2; sleep 600"], {stream: boom}
    with dolium.Sandbox() as box, dolium.Pool(size=1) as pool:
        calls: list[Callable[..., Any]] = [dolium.run, box.run, pool.run]
        for call in calls:
            with pytest.raises(Boom):
                call(argv, **how)
        assert box.run(["true"]).exit_code == 0 and pool.run(["true"]).exit_code == 0


def test_a_callback_that_uses_the_library_and_one_that_closes_the_box() -> None:
    out: list[bytes] = []
    with dolium.Sandbox() as box:
        box.run(["echo", "a"], on_stdout=lambda data: out.append(box.run(["cat"], input=data).stdout))
        ended = box.run(["sh", "-c", "echo a; sleep 600"], on_stdout=lambda _: box.close())
    assert out == [b"a\n"] and ended.signal == 9 and ended.stdout == b"a\n"


def once(number: int) -> int:
    with dolium.Sandbox() as box:
        return box.run(["sh", "-c", f"exit {number}"]).exit_code


def test_forkserver() -> None:
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("forkserver")) as pool:
        assert [*pool.map(once, [3, 4])] == [3, 4]
    gc.collect()
    multiprocessing.forkserver._forkserver._stop()  # type: ignore[attr-defined]
    multiprocessing.resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


def test_a_fork_while_other_threads_start_containers() -> None:
    stop = threading.Event()

    def work() -> None:
        while not stop.is_set():
            dolium.run(["true"])

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    codes = []
    for _ in range(12):
        pid = os.fork()
        if not pid:
            try:
                os._exit(once(5))
            except BaseException:
                os._exit(2)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    stop.set()
    for each in threads:
        each.join()
    assert codes == [5] * 12


def test_cancellations_one_after_the_other() -> None:
    chance = random.Random(1)

    async def something(box: aio.Sandbox, pool: aio.Pool) -> object:
        kind = chance.randrange(4)
        if kind < 3:
            return await (aio.run, box.run, pool.run)[kind](["sleep", "600"])
        async with aio.Sandbox() as other, await other.python() as python:
            return await python.run("import time; time.sleep(600)")

    async def main() -> None:
        async with aio.Sandbox() as box, aio.Pool(size=3) as pool:
            for _ in range(5):
                tasks = [asyncio.create_task(something(box, pool)) for _ in range(12)]
                await asyncio.sleep(chance.random() * 0.3)
                for each in tasks:
                    each.cancel()
                    await asyncio.sleep(chance.choice((0, 0.005)))
                    each.cancel()  # again, while it is being killed
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                assert {type(each) for each in ended} == {asyncio.CancelledError}
            assert (await box.run(["true"])).exit_code == 0
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await aio.run(["sleep", "600"])
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(aio.run(["true"])) for _ in range(8)]
        assert [each.result().exit_code for each in tasks] == [0] * 8  # type: ignore[attr-defined]

    asyncio.run(main())


def test_closed_by_one_thread_while_others_use_it() -> None:
    for pause in (0.0, 0.05, 0.2):
        box, ended = dolium.Sandbox(), []

        def work(box: dolium.Sandbox = box, ended: list[type] = ended) -> None:
            try:
                while True:
                    box.run(["true"])
                    box.write("/tmp/x", "x")
            except Exception as problem:
                ended.append(type(problem))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for each in threads:
            each.start()
        time.sleep(pause)
        box.close()
        for each in threads:
            each.join(60 * SLOW)
        assert ended == [dolium.StateError] * 4


@pytest.mark.parametrize("act", ["read", "write", "run as a user"])
def test_what_goes_wrong_because_it_has_ended_meanwhile(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the look whether it runs and the act: the error is that it does not, not what the kernel makes of that."""
    box = dolium.Sandbox()
    enter = box._enter

    def late() -> int:
        first = enter()
        box.close()
        return first

    monkeypatch.setattr(box, "_enter", late)
    with pytest.raises(dolium.StateError, match="is closed, not running"):
        {"read": lambda: box.read("/etc/passwd"), "write": lambda: box.write("/tmp/x", "x"),
         "run as a user": lambda: box.run(["true"], user="nobody")}[act]()  # fmt: skip


SUDDEN = """
import sys, os, time, threading; sys.path.insert(0, SOURCE)
import dolium
box = dolium.Sandbox(); process = box.popen(["sleep", "600"]); python = box.python(); pool = dolium.Pool(size=2)
snap = dolium.Sandbox().snapshot()
threading.Thread(target=lambda: box.run(["sleep", "600"]), daemon=True).start()
time.sleep(0.3)
END
"""


@pytest.mark.parametrize("end, code", [("pass", 0), ("sys.exit(4)", 4), ("raise RuntimeError", 1), ("os._exit(3)", 3), ("os.kill(os.getpid(), 15)", -15),
                                       ("os.abort()", -6)], ids=["end", "exit", "exception", "at-once", "sigterm", "abort"])  # fmt: skip
def test_the_end_of_the_interpreter_while_all_kinds_of_things_run(end: str, code: int) -> None:
    text = SUDDEN.replace("SOURCE", repr(f"{TOP}/src")).replace("END", end)
    done = subprocess.run([SYSTEM_PYTHON, "-c", text], capture_output=True, text=True, timeout=120 * SLOW)
    assert done.returncode == code and ("Error" in done.stderr) == (code == 1), done
    again = f"import sys; sys.path.insert(0, {TOP + '/src'!r}); import dolium; dolium.run(['true'])"  # which mends
    subprocess.run([SYSTEM_PYTHON, "-c", again], check=True)
