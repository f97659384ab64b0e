"""`Sandbox.python`: snippets, what comes of them, and what a hostile one can do."""

import asyncio
import copy
import os
import pickle
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from containers import SLOW, wait_for

import dolium
from dolium import aio


@pytest.fixture
def box() -> Iterator[dolium.Sandbox]:
    with dolium.Sandbox() as found:
        yield found


@pytest.fixture
def python(box: dolium.Sandbox) -> Iterator[dolium.Python]:
    with box.python() as found:
        yield found


def test_values_output_and_state(python: dolium.Python) -> None:
    first = python.run("x = 20\nprint('one')\nimport sys; print('two', file=sys.stderr)\nx * 2 + 2")
    assert (first.value, first.stdout, first.stderr, first.error, first.ended_by, first.ok) == ("42", "one\n", "two\n", "", "end", True)
    assert python.run("x").value == "20" and python.run("_").value == "20"
    assert python.run("None").value is None and python.run("y = 1").value is None and python.run("").value is None
    assert python.run("'ä\\ud800'").value == "'ä\\ud800'" and python.run("print('ä\\ud800')").stdout == "ä\\ud800\n"
    assert python.run("import os; os.system('echo child; echo err >&2')").stdout == "child\n"
    assert python.run("input()").error == "EOFError"
    assert python.run("class A: pass\nimport pickle; type(pickle.loads(pickle.dumps(A()))).__name__").value == "'A'"
    assert python.run("import os\nif not os.fork(): x = 21\n").ok and python.run("x").value == "20"
    assert first.wall_seconds > 0 and "value='42'" in repr(first) and "\n" not in repr(first)
    again = pickle.loads(pickle.dumps(first))
    assert (again.value, again.figures) == ("42", {}) and copy.copy(first).stdout == "one\n"


def test_exceptions(python: dolium.Python) -> None:
    python.run("def f():\n    return 1 / 0")
    found = python.run("f()")
    assert (found.error, found.message, found.value, found.ok) == ("ZeroDivisionError", "division by zero", None, False)
    lines = found.traceback.splitlines()
    assert lines[0] == "Traceback (most recent call last):" and lines[-1] == "ZeroDivisionError: division by zero"
    assert '  File "<snippet 1>", line 2, in f' in lines and "    return 1 / 0" in lines and "interpreter" not in found.traceback
    assert python.run("def f(:").error == "SyntaxError" and python.run("import json; json.loads('')").error == "json.decoder.JSONDecodeError"
    assert python.run("exit(3)").error == "SystemExit" and python.run("f").ok, "it goes on"
    odd = python.run("class Odd(Exception):\n    def __str__(self): raise ValueError\nraise Odd")
    assert (odd.error, odd.message) == ("Odd", "<no text>")
    assert python.run("class R:\n    def __repr__(self): raise KeyError(1)\nR()").error == "KeyError"
    assert python.run("def deep(): deep()\ndeep()").error == "RecursionError" and python.run("1").value == "1"
    assert "ZeroDivisionError: division by zero" in repr(found)


@pytest.mark.parametrize("code, why", [("while True: pass", "timeout"), ("import time; time.sleep(600)", "timeout"),
                                       ("import os; os._exit(3)", "exit"), ("import os; os.kill(os.getpid(), 11)", "signal"),
                                       ("import os; os.closerange(3, 100); import time; time.sleep(600)", "broken"),
                                       ("while True: print('x' * 100000)", "output")])  # fmt: skip
def test_an_end_of_the_interpreter_is_said_and_its_state_is_gone(python: dolium.Python, code: str, why: str) -> None:
    python.run("x = 1")
    began = time.monotonic()
    found = python.run("print('before')\n" + code, timeout=0.5 * SLOW if why == "timeout" else 60 * SLOW)
    assert (found.ended_by, found.ok, found.value) == (why, False, None) and found.stdout.startswith("before\n")
    assert time.monotonic() - began < 60 * SLOW and f"ended_by='{why}'" in repr(found)
    with pytest.raises(dolium.StateError, match="its state is gone") as caught:
        python.run("x")
    assert "restart()" in caught.value.hint and why in python.status
    python.restart()
    assert python.run("x").error == "NameError" and python.status == "running"


