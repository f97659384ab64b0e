"""`dolium.aio`, as an asyncio program uses it."""

import asyncio
import signal
import time
from asyncio.subprocess import PIPE

import pytest
from containers import SLOW

import dolium
from dolium import aio


def test_a_run() -> None:
    async def main() -> None:
        result = await aio.run(["sh", "-c", "cat; exit 3"], input="in", text=True)
        assert (result.stdout, result.exit_code, result.ended_by) == ("in", 3, "exit")
        with pytest.raises(dolium.CommandFailed):
            await aio.run(["false"], check=True)
        with pytest.raises(dolium.StepError):
            await aio.run(["no-such-program"])
        with pytest.raises(TypeError):
            await aio.run(["true"], colour="blue")  # type: ignore[call-arg]
        with pytest.raises(dolium.UsageError):
            await aio.run([])

    asyncio.run(main())


def test_many_at_once_take_no_longer_than_a_few() -> None:
    async def main() -> list[dolium.Result]:
        return await asyncio.gather(*(aio.run(["sh", "-c", f"sleep 1; echo {number}"], text=True) for number in range(20)))

    began = time.monotonic()
    results = asyncio.run(main())
    assert [each.stdout for each in results] == [f"{number}\n" for number in range(20)]
    assert time.monotonic() - began < 10 * SLOW


def test_a_cancelled_task_kills_what_it_waits_for() -> None:
    """What is left is looked for by the check that watches every test here."""
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(aio.run(["sleep", "600"]), 0.3)
        async with aio.Sandbox() as box:
            for moment in (0.0, 0.001, 0.3):
                task = asyncio.create_task(box.run(["sh", "-c", "sleep 601 & sleep 601"]))
                await asyncio.sleep(moment)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            seen = await box.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"], text=True)
            assert "sleep 601" not in seen.stdout
        task = asyncio.create_task(aio.Sandbox().start())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_a_sandbox() -> None:
    async def main() -> None:
        async with aio.Sandbox(env={"A": "1"}) as box:
            await box.write("/tmp/a", "text")
            assert await box.read("/tmp/a", text=True) == "text" and await box.exists("/tmp/a") and "a" in await box.ls("/tmp")
            await box.remove("/tmp/a")
            assert not await box.exists("/tmp/a")
            results = await asyncio.gather(*(box.run(["sh", "-c", f"echo ${{A}}{number}"], text=True) for number in range(5)))
            assert [each.stdout for each in results] == [f"1{number}\n" for number in range(5)]
            assert box.status == "running" and box.id in repr(box)
        assert box.status == "closed"
        with pytest.raises(dolium.StateError):
            await box.run(["true"])
        with pytest.raises(dolium.StateError):
            await aio.Sandbox().run(["true"])
        with pytest.raises(TypeError):
            aio.Sandbox(colour="blue")

    asyncio.run(main())


def test_a_process_and_its_streams() -> None:
    async def main() -> None:
        async with aio.Sandbox() as box:
            async with await box.popen(["sh", "-c", "echo 1; echo 2; exit 5"], stdout=PIPE) as process:
                assert process.stdout
                assert [line async for line in process.stdout] == [b"1\n", b"2\n"]
                assert await process.wait() == 5 and process.returncode == 5 and process.exit_code == 5
            cat = await box.popen(["cat"], stdin=PIPE, stdout=PIPE, stderr=PIPE)
            much = b"x" * (1 << 20)
            assert await cat.communicate(much) == (much, b"")
            asleep = await box.popen(["sleep", "600"])
            assert asleep.returncode is None
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(asleep.wait(), 0.1)
            first, second = asyncio.create_task(asleep.wait()), asyncio.create_task(asleep.wait())
            await asyncio.sleep(0)
            asleep.terminate()
            assert await first == await second == -signal.SIGTERM
            with pytest.raises(RuntimeError):
                async with await box.popen(["sleep", "600"]) as left:
                    raise RuntimeError
            assert left.returncode == -signal.SIGKILL

    asyncio.run(main())
