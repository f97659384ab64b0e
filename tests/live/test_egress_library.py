"""`dolium.allow`: egress policies of the library's containers."""

from __future__ import annotations

import subprocess

from containers import SYSTEM_PYTHON, TOP, wait_for
from test_live_egress import SERVER, Beyond, beyond

__all__ = ["beyond"]

TASKS = """import os, time
def tasks():
    for _ in range(500):  # one that has said its last word is counted until the kernel has taken it away
        if len(os.listdir("/proc/self/task")) == 1:
            break
        time.sleep(0.01)
    return len(os.listdir("/proc/self/task"))
"""


def library(beyond: Beyond, code: str) -> str:
    whole = f"import sys; sys.path.insert(0, {f'{TOP}/src'!r}); import dolium\n{TASKS}{code}"
    ended = subprocess.run([*beyond.enter, SYSTEM_PYTHON, "-IS", "-c", whole], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 0, ended
    return ended.stdout


def hosts_servers(beyond: Beyond) -> str:
    """The library takes the host's name servers: give it such a file."""
    return f"import dolium.engine.etc as etc; etc.servers = lambda options: [{SERVER!r}]\n"


def test_the_library(beyond: Beyond, alpine: str) -> None:
    """One after the other, several at once, a Sandbox, a forked child; nothing of it stays in the process."""
    text = library(beyond, hosts_servers(beyond) + f"""
import os, threading
net = dolium.allow("good.example:80", "198.51.100.2:81")
def heard(**more):
    return dolium.run(["nc", "-w", "3", "good.example", "80"], image={alpine!r}, network=net, text=True, **more).stdout
print(repr(net), heard())
def held():
    targets = [os.readlink("/proc/self/fd/" + each) for each in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + each)]
    return sum(each.startswith(("net:", "socket:", "anon_inode:[eventfd")) for each in targets)
before = held()
fds = sorted(os.listdir("/proc/self/fd"))
found = []
threads = [threading.Thread(target=lambda: found.append(heard())) for _ in range(6)]
[each.start() for each in threads]; [each.join() for each in threads]
print(len(found), {{*found}})
with dolium.Sandbox(image={alpine!r}, network=net) as box:
    print(box.run(["nc", "-w", "3", "good.example", "80"], text=True).stdout, box.run(["nc", "-w", "3", "198.51.100.3", "80"]).exit_code)
    child = os.fork()
    if not child:
        os._exit(held() - before)
    print("child", os.waitpid(child, 0)[1], held() > before, box.run(["nc", "-w", "3", "good.example", "80"], text=True).stdout)
print(sorted(os.listdir("/proc/self/fd")) == fds, tasks())
""")
    assert text.count("from 198.51.100.1 80") == 4 and "6 {'from 198.51.100.1 80\\n'}" in text, text
    assert "child 0 True from" in text and text.endswith("True 1\n") and "'allow=good.example:80,198.51.100.2:81'" in text, text
    wait_for(lambda: beyond.links() == {"dolium0", "out"})


def test_a_step_of_the_host_fails(beyond: Beyond) -> None:
    """Whichever it is, the error names it, nothing runs and nothing is left."""
    text = library(beyond, """
import os
from dolium.runtime import guard
dolium.run(["true"], network="bridge")
net = dolium.allow("192.0.2.1:80")
dolium.run(["true"], network=net)
held = sorted(os.listdir("/proc/self/fd"))
def refuse(*_):
    raise OSError(28, "No space left on device")
for where, name in ((guard.sys, "new_network"), (guard, "ioctl"), (guard, "_load"), (guard.sys, "enter_network"), (guard, "start_new_thread"), (guard.os, "eventfd")):
    usual = getattr(where, name)
    setattr(where, name, refuse)
    try:
        dolium.run(["true"], network=net)
        print("it ran")
    except (dolium.StepError, RuntimeError, OSError) as error:
        print(name, type(error).__name__, error)
    setattr(where, name, usual)
print(dolium.run(["true"], network=net).exit_code, sorted(os.listdir("/proc/self/fd")) == held, tasks())
""")
    assert "it ran" not in text and text.count("StepError") == 6 and text.endswith("0 True 1\n"), text
    for each in ("a network namespace, lo up", "nft: 1 rule, else refused", "resolver at 127.0.0.11"):
        assert each in text
    wait_for(lambda: beyond.links() == {"dolium0", "out"})


def test_without_its_resolver_no_name_leads_anywhere(beyond: Beyond, alpine: str) -> None:
    text = library(beyond, hosts_servers(beyond) + f"""
with dolium.Sandbox(image={alpine!r}, network=dolium.allow("good.example:80", "198.51.100.2:80")) as box:
    def heard(host):
        return box.run(["nc", "-w", "3", host, "80"], text=True).stdout.strip()
    print(heard("good.example"), heard("198.51.100.2"))
    box._running.guard.close()
    print([heard("good.example"), heard("198.51.100.2"), heard("198.51.100.3")])
""")
    assert text == "from 198.51.100.1 80 from 198.51.100.2 80\n['', 'from 198.51.100.2 80', '']\n"


def test_aio(beyond: Beyond, alpine: str) -> None:
    text = library(beyond, hosts_servers(beyond) + f"""
import asyncio, dolium.aio
async def main():
    ran = [dolium.aio.run(["nc", "-w", "3", "good.example", "80"], image={alpine!r}, network=dolium.allow("good.example:80"), text=True) for _ in range(4)]
    print({{each.stdout for each in await asyncio.gather(*ran)}})
asyncio.run(main())
""")
    assert text == "{'from 198.51.100.1 80\\n'}\n"


def test_a_pool(beyond: Beyond, alpine: str) -> None:
    text = library(beyond, hosts_servers(beyond) + f"""
with dolium.Pool(size=2, image={alpine!r}, network=dolium.allow("good.example:80")) as pool:
    def heard(host):
        return pool.run(["nc", "-w", "3", host, "80"], text=True).stdout.strip()
    print([heard("good.example"), heard("198.51.100.2"), heard("good.example")])
    with pool.take() as box:
        print(box.run(["nc", "-w", "3", "good.example", "80"], text=True).stdout.strip())
print(tasks())
""")
    assert text == "['from 198.51.100.1 80', '', 'from 198.51.100.1 80']\nfrom 198.51.100.1 80\n1\n"
