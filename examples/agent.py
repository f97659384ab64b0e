"""An agent's tool loop: a model writes Python, it runs in a box, the model sees what came of it, until it answers.

    python3 examples/agent.py

The model here is a script, so that the example runs anywhere; put yours in its place: any callable from messages to text.  The
two adapters have the shape of the executors of smolagents and of AutoGen, by duck typing: neither is needed or imported.
"""

import asyncio
import os
import re
import sys
from collections.abc import Callable
from typing import Any

sys.path.insert(0, f"{os.path.dirname(os.path.dirname(os.path.abspath(__file__)))}/src")  # from a clone, where nothing is installed

import dolium
from dolium import aio

BLOCK = re.compile(r"```(?:python|py)\n(.*?)```", re.S)
Model = Callable[[list[dict[str, str]]], str]


def shown(found: dolium.Snippet, most: int = 4000) -> str:
    """What a model is told of a snippet."""
    parts = [found.stdout, found.stderr, found.traceback, "" if found.value is None else f"value: {found.value}"]
    if found.ended_by != "end":
        parts.append(f"The interpreter was ended ({found.ended_by}): all names are gone.")
    text = "\n".join(part.rstrip() for part in parts if part) or "(no output)"
    return text if len(text) <= most else f"{text[: most // 2]}\n...\n{text[-most // 2 :]}"


def loop(model: Model, task: str, python: dolium.Python, turns: int = 10) -> str:
    """Let the model work at the task; its answer.  Raises RuntimeError where it comes to none."""
    messages = [{"role": "user", "content": task}]
    for _ in range(turns):
        said = model(messages)
        messages.append({"role": "assistant", "content": said})
        blocks = BLOCK.findall(said)
        if not blocks:
            return said
        if python.status != "running":
            python.restart()
        messages.append({"role": "user", "content": shown(python.run("\n".join(blocks)))})
    raise RuntimeError(f"no answer in {turns} turns")


class SmolagentsExecutor:
    """As smolagents has its PythonExecutor: called with code it gives an object with output, logs and is_final_answer;
    `final_answer(x)` in the code ends the agent's work."""

    class Output:
        """What an agent reads."""

        def __init__(self, output: Any, logs: str, is_final_answer: bool) -> None:
            self.output = output
            self.logs = logs
            self.is_final_answer = is_final_answer

    FINAL = "class _Final(BaseException): pass\ndef final_answer(answer):\n    raise _Final(answer)"

    def __init__(self, python: dolium.Python) -> None:
        self.python = python
        self.python.run(self.FINAL)

    def send_variables(self, variables: dict[str, Any]) -> None:
        """Plain values, which a repr can carry."""
        for name, value in variables.items():
            found = self.python.run(f"{name} = {value!r}")
            if not found.ok:
                raise ValueError(f"{name}: {found.message}")

    def send_tools(self, tools: dict[str, Any]) -> None:
        """Tools live in the box: each value is the source of a function of that name."""
        for source in tools.values():
            self.python.run(source)

    def __call__(self, code: str) -> "SmolagentsExecutor.Output":
        found = self.python.run(code)
        if found.error == "_Final":
            return self.Output(found.message, found.stdout, True)
        if not found.ok:
            if self.python.status != "running":
                self.python.restart()
                self.python.run(self.FINAL)
            raise RuntimeError(shown(found))
        return self.Output(found.value, found.stdout, False)


class AutogenExecutor:
    """As AutoGen has its CodeExecutor: blocks with `code` and `language` in, an object with exit_code and output out.  What is
    cancelled is killed."""

    class Result:
        """What an agent reads."""

        def __init__(self, exit_code: int, output: str) -> None:
            self.exit_code = exit_code
            self.output = output

    def __init__(self, box: aio.Sandbox, timeout: float = 60) -> None:
        self.box = box
        self.timeout = timeout

    async def execute_code_blocks(self, code_blocks: list[Any], cancellation_token: Any = None) -> "AutogenExecutor.Result":
        """One after the other, until one fails; each is a program of its own, files stay."""
        output = ""
        for number, block in enumerate(code_blocks):
            name, program = f"/tmp/block-{number}", "sh" if block.language in ("sh", "bash") else "python3"
            await self.box.write(name, block.code)
            task = asyncio.ensure_future(self.box.run([program, name], text=True, timeout=self.timeout, cwd="/tmp"))
            if cancellation_token is not None:
                cancellation_token.link_future(task)
            result = await task
            output += result.stdout + result.stderr
            if result.exit_code:
                return self.Result(result.exit_code, output + (f"\nended: {result.ended_by}" if result.ended_by != "exit" else ""))
        return self.Result(0, output)

    async def restart(self) -> None:
        """Nothing to do: no process is kept."""


def scripted(*answers: str) -> Model:
    """A model that says these things, whatever it is told."""
    left = iter(answers)
    return lambda messages: next(left)


def main() -> None:
    model = scripted(
        "I'll look at the data.\n```python\nimport statistics\ndata = [3, 1, 4, 1, 5, 9, 2, 6]\nstatistics.medain(data)\n```",
        "A slip.\n```python\nstatistics.median(data)\n```",
        "The median is 3.5.")
    with dolium.Sandbox(image="@host") as box, box.python(timeout=10) as python:
        print(loop(model, "What is the median of 3 1 4 1 5 9 2 6?", python))


if __name__ == "__main__":
    main()
