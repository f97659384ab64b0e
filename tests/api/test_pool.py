"""`dolium.Pool`, as a program uses it: the same results as `dolium.run`, and nothing left of it, whoever dies."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import leaks
import pytest
from containers import SLOW, SYSTEM_PYTHON, TOP, Dolium, wait_for

import dolium
from dolium import aio

SEEN = """id; pwd; hostname | wc -c; cat /proc/self/mountinfo | cut -d' ' -f5-6 | sort; grep -E 'Cap|NoNew|Secc|Sig|Umask' /proc/self/status
ulimit -a; ls -l /proc/self/fd | grep -c .; ls /; cat /proc/self/cgroup | wc -l; echo $A $B; cat; env | cut -d= -f1 | sort
sed 's/ .*//' /proc/self/stat; cut -d' ' -f5-7 /proc/self/stat"""


def full(pool: dolium.Pool) -> dolium.Pool:
    wait_for(lambda: pool.ready == pool.size)
    return pool


@pytest.mark.parametrize("options", [{}, {"memory": "64M", "pids": 50, "user": "1234:5", "cwd": "/tmp", "env": {"A": "1"}}, {"cpus": 0.5, "disk": "8M"}])
def test_a_program_sees_the_same_as_in_a_fresh_container(options: dict[str, Any]) -> None:
    if os.geteuid():
        options = {name: value for name, value in options.items() if name in ("cwd", "env")}
    how: dict[str, Any] = {"input": "in\n", "text": True}
    with full(dolium.Pool(size=2, **options)) as pool:
        pooled = pool.run(["sh", "-c", SEEN], env={"B": "2"}, **how)
        fresh = dolium.run(["sh", "-c", SEEN], **{**options, "env": {**options.get("env", {}), "B": "2"}}, **how)
        assert pooled.exit_code == 0 and pooled.stdout == fresh.stdout and pooled.stderr == fresh.stderr
        for argv, more in ((["sh", "-c", "kill -TERM $$; exit 7"], {}), (["sh", "-c", "echo out; echo err >&2; exit 3"], {}),
                           (["pwd"], {"cwd": "/usr"}), (["sleep", "60"], {"timeout": 0.3}), (["seq", "9999"], {"max_output": 9})):  # fmt: skip
            one, other = pool.run(argv, text=True, **more), dolium.run(argv, text=True, **{**options, **more})
            for name in ("exit_code", "signal", "stdout", "stderr", "ended_by", "limits_hit", "truncated"):
                assert getattr(one, name) == getattr(other, name), (argv, name)


def test_what_cannot_be_run_is_said_as_in_a_fresh_container() -> None:
    with dolium.Pool(size=2) as pool:
        for argv, cwd in ((["no-such-program"], None), (["/etc/passwd"], None), (["true"], "/nowhere"), (["true", "x" * (9 << 20)], None)):
            with pytest.raises(dolium.StepError) as pooled:
                pool.run(argv, cwd=cwd)
            with pytest.raises(dolium.StepError) as fresh:
                dolium.run(argv, cwd=cwd)
            assert (str(pooled.value), pooled.value.errno, pooled.value.exit_code) == (str(fresh.value), fresh.value.errno, fresh.value.exit_code)
        with pytest.raises(dolium.SpecError):
            pool.run(["echo", "a\0b"])
        with pytest.raises(dolium.UsageError):
            pool.run("ls /")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="memory"):
            pool.run(["true"], memory="64M")  # type: ignore[call-arg]
        with pytest.raises(dolium.CommandFailed):
            pool.run(["false"], check=True)
        with pytest.raises(dolium.CommandTimeout):
            pool.run(["sleep", "60"], timeout=0.1, check=True)
        assert pool.run(["true"]).exit_code == 0


def test_a_pool_that_cannot_be_made_says_why_at_once() -> None:
    with pytest.raises(dolium.NotFound):
        dolium.Pool(image="/no/such/directory")
    for wrong in ({"size": 0}, {"memory": "64q"}, {"network": "moon"}, {"size": 100000}):
        with pytest.raises(dolium.DoliumError):
            dolium.Pool(**wrong)  # type: ignore[arg-type]


def test_none_is_used_twice_and_never_more_than_size_wait() -> None:
    with full(dolium.Pool(size=3)) as pool:
        names = set()
        for _ in range(10):
            assert pool.ready <= 3
            result = pool.run(["sh", "-c", "cat /tmp/was; echo > /tmp/was; hostname"], text=True)
            assert "No such file" in result.stderr
            names.add(result.stdout)
        assert len(names) == 10
        full(pool)
        wait_for(lambda: len(leaks.family()) == 2 * 3)  # those of the used ones are buried a moment later


def test_from_sixteen_threads() -> None:
    with dolium.Pool(size=3) as pool:
        found: list[int] = []

        def work(number: int) -> None:
            for _ in range(3):
                found.append(pool.run(["sh", "-c", f"exit {number}"]).exit_code - number)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert found == [0] * 48


def test_times_count_from_the_call() -> None:
    with full(dolium.Pool(size=1)) as pool:
        time.sleep(1.0)
        result = pool.run(["sh", "-c", "sleep 0.2"], timeout=5 * SLOW)
        assert 0.2 <= result.wall_seconds < 0.9 * SLOW and result.ended_by == "exit"
        full(pool)
        time.sleep(1.0)
        with pool.take(timeout=1.0 * SLOW) as box:
            assert box.run(["sleep", "0.3"]).exit_code == 0  # it would be over if it counted from when it was made
            assert box.run(["sleep", "60"]).ended_by == "timeout" and box.ended_by == "timeout"


def test_what_is_counted_is_the_programs() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    with full(dolium.Pool(size=1)) as pool:
        busy = pool.run([SYSTEM_PYTHON, "-c", burn])
        idle = full(pool).run(["true"])
        assert busy.cpu_seconds >= 0.29 and idle.cpu_seconds < busy.cpu_seconds
        fresh = dolium.run(["true"])
        assert idle.peak_memory_bytes <= 2 * fresh.peak_memory_bytes and idle.cpu_seconds <= fresh.cpu_seconds + 0.02


@pytest.mark.needs_root
def test_the_peak_of_memory_is_counted_from_the_call() -> None:
    """Before Linux 6.12 cgroup v2 cannot forget a peak; then the result has the largest process's."""
    with full(dolium.Pool(size=1, memory="128M")) as pool:
        group = pool._shelf.ready[0].running.controllers["memory"]
        hog = f"open('{group}/cgroup.procs', 'w').write('0'); x = bytearray(b'1') * (48 << 20)"
        subprocess.run([SYSTEM_PYTHON, "-c", hog], check=True)
        with open(next(each for each in (f"{group}/memory.peak", f"{group}/memory.max_usage_in_bytes") if os.path.exists(each))) as file:
            assert int(file.read()) >= 48 << 20
        assert 0 < pool.run(["true"]).peak_memory_bytes < 16 << 20
        full(pool)
        assert pool.run([SYSTEM_PYTHON, "-c", "x = bytearray(b'1') * (64 << 20)"]).peak_memory_bytes >= 64 << 20


