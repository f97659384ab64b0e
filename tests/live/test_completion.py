"""Completions, by the shells themselves: a line is typed at a terminal, then Tab."""

import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from archives import archive, entry
from containers import SLOW, SYSTEM_PYTHON, TOP, Dolium

CASES = [
    ("dolium renam", "dolium rename "),
    ("dolium run --pids", "dolium run --pids-limit"),
    ("dolium run --userns req", "dolium run --userns required"),
    ("dolium run --userns=req", "dolium run --userns=required"),
    ("dolium run -it --cap-add NET_BI", "dolium run -it --cap-add NET_BIND_SERVICE"),
    ("dolium run -m 64m --network bri", "dolium run -m 64m --network bridge"),
    ("dolium run --security-opt no-new-privileges=f", "dolium run --security-opt no-new-privileges=false"),
    ("dolium run --env-file ./only-f", "dolium run --env-file ./only-file"),
    ("dolium run -v ./only-f", "dolium run -v ./only-file"),
    ("dolium run ./only-d", "dolium run ./only-directory/"),
    ("dolium run --rm @ho", "dolium run --rm @host"),
    ("dolium explain -e ONLY_VARI", "dolium explain -e ONLY_VARIABLE"),
    ("dolium run --device /dev/nul", "dolium run --device /dev/null"),
    ("dolium kill -s WINC", "dolium kill -s WINCH"),
    ("dolium system res", "dolium system reset"),
    ("dolium rm completed-e", "dolium rm completed-ended"),
    ("dolium rm -f completed-e", "dolium rm -f completed-ended"),
    ("dolium logs --tail 5 completed-e", "dolium logs --tail 5 completed-ended"),
    ("dolium stop completed", "dolium stop completed-runs"),
    ("dolium exec -i completed", "dolium exec -i completed-runs"),
    ("dolium rename completed-e", "dolium rename completed-ended"),
    ("dolium rmi comp", "dolium rmi complete/app:1.0"),
    ("dolium rmi -f complete/app:", "dolium rmi -f complete/app:1.0"),
    ("dolium history comp", "dolium history complete/app:1.0"),
    ("dolium tag comp", "dolium tag complete/app:1.0"),
    ("dolium push -q comp", "dolium push -q complete/app:1.0"),
    ("dolium save -o x.tar comp", "dolium save -o x.tar complete/app:1.0"),
    ("dolium run --rm complete/", "dolium run --rm complete/app:1.0"),
    ("dolium explain complete/app", "dolium explain complete/app:1.0"),
    ("dolium commit completed-ended comp", "dolium commit completed-ended complete/app:1.0"),
    ("dolium import ./only-f", "dolium import ./only-file"),
    ("dolium images comp", "dolium images complete/app:1.0"),
    ("dolium image verif", "dolium image verify"),
    ("dolium image inspect comp", "dolium image inspect complete/app:1.0"),
    ("dolium image rm --force comp", "dolium image rm --force complete/app:1.0"),
    ("dolium image prune --al", "dolium image prune --all"),
    ("dolium image inspect --form", "dolium image inspect --format"),
    ("dolium load -i ./only-f", "dolium load -i ./only-file"),
    ("dolium save --format oci-ar", "dolium save --format oci-archive"),
    ("dolium pull --platform linux/arm", "dolium pull --platform linux/arm64"),
    ("dolium run --pull nev", "dolium run --pull never"),
    ("dolium run --network container:comp", "dolium run --network container:completed-runs"),
    ("dolium cp completed-e", "dolium cp completed-ended:"),
    ("dolium cp ./only-f", "dolium cp ./only-file"),
    ("dolium explain --id completed-e", "dolium explain --id completed-ended"),
    ("dolium doctor apparm", "dolium doctor apparmor-userns"),
]
NOT = ["dolium run @host cat --pids", "dolium ps completed", "dolium rename completed-ended completed-e", "dolium run --name completed-r",
       "dolium frobnicate --pids", "dolium image frobnicate comp", "dolium login comp", "dolium rm complete/a"]  # fmt: skip
"""Where nothing of ours belongs."""


@pytest.fixture(scope="module")
def place(workshop: str) -> Iterator[str]:
    """A directory with something of each kind to complete."""
    path = f"{workshop}/completion"
    os.makedirs(f"{path}/only-directory")
    Path(path, "only-file").touch()
    made = subprocess.run([SYSTEM_PYTHON, "-IBS", "-c", f"import sys; sys.path.insert(0, {TOP + '/make'!r}); import completion, os\n"
                           f"for name, text in completion.scripts().items():\n os.makedirs(os.path.dirname({path!r} + '/' + name))\n "
                           f"open({path!r} + '/' + name, 'w').write(text)"])  # fmt: skip
    assert made.returncode == 0
    yield path