def test_the_time_limit_takes_what_a_snippet_has_started(box: dolium.Sandbox, python: dolium.Python) -> None:
    kept = box.popen(["sleep", "600"])
    assert python.run("import subprocess; subprocess.Popen(['sleep', '601']); subprocess.run(['sleep', '601'])", timeout=0.5 * SLOW).ended_by == "timeout"
    wait_for(lambda: "sleep 601" not in box.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"], text=True).stdout)
    assert kept.poll() is None


def test_figures(box: dolium.Sandbox) -> None:
    with box.python(max_figures=1000) as python:
        found = python.run("import os; where = os.environ['DOLIUM_FIGURES']\nopen(where + '/a.png', 'wb').write(b'\\x89PNG')")
        assert found.figures == {"a.png": b"\x89PNG"} and not found.truncated and "figures=['a.png']" in repr(found)
        assert python.run("1").figures == {}, "of that snippet alone"
        hostile = python.run("os.symlink('/etc/passwd', where + '/link'); os.mkfifo(where + '/fifo'); os.mkdir(where + '/dir')\n"
                             "open(where + '/big', 'w').write('x' * 1001); open(where + '/good', 'w').write('x')")  # fmt: skip
        assert hostile.figures == {"good": b"x"} and hostile.truncated
        many = python.run("for i in range(300): open(f'{where}/{i}', 'w').close()")
        assert len(many.figures) == 256 and many.truncated
        python.run("import shutil; shutil.rmtree(where); os.symlink('/etc', where)")
        assert python.run("os.path.islink(where)").figures == {} and box.exists("/etc/passwd")
        left = python.run("os.unlink(where) if os.path.islink(where) else None; os.makedirs(where, exist_ok=True)\n"
                          "open(where + '/b', 'w').write('1'); os._exit(1)")  # fmt: skip
        assert (left.figures, left.ended_by) == ({"b": b"1"}, "exit")


def test_bounds(box: dolium.Sandbox) -> None:
    with box.python(max_output=100) as python:
        found = python.run("for i in range(10000): print(i)\n'v' * 5_000_000")
        assert found.truncated and len(found.stdout) == 100 and found.stdout.startswith("0\n1\n") and found.stdout.endswith("\n9999\n")
        assert found.value and len(found.value) == 1 << 20 and found.value[0] == found.value[-1] == "'"
        assert python.run("raise ValueError('m' * 5_000_000)").message == "m" * (1 << 20)
        long = "x = '" + "y" * 3_000_000 + "'\nlen(x)"
        assert python.run(long).value == "3000000"
    for code in (b"1", None):
        with box.python() as python, pytest.raises(dolium.UsageError, match="expected a str"):
            python.run(code)  # type: ignore[arg-type]


FORGE = """
import os, socket, struct, threading
for fd in range(3, 64):
    try:
        channel = socket.socket(fileno=os.dup(fd))
        break
    except OSError:
        pass
"""


def test_an_answer_given_in_advance_answers_nothing(python: dolium.Python) -> None:
    """A later snippet of the same interpreter would get it: the 16 bytes of its question are not known yet."""
    python.run(FORGE)
    python.run("channel.send(struct.pack('!16sB4I', bytes(16), 1, 6, 0, 0, 0) + b'forged')")
    with pytest.raises(dolium.StateError):
        assert python.run("'true'").ended_by == "broken"
        python.run("1")


@pytest.mark.parametrize("sent", ["bytes(100)", "os.urandom(100000)", "struct.pack('!16sB4I', bytes(16), 255, 1, 1, 1, 1)",
                                  "struct.pack('!16sB4I', bytes(16), 0, *[2 ** 32 - 1] * 4)"])  # fmt: skip
def test_rubbish_on_the_channel(box: dolium.Sandbox, python: dolium.Python, sent: str) -> None:
    python.run(FORGE)
    assert python.run(f"channel.send({sent}); import time; time.sleep(600)", timeout=60 * SLOW).ended_by == "broken"
    assert box.run(["true"]).exit_code == 0


def test_descriptors_that_it_sends_come_to_nobody(python: dolium.Python) -> None:
    python.run(FORGE)
    before = len(os.listdir("/proc/self/fd"))
    python.run("import array\nfor _ in range(10): channel.sendmsg([b'x'], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [0]))])")
    python.close()
    assert len(os.listdir("/proc/self/fd")) < before


@pytest.mark.needs_root
def test_memory(folder: str) -> None:
    with dolium.Sandbox(memory="64M") as box, box.python() as python:
        assert python.run("x = bytearray(256 << 20)").ended_by == "memory"
        with pytest.raises(dolium.StateError):
            python.run("1")
        with pytest.raises(dolium.StateError):
            python.restart()


def test_which_python_where_and_who(box: dolium.Sandbox, folder: str) -> None:
    with box.python(env={"A": "1"}, cwd="/tmp") as python:
        assert python.run("import os; os.environ['A'], os.getcwd(), os.getuid()").value == "('1', '/tmp', 0)"
    with pytest.raises(dolium.StepError) as caught:
        box.python(executable="python9")
    assert caught.value.exit_code == 127
    with dolium.Sandbox(image="@venv") as own, own.python() as python:
        assert python.run("import sys; sys.version_info[:2]").value == repr(sys.version_info[:2])
        assert python.run("import hypothesis").ok, "what is installed beside us"


@pytest.mark.needs_root
def test_as_another_user(box: dolium.Sandbox) -> None:
    with box.python(user="65534") as python:
        found = python.run("import os; open(os.environ['DOLIUM_FIGURES'] + '/f', 'w').write('x'); os.getuid()")
        assert (found.value, found.figures) == ("65534", {"f": b"x"})


def test_threads_take_turns_and_close_ends_a_snippet(python: dolium.Python) -> None:
    python.run("n = 0")
    threads = [threading.Thread(target=lambda: [python.run("n += 1") for _ in range(10)]) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert python.run("n").value == "40"
    found: list[dolium.Snippet] = []
    thread = threading.Thread(target=lambda: found.append(python.run("import time; time.sleep(600)")))
    thread.start()
    time.sleep(0.3)
    python.close()
    thread.join()
    assert found[0].ended_by in ("signal", "broken") and python.status.startswith("ended")


def test_two_interpreters_know_nothing_of_each_other(box: dolium.Sandbox) -> None:
    with box.python() as one, box.python() as other:
        one.run("x = 1")
        assert other.run("x").error == "NameError" and one.run("x").value == "1"


def test_asyncio() -> None:
    async def main() -> None:
        async with aio.Sandbox() as box, await box.python() as python:
            assert (await python.run("6 * 7")).value == "42" and python.status == "running"
            task = asyncio.create_task(python.run("import time; time.sleep(600)"))
            await asyncio.sleep(0.3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert python.ended_by
            await python.restart()
            assert (await python.run("1")).value == "1" and "Python in" in repr(python)

    asyncio.run(main())
