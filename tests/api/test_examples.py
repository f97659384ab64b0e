"""The examples: each as its own page says, and piece by piece."""

import asyncio
import importlib.util
import os
import shutil
import subprocess
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from containers import SLOW, TOP

import dolium
from dolium import aio

EXAMPLES = f"{TOP}/examples"


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"example_{name}", f"{EXAMPLES}/{name}.py")
    assert spec and spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_is_tried_here() -> None:
    assert sorted(each for each in os.listdir(EXAMPLES) if each.endswith(".py")) == ["agent.py", "judge.py", "matrix.py", "test_postgresql.py"]


@pytest.mark.parametrize("name, said", [("agent", "The median is 3.5.\n"), ("judge", "AC   Verdict(AC)\n"), ("matrix", "ok ")])
def test_from_the_command_line(name: str, said: str) -> None:
    done = subprocess.run([sys.executable, f"{EXAMPLES}/{name}.py"], capture_output=True, text=True, cwd="/")
    assert (done.returncode, done.stderr) == (0, "") and said in done.stdout, done


def test_the_loop_tells_the_model_what_came_of_it() -> None:
    agent = load("agent")
    seen: list[str] = []

    def model(messages: list[dict[str, str]]) -> str:
        seen.append(messages[-1]["content"])
        return ["```python\nx = 1\n1 / 0\n```", "```python\nprint('x is', x)\nx + 1\n```", "```py\nwhile True: pass\n```",
                "```python\nx\n```", "done"][len(seen) - 1]  # fmt: skip

    with dolium.Sandbox() as box, box.python(timeout=SLOW) as python:
        assert agent.loop(model, "task", python) == "done"
        assert seen[0] == "task" and "ZeroDivisionError" in seen[1] and seen[2] == "x is 1\nvalue: 2"
        assert "ended (timeout)" in seen[3] and "NameError" in seen[4]
        with pytest.raises(RuntimeError, match="no answer"):
            agent.loop(lambda messages: "```python\n1\n```", "task", python, turns=3)


def test_an_executor_in_the_shape_of_smolagents() -> None:
    agent = load("agent")
    with dolium.Sandbox() as box, box.python(timeout=SLOW) as python:
        executor = agent.SmolagentsExecutor(python)
        executor.send_variables({"a": [1, 2]})
        executor.send_tools({"double": "def double(x):\n    return x * 2"})
        found = executor("print('log')\ndouble(sum(a))")
        assert (found.output, found.logs, found.is_final_answer) == ("6", "log\n", False)
        found = executor("final_answer(double(21))")
        assert (found.output, found.is_final_answer) == ("42", True)
        for code, said in (("1 / 0", "ZeroDivisionError"), ("while True: pass", "timeout")):
            with pytest.raises(RuntimeError, match=said):
                executor(code)
        assert executor("final_answer(1)").is_final_answer
        with pytest.raises(ValueError):
            executor.send_variables({"bad": object()})


def test_an_executor_in_the_shape_of_autogen() -> None:
    agent = load("agent")

    def block(code: str, language: str) -> SimpleNamespace:
        return SimpleNamespace(code=code, language=language)

    async def main() -> None:
        async with aio.Sandbox() as box:
            executor = agent.AutogenExecutor(box, timeout=SLOW)
            token = SimpleNamespace(link_future=lambda future: future)
            found = await executor.execute_code_blocks([block("open('f', 'w').write('kept')", "python"), block("cat f", "sh")], token)
            assert (found.exit_code, found.output) == (0, "kept")
            found = await executor.execute_code_blocks([block("exit 3", "bash"), block("print('not reached')", "python")], None)
            assert (found.exit_code, found.output) == (3, "")
            found = await executor.execute_code_blocks([block("while True: pass", "python")], None)
            assert found.exit_code == 124 and "timeout" in found.output
            token.link_future = lambda future: asyncio.get_running_loop().call_later(0.5, future.cancel)
            executor.timeout = 60 * SLOW
            with pytest.raises(asyncio.CancelledError):
                await executor.execute_code_blocks([block("sleep 600", "sh")], token)
            box._started.snapshot().close()  # which it refuses while a program runs
            await executor.restart()

    asyncio.run(main())


@pytest.mark.needs_root
def test_verdicts() -> None:
    judge = load("judge")
    for wanted, program in judge.PROGRAMS.items():
        found = judge.judge("python", program, judge.TESTS, seconds=2 * SLOW)
        assert found.code == wanted, (program, found)
    assert judge.judge("python", judge.PROGRAMS["WA"], judge.TESTS).test == 2


@pytest.mark.skipif(not shutil.which("cc"), reason="no cc here")
def test_verdicts_of_a_compiled_program() -> None:
    judge = load("judge")
    memory = "64M" if os.geteuid() == 0 else None
    right = '#include <stdio.h>\nint main(void) { int a, b; scanf("%d%d", &a, &b); printf("%d\\n", a + b); }'
    assert judge.judge("c", right, judge.TESTS, memory=memory).code == "AC"
    found = judge.judge("c", "int main(void) { *(volatile int *)0 = 1; }", judge.TESTS, memory=memory)
    assert (found.code, found.detail, found.test) == ("RE", "signal 11", 1)
    found = judge.judge("c", "int main(void) { return x; }", judge.TESTS, memory=memory)
    assert found.code == "CE" and "error" in found.detail


def test_a_matrix(folder: str) -> None:
    matrix = load("matrix")
    with open(f"{folder}/of-the-project", "w"):
        pass
    cells = matrix.matrix(["@host", "@venv", "@nothing"], ["ls of-the-project", "sh -c 'exit 3'", "sleep 600"], timeout=SLOW, source=folder)
    assert [each.ok for each in cells] == [True, False, False] * 2 + [False] * 3
    assert [each.result.ended_by for each in cells[:6]] == ["exit", "exit", "timeout"] * 2
    assert all("@nothing" in each.error for each in cells[6:])
    assert matrix.main(["--image", "@host", "sh -c 'exit 1'"]) == 1 and matrix.main(["--image", "@host", "true"]) == 0


def test_postgresql() -> None:
    """Skips, with the reason it gives, where there is no PostgreSQL."""
    words = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "-p", "dolium.pytest_plugin", "-c", os.devnull,
             f"{EXAMPLES}/test_postgresql.py"]  # fmt: skip
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": f"{TOP}/src", "PYTHONDONTWRITEBYTECODE": "1"}, cwd="/",
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stdout
    if "3 skipped" in done.stdout:
        pytest.skip(done.stdout.partition("SKIPPED")[2].partition("\n")[0])
    assert "3 passed" in done.stdout, done.stdout
