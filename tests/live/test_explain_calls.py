"""The system calls that `dolium explain --step N` shows are those that strace(1) sees, in that order, with those arguments."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from containers import DOLIUM, SLOW, Dolium

from dolium.core.wire import INSIDE, OUTSIDE
from dolium.plan import calls, saved

NAMES = {"prlimit": "prlimit64", "sigprocmask": "rt_sigprocmask", "recv": "recvfrom"}
SEEN = re.compile(r"^(\d+)\s+(\w+)\((.*)$")
CALL = re.compile(r"(?:\w+ = )?(\w+)\((.*)$")
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|\b[A-Z][A-Z0-9]*_[A-Z0-9_]+\b')
ELSEWHERE = {"wait", "kill", "fork"}
"""Of PID 1 of --init."""


def expected(steps: list[saved.Step], actor: int) -> list[tuple[str, list[str], str]]:
    """(name, words that stand in its arguments, the step) of each call of that actor."""
    found = []
    for step in steps:
        if not step.actor & actor:
            continue
        for line in calls.of(step):
            other = "# outside" if actor == INSIDE else "# inside"
            if line.startswith("#") or line.endswith(other) or "..." in line:
                continue
            name, arguments = CALL.match(line).groups()  # type: ignore[union-attr]
            tokens = [each for each in TOKEN.findall(arguments) if "CHILD" not in each and "<" not in each and each != '"."']
            if name == "execve":  # strace only counts the variables
                tokens = [each for each in tokens if "=" not in each]
            if name == "write" and "open(" in arguments:
                found.append(("open", [each for each in tokens if each[0] != '"' or each.startswith('"/')], step.what))
                tokens = [each for each in tokens if each[0] == '"' and not each.startswith('"/')]
            found.append((name, [each for each in tokens if each not in ("SIG_DFL", "SIG_SETMASK")], step.what))
    return [(NAMES.get(name, name), tokens, what) for name, tokens, what in found if name not in ELSEWHERE]


def traced(text: str) -> dict[str, list[tuple[str, str]]]:
    """Process -> its calls; what was interrupted by others' is put together again."""
    begun: dict[str, str] = {}
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        pid, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            begun[pid] = rest.removesuffix("<unfinished ...>")
            continue
        if rest.startswith("<... "):
            rest = begun.pop(pid, "") + rest.partition(">")[2]
        if match := SEEN.match(f"{pid} {rest}"):
            found.setdefault(pid, []).append((match[2], match[3]))
    return found


REQUESTS = [
    (),
    ("--memory", "64m", "--cpus", "0.5", "--read-only", "--tmpfs", "/x", "--ulimit", "core=0", "--user", "5:6", "--workdir", "/tmp"),
    ("--userns", "host", "--security-opt", "no-new-privileges=false", "--sysctl", "kernel.msgmax=4096", "-v", "/etc:/data:ro"),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=["plain", "limits", "host"])
def test_what_is_shown_is_what_is_called(root: Dolium, alpine: str, folder: str, request_: tuple[str, ...]) -> None:
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace here")
    words = ["--rm", "--network", "none", "--hostname", "box", *request_, alpine, "true"]
    assert root("explain", "--save", f"{folder}/plan", *words).code == 0
    document = json.loads(Path(folder, "plan").read_text())
    ran = subprocess.run([strace, "-f", "-qq", "-s", "4096", "-o", f"{folder}/trace", DOLIUM, "run", *words], capture_output=True,
                         timeout=60 * SLOW, env=root.environment)  # fmt: skip
    if ran.returncode:
        pytest.skip(f"nothing can be traced here: {ran.stderr.decode()[-200:]}")
    seen = traced(Path(folder, "trace").read_text())
    clone = next((pid, arguments) for pid, lines in seen.items() for name, arguments in lines if name == "clone3" and "NEWPID" in arguments)
    actors = {OUTSIDE: clone[0], INSIDE: clone[1].rpartition("= ")[2].split()[0]}
    steps = saved.read(document, "plan").steps
    for actor, pid in actors.items():
        wanted, lines, at = expected(steps, actor), iter(seen[pid]), 0
        assert len(wanted) > 20
        for name, tokens, what in wanted:
            tokens = [each.replace(document["id"], "") for each in tokens if document["id"] not in each or each[0] != '"']
            for _seen, arguments in lines:
                at += 1
                if (_seen == name or (_seen, name) == ("openat", "open")) and all(same(each) in arguments for each in tokens):
                    break
            else:
                pytest.fail(f"{what}: nobody has called {name}({' '.join(tokens)}) after the {at}th call", pytrace=False)


def same(token: str) -> str:
    """As strace writes it: ids of the plan are not those of the run, nor are host ids."""
    return token if not re.fullmatch(r'"\d+ \d+ \d+\\n"|"(uid|gid)=\d+"|"52\d+"', token) else ""
