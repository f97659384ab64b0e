"""In a real Jupyter kernel: cells that use the library, with and without await, and cells that are interrupted."""

import os
import subprocess

import pytest
from containers import SLOW, SYSTEM_PYTHON, TOP

HOME = f"{TOP}/.build/jupyter"
DRIVER = """
import queue, sys, time
from jupyter_client.manager import start_new_kernel

def run(client, code, interrupt=None):
    "What a cell prints, its value, or the name of its exception."
    said, sent = [], client.execute(code)
    deadline = time.monotonic() + PATIENCE
    while True:
        assert time.monotonic() < deadline, code
        try: message = client.get_iopub_msg(timeout=1)
        except queue.Empty: continue
        if message["parent_header"].get("msg_id") != sent: continue
        kind, content = message["msg_type"], message["content"]
        if kind == "stream": said.append(content["text"])
        if kind == "execute_result": said.append(content["data"]["text/plain"])
        if kind == "error": said.append(content["ename"])
        if kind == "stream" and interrupt and "running" in content["text"]:
            time.sleep(0.3)
            interrupt()
        if kind == "status" and content["execution_state"] == "idle": return "".join(said)

manager, client = start_new_kernel(env={"PYTHONPATH": SOURCE, "PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": HOME})
try:
    stop = manager.interrupt_kernel
    print(run(client, "import dolium; from dolium import aio; dolium.run(['echo', 'hello'], text=True).stdout"))
    print(run(client, "box = dolium.Sandbox(); box.write('/tmp/a', 'kept'); box.run(['cat', '/tmp/a'], text=True).stdout"))
    print(run(client, "(await aio.run(['echo', 'awaited'], text=True)).stdout"))
    print(run(client, "async with aio.Sandbox() as other: print((await other.run(['echo', 'inside'], text=True)).stdout)"))
    print(run(client, "python = box.python(); python.run('6 * 7')").partition(", wall")[0])
    print(run(client, "pool = dolium.Pool(size=2); pool.run(['echo', 'pooled'], text=True).stdout"))
    print(run(client, "print('running', flush=True); dolium.run(['sleep', '600'])", stop).split()[-1])
    print(run(client, "print('running', flush=True); box.run(['sleep', '600'])", stop).split()[-1])
    # ipykernel comes to know of an interrupt when its loop wakes up: `await asyncio.sleep(600)` alone goes on, too
    run(client, "import asyncio\\nasync def tick():\\n    while True: await asyncio.sleep(0.1)\\nticking = asyncio.ensure_future(tick())")
    print(run(client, "print('running', flush=True); await aio.run(['sleep', '600'])", stop).split()[-1])
    print(run(client, "print('running', flush=True); python.run('import time; time.sleep(600)')", stop).split()[-1])
    print(run(client, "box.run(['sh', '-c', 'cat /tmp/a; ps ax | grep -c [s]leep || true'], text=True).stdout"))
    print(run(client, "pool.close(); box.close(); import os; open('/proc/self/task/%d/children' % os.getpid()).read().split()"))
finally:
    client.stop_channels()
    manager.shutdown_kernel()
"""
SAID = """'hello\\n'
'kept'
'awaited\\n'
inside

Snippet(value='42'
'pooled\\n'
KeyboardInterrupt
KeyboardInterrupt
CancelledError
KeyboardInterrupt
'kept0\\n'
[]
"""


@pytest.fixture(scope="module")
def jupyter() -> str:
    """A Python with ipykernel from PyPI, kept in .build."""
    python = f"{HOME}/bin/python"
    if not os.path.exists(f"{HOME}/complete"):
        subprocess.run([SYSTEM_PYTHON, "-m", "venv", HOME], check=True)
        done = subprocess.run([python, "-m", "pip", "-q", "install", "ipykernel", "jupyter_client"], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no ipykernel: {done.stderr[-300:]}")
        with open(f"{HOME}/complete", "w"):
            pass
    return python


def test_cells(jupyter: str, folder: str) -> None:
    """And nothing is left of the kernel, which is told to end without having closed all (the fixture `nothing_left`)."""
    code = DRIVER.replace("PATIENCE", str(60 * SLOW)).replace("SOURCE", repr(f"{TOP}/src")).replace("HOME", repr(folder))
    done = subprocess.run([jupyter, "-c", code], capture_output=True, text=True, timeout=600 * SLOW)
    assert done.returncode == 0, done
    assert done.stdout.split() == SAID.split(), done


def test_a_kernel_that_is_killed_leaves_nothing(jupyter: str, folder: str) -> None:
    code = DRIVER.replace("PATIENCE", str(60 * SLOW)).replace("SOURCE", repr(f"{TOP}/src")).replace("HOME", repr(folder))
    before, _, _ = code.partition("    print(run(client, \"import dolium")
    code = before + ("    run(client, \"import dolium; box = dolium.Sandbox(); pool = dolium.Pool(size=3); p = box.popen(['sleep', '600'])\")\n"
                     "    manager.shutdown_kernel(now=True)\nfinally:\n    client.stop_channels()\n")  # fmt: skip
    done = subprocess.run([jupyter, "-c", code], capture_output=True, text=True, timeout=300 * SLOW)
    assert done.returncode == 0, done
    again = f"import sys; sys.path.insert(0, {TOP + '/src'!r}); import dolium; dolium.run(['true'])"  # which mends
    subprocess.run([SYSTEM_PYTHON, "-c", again], check=True)