@pytest.mark.needs_root
def test_its_memory_limit_is_each_containers_own() -> None:
    with full(dolium.Pool(size=2, memory="64M")) as pool:
        result = pool.run([SYSTEM_PYTHON, "-c", "x = bytearray(10**9)"])
        assert (result.ended_by, result.limits_hit) == ("memory", ("memory",))
        with pool.take() as box:
            box.run([SYSTEM_PYTHON, "-c", "x = bytearray(10**9)"])
            wait_for(lambda: box.status == "ended")
            assert box.ended_by == "memory"


def test_a_sandbox_of_the_pool() -> None:
    with full(dolium.Pool(size=2, env={"A": "1"}, cwd="/tmp")) as pool, pool.take() as box, pool.take() as other:
        assert box.run(["sh", "-c", "echo $A; pwd; echo kept > note"], text=True).stdout == "1\n/tmp\n"
        assert box.read("/tmp/note") == b"kept\n" and not other.exists("/tmp/note")
        box.write("/tmp/script", "exit 5")
        with box.popen(["sh", "/tmp/script"]) as process:
            assert process.wait() == 5
        with other.python() as python:
            assert python.run("6 * 7").value == "42"
        assert box.id != other.id and "running" in repr(box)


def test_sandboxes_and_programs_outlive_the_pool() -> None:
    pool = full(dolium.Pool(size=2))
    box = pool.take()
    found: list[dolium.Result] = []
    thread = threading.Thread(target=lambda: found.append(pool.run(["sh", "-c", "echo up; sleep 0.5"], on_stdout=lambda _: began.set())))
    began = threading.Event()
    thread.start()
    assert began.wait(10 * SLOW)
    pool.close()
    pool.close()
    assert "closed" in repr(pool) and pool.ready == 0
    with pytest.raises(dolium.StateError):
        pool.run(["true"])
    thread.join()
    assert found[0].exit_code == 0 and box.run(["true"]).exit_code == 0
    box.close()


def test_one_that_was_killed_is_replaced() -> None:
    with full(dolium.Pool(size=2)) as pool:
        for held in [*pool._shelf.ready]:
            os.kill(held.running.pid(), signal.SIGKILL)
            select.select([held.first], [], [], 10 * SLOW)
        assert pool.run(["echo", "fine"], text=True).stdout == "fine\n"
        for held in [*full(pool)._shelf.ready]:
            os.kill(held.running.helper.pid, signal.SIGKILL)  # dolium-keep, which takes the container along
            select.select([held.first], [], [], 10 * SLOW)
        with pool.take() as box:
            assert box.run(["true"]).exit_code == 0