@pytest.fixture
def two(dolium: Dolium) -> Iterator[None]:
    """Two containers and an image."""
    dolium.forgets = False
    try:
        assert dolium("run", "-d", "--name", "completed-runs", "@host", "sleep", "1000").code == 0
        assert dolium("run", "--name", "completed-ended", "@host", "true").code == 0
        assert dolium("import", "-", "complete/app:1.0", input=archive(entry("file"))).code == 0
        yield
    finally:
        removed = dolium("rm", "-f", "completed-runs", "completed-ended")
        assert removed.code == 0, removed
        assert dolium("rmi", "complete/app:1.0").code == 0


class Terminal:
    """An interactive shell."""

    def __init__(self, place: str, *argv: str) -> None:
        if not shutil.which(argv[0]):
            pytest.skip(f"no {argv[0]} here")
        environment = {"PATH": f"{TOP}/bin:/usr/bin:/bin", "HOME": "/", "TERM": "vt100", "COLUMNS": "200", "ONLY_VARIABLE": "1",
                       "LC_ALL": "C.UTF-8"}  # fmt: skip
        environment |= {name: os.environ[name] for name in ("DOLIUM_PYTHON", "XDG_RUNTIME_DIR") if name in os.environ}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(place)
            os.execvpe(argv[0], argv, environment)

    def type(self, keys: str) -> str:
        """What comes up to a line that begins with RESULT, and that line."""
        os.write(self.fd, keys.encode())
        seen, deadline = "", time.monotonic() + 20 * SLOW
        while True:
            found = re.search(r"[\r\n]RESULT (.*?)[ /]*\r", seen)
            if found:
                return found[1]
            assert time.monotonic() < deadline, seen
            if select.select([self.fd], [], [], 0.1)[0]:
                seen += os.read(self.fd, 65536).decode("utf-8", "replace")

    def complete(self, line: str) -> str:
        """The line after Tab: Ctrl-A goes to its beginning, and `echo` in front has the shell print it."""
        return self.type(f"{line}\t\x01echo RESULT \n")

    def close(self) -> None:
        os.close(self.fd)
        os.waitpid(self.pid, 0)


def shell(place: str, name: str) -> Terminal:
    if name == "bash":
        terminal = Terminal(place, "bash", "--norc", "--noprofile", "-i")
        start = "source share/bash-completion/completions/dolium; complete -p dolium"
    else:
        terminal = Terminal(place, "zsh", "-f", "-i")
        start = "fpath=($PWD/share/zsh/site-functions $fpath); autoload -Uz compinit; compinit -u -D; bindkey -e; unsetopt automenu nomatch"
    terminal.type(f"{start}; echo RESULT ready\n")
    return terminal


@pytest.mark.parametrize("name", ["bash", "zsh"])
def test_at_a_terminal(place: str, two: None, name: str) -> None:
    terminal = shell(place, name)
    try:
        wrong = {line: found for line, wanted in CASES if (found := terminal.complete(line)) != wanted.rstrip(" /")}
        wrong |= {line: found for line in NOT if (found := terminal.complete(line)) != line}
    finally:
        terminal.close()
    assert not wrong


def test_fish(place: str, two: None) -> None:
    if not shutil.which("fish"):
        pytest.skip("no fish here")
    script = f"source {place}/share/fish/vendor_completions.d/dolium.fish; for line in $argv; echo \"line $line\"; complete -C $line; end"
    environment = {**os.environ, "PATH": f"{TOP}/bin:/usr/bin:/bin", "HOME": "/", "ONLY_VARIABLE": "1"}
    done = subprocess.run(["fish", "--no-config", "-c", script, *(line for line, _ in CASES), *NOT], cwd=place, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    answers: dict[str, list[str]] = {}
    for each in done.stdout.splitlines():
        if each.startswith("line "):
            line = each.removeprefix("line ")
            answers[line] = []
        else:
            answers[line].append(each.partition("\t")[0])
    assert not {line: answers[line] for line, wanted in CASES if wanted.split()[-1] not in answers[line]}
    assert not {line: answers[line] for line in NOT if any(each.startswith(("completed", "--pids")) for each in answers[line])}
