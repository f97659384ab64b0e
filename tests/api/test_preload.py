"""`dolium.Pool(preload=...)`: snippets in interpreters that have their modules already, each in a container of its own."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import leaks
import pytest
from containers import SLOW, SYSTEM_PYTHON, TOP, wait_for

import dolium
from dolium import aio


def full(pool: dolium.Pool) -> dolium.Pool:
    wait_for(lambda: pool.ready == pool.size)
    return pool


def test_a_snippet_finds_the_modules_loaded_and_no_trace_of_another() -> None:
    with full(dolium.Pool(size=2, preload=["decimal", "xml.dom"], env={"A": "1"}, cwd="/tmp")) as pool:
        loaded = pool.snippet("import sys; [each in sys.modules for each in ('decimal', 'xml.dom', 'tkinter')]")
        assert loaded.value == "[True, True, False]" and loaded.ok
        assert pool.snippet("sorted(each for each in globals() if each[:2] != '__')").value == "[]"
        assert pool.snippet("import os; os.environ['A'], os.getcwd()").value == "('1', '/tmp')"
        pool.snippet("open('/tmp/mine', 'w').write('x'); import decimal; decimal.Decimal = None; kept = 1")
        for _ in range(3):
            assert pool.snippet("import os, decimal; os.path.exists('/tmp/mine'), decimal.Decimal is None, 'kept' in globals()").value \
                == "(False, False, False)"  # fmt: skip
        assert len({pool.snippet("import random; random.random(), hash('a')").value for _ in range(4)}) == 4
        failed = pool.snippet("1 / 0")
        assert (failed.error, failed.ended_by) == ("ZeroDivisionError", "end")


def test_limits_of_a_snippet_are_its_own() -> None:
    with full(dolium.Pool(size=1, preload=[])) as pool:
        time.sleep(0.5)
        assert pool.snippet("import time; time.sleep(600)", timeout=0.3).ended_by == "timeout"
        assert pool.snippet("import os; os._exit(3)").ended_by == "exit"
        assert pool.snippet("1 + 1", timeout=60 * SLOW).value == "2"


@pytest.mark.needs_root
def test_memory_of_a_snippet() -> None:
    with full(dolium.Pool(size=1, preload=[], memory="64M")) as pool:
        assert pool.snippet("x = bytearray(10**9)").ended_by == "memory"
        assert pool.snippet("1 + 1").value == "2"


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(dolium.UsageError, match="ModuleNotFoundError"):
        dolium.Pool(preload=["no_such_module"])
    for wrong in (["os; print(1)"], [""], [1], ["__import__('os')"]):
        with pytest.raises(dolium.UsageError):
            dolium.Pool(preload=wrong)  # type: ignore[arg-type]
    with dolium.Pool(size=1, preload=[]) as pool:
        with pytest.raises(dolium.UsageError, match="preload"):
            pool.run(["true"])
        with pytest.raises(dolium.UsageError):
            pool.snippet(b"1")  # type: ignore[arg-type]
    with pytest.raises(dolium.StateError):
        pool.snippet("1")
    with dolium.Pool(size=1) as pool, pytest.raises(dolium.UsageError, match="no interpreters"):
        pool.snippet("1")


def test_a_sandbox_with_the_interpreter() -> None:
    with (full(dolium.Pool(size=1, preload=["decimal"])) as pool, pool.take(timeout=2.0 * SLOW) as box,
          box.python() as python, box.python() as other):  # fmt: skip
        assert python.run("import sys; 'decimal' in sys.modules").value == "True"
        assert other.run("import sys; 'decimal' in sys.modules").value == "False"  # the second is a new one
        assert python.run("x = 1").ok and python.run("x").value == "1"
        assert box.run(["echo", "x"], text=True).stdout == "x\n"
        assert python.run("import time; time.sleep(600)").ended_by == "timeout" and box.ended_by == "timeout"


def test_one_that_died_is_replaced() -> None:
    with full(dolium.Pool(size=2, preload=[])) as pool:
        first, second = pool._shelf.ready
        os.kill(first.python._process.pid, signal.SIGKILL)
        os.kill(second.box._running.pid(), signal.SIGKILL)
        wait_for(lambda: not first.is_alive() and not second.is_alive())
        assert pool.snippet("1 + 1").value == "2"


def test_many_at_once_and_none_left() -> None:
    found: list[str | None] = []
    with dolium.Pool(size=3, preload=[]) as pool:
        threads = [threading.Thread(target=lambda n=n: found.append(pool.snippet(f"{n} + 1").value)) for n in range(8)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert sorted(map(int, filter(None, found))) == [*range(1, 9)]


def test_with_asyncio() -> None:
    async def main() -> None:
        async with aio.Pool(size=2, preload=[]) as pool:
            assert [each.value for each in await asyncio.gather(*(pool.snippet(str(n)) for n in range(3)))] == ["0", "1", "2"]
            task = asyncio.create_task(pool.snippet("import time; time.sleep(600)"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(main())


@pytest.mark.parametrize("who", ["dolium", "plain"])
def test_a_parent_that_is_killed(request: pytest.FixtureRequest, who: str) -> None:
    user: Callable[..., Any] = request.getfixturevalue(who)
    code = (f"import sys; sys.path.insert(0, {TOP + '/src'!r}); import dolium, time; pool = dolium.Pool(size=2, preload=['decimal'])\n"
            "print(pool.snippet('1 + 1').value, flush=True); pool.snippet('import time; time.sleep(600)')")  # fmt: skip
    with user.start(argv=[SYSTEM_PYTHON, "-c", code]) as process:  # type: ignore[attr-defined]
        assert process.stdout.readline() == b"2\n"
        process.kill()
    assert user("run", "@host", "true").code == 0  # the next command mends
    wait_for(lambda: not leaks.leases())