def test_one_that_is_dropped_goes() -> None:
    full(dolium.Pool(size=2))
    pool = dolium.Pool(size=3)  # perhaps in the middle of making
    del pool


END = "import sys; sys.path.insert(0, {source!r}); import dolium, os, time; pool = dolium.Pool(size=4); pool.run(['true'])\n{rest}"


@pytest.mark.parametrize("rest", ["", "sys.exit(0)", "time.sleep(0.5)", "pool.take()", "raise SystemError"])
def test_nothing_is_left_after_the_end_of_the_program(rest: str) -> None:
    code = END.format(source=f"{TOP}/src", rest=rest)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60 * SLOW, check=False)
    assert done.stderr == "" or rest.startswith("raise"), done


@pytest.mark.parametrize("who", ["dolium", "plain"])
def test_a_parent_that_is_killed(request: pytest.FixtureRequest, who: str) -> None:
    user: Dolium = request.getfixturevalue(who)
    rest = "box = pool.take()\nwhile pool.ready < 4: time.sleep(0.01)\nprint('go', flush=True); pool.run(['sleep', '600'])"
    with user.start(argv=[SYSTEM_PYTHON, "-c", END.format(source=f"{TOP}/src", rest=rest)]) as process:
        assert process.stdout and process.stdout.readline() == b"go\n"
        process.kill()
    assert user("run", "@host", "true").code == 0  # the next command mends
    wait_for(lambda: not leaks.leases())


def test_a_forked_child_has_no_part_in_it() -> None:
    with full(dolium.Pool(size=2)) as pool:
        child = os.fork()
        if not child:
            try:
                pool.close()
                pool.run(["true"])
            except dolium.StateError:
                fine = dolium.Pool(size=1)
                os._exit(fine.run(["sh", "-c", "exit 3"]).exit_code + (fine.close() or 0))
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert pool.ready == 2 and pool.run(["true"]).exit_code == 0


def test_descriptors_and_memory_stay_as_they_were() -> None:
    with full(dolium.Pool(size=2)) as pool:
        def some(count: int) -> int:
            for _ in range(count):
                pool.run(["true"])
                with pytest.raises(dolium.StepError):
                    pool.run(["no-such-program"])
                pool.take().close()
            full(pool)
            wait_for(lambda: not pool._shelf._working)
            return len(os.listdir("/proc/self/fd"))

        assert some(5) == some(20)


def test_with_asyncio() -> None:
    async def main() -> None:
        async with aio.Pool(size=2, env={"A": "1"}) as pool:
            results = await asyncio.gather(*(pool.run(["sh", "-c", f"echo $A {n}"], text=True) for n in range(5)))
            assert [each.stdout for each in results] == [f"1 {n}\n" for n in range(5)]
            async with await pool.take(timeout=60 * SLOW) as box:
                assert (await box.run(["echo", "x"], text=True)).stdout == "x\n"
            task = asyncio.create_task(pool.run(["sleep", "600"]))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert pool.ready <= 2 and "ready" in repr(pool)
        with pytest.raises(dolium.StateError):
            await pool.run(["true"])

    asyncio.run(main())
    with pytest.raises(dolium.StateError):
        aio.Pool().ready  # noqa: B018
    with pytest.raises(TypeError):
        aio.Pool(sice=3)


def plain_code(body: str) -> str:
    return f"import sys, time; sys.path.insert(0, {TOP + '/src'!r}); import dolium\n{body}"


def test_for_a_plain_user(plain: Callable[..., Any]) -> None:
    code = plain_code("""
with dolium.Pool(size=2) as pool:
    while pool.ready < 2: time.sleep(0.01)
    print(pool.run(["sh", "-c", "id -u; cat"], input="in\\n", text=True).stdout)
    with pool.take() as box:
        box.write("/tmp/a", "written")
        print(box.run(["cat", "/tmp/a"], text=True).stdout)
    try: pool.run(["no-such-program"])
    except dolium.StepError as error: print(error)
try: dolium.Pool(network=dolium.allow("example.org:443"))
except dolium.Unsupported as error: print("refused", error)
""")
    ended = plain(argv=[SYSTEM_PYTHON, "-c", code])
    assert ended.code == 0, ended
    *seen, refused = filter(None, ended.stdout.splitlines())
    assert seen == ["0", "in", "written", "cannot exec no-such-program: execve(2): No such file or directory (ENOENT)"]
    assert refused.startswith("refused ")
