"""How the tests start the real command, as themselves or as a plain user, and look at what runs."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

TESTS = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(TESTS)
DOLIUM = f"{TOP}/bin/dolium"
SLOW = float(os.environ.get("DOLIUM_TEST_SLOW", "1"))
"""How much slower than a bare machine this one is: 20 under software emulation."""
SYSTEM_PYTHON = "/usr/bin/python3"
"""One that every user may run; `sys.executable` may lie in somebody's home."""
NOBODY = 65534
SHARED = "dolium: the container shares the host's users: "


class Ended:
    """How one run of the command ended: `code`, `out` and `err` as they came, `stdout` and `stderr` as text.

    `stderr` leaves out the one line which says that this host cannot give a container users of its own; `shares_users`
    says whether it was there.
    """

    def __init__(self, code: int, out: bytes, err: bytes) -> None:
        self.code = code
        self.out = out
        self.err = err
        lines = err.decode("utf-8", "replace").splitlines(keepends=True)
        self.stdout = out.decode("utf-8", "replace")
        self.stderr = "".join(line for line in lines if not line.startswith(SHARED))
        self.shares_users = any(line.startswith(SHARED) for line in lines)

    def __repr__(self) -> str:
        return f"Ended({self.code}, {self.stdout[-2000:]!r}, {self.stderr[-2000:]!r})"


class Started(subprocess.Popen[bytes]):
    """A run that goes on; a test that fails in the middle ends it."""

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if kind is not None:
            self.kill()
        super().__exit__(kind, value, traceback)


class Dolium:
    """The command, for one user.  Call it with words; `start` leaves it running.  `forgets`: every run is with --rm.

    A run that names no network gets none: what is usual for root would change the host that the tests run on.
    """

    def __init__(self, uid: int | None = None, forgets: bool = True) -> None:
        self.forgets = forgets
        self.network = "none"
        self.command = [DOLIUM]
        self.uid = os.geteuid() if uid is None else uid
        self.environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/", "LANG": "C.UTF-8"}
        if "DOLIUM_PYTHON" in os.environ:
            self.environment["DOLIUM_PYTHON"] = os.environ["DOLIUM_PYTHON"]
        if "XDG_RUNTIME_DIR" in os.environ and self.uid == os.geteuid():
            self.environment["XDG_RUNTIME_DIR"] = os.environ["XDG_RUNTIME_DIR"]

    def start(self, *words: str, argv: list[str] | None = None, env: dict[str, str] | None = None, **how: Any) -> Started:
        """Start it; standard input is empty, output goes to pipes, unless told otherwise."""
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        if words[:1] == ("run",) and self.forgets:
            words = ("run", "--rm", *words[1:])
        if words[:1] == ("run",) and self.network and not any(each.startswith("--net") for each in words):
            words = ("run", "--network", self.network, *words[1:])
        if self.uid != os.geteuid():
            how |= {"user": self.uid, "group": self.uid, "extra_groups": []}
        return Started([*(argv or self.command), *words], env={**self.environment, **(env or {})}, **how)

    def __call__(self, *words: str, input: bytes | None = None, timeout: float = 60, **how: Any) -> Ended:
        """Run it to its end."""
        if input is not None:
            how["stdin"] = subprocess.PIPE
        with self.start(*words, **how) as process:
            try:
                out, err = process.communicate(input, timeout * SLOW)
            except subprocess.TimeoutExpired:
                process.kill()
                out, err = process.communicate()
                raise AssertionError(f"{words} did not end in {timeout * SLOW} s: {out[-2000:]!r} {err[-2000:]!r}") from None
        return Ended(process.returncode, out or b"", err or b"")

    def output(self, *words: str, **how: Any) -> str:
        """The standard output of a run that succeeds and says nothing on standard error."""
        ended = self("run", *words, **how)
        assert (ended.code, ended.stderr) == (0, ""), ended
        return ended.stdout

    def refused(self, *words: str, code: int = 125, **how: Any) -> str:
        """What a run that is refused says: an error in one line, perhaps its place and a hint, and nothing on stdout."""
        ended = self("run", *words, **how)
        assert ended.code == code, ended
        assert ended.stdout == "", ended
        lines = ended.stderr.splitlines()
        assert lines[0].startswith("error: ") and "Traceback" not in ended.stderr, ended
        assert all(not each or each.startswith(("  at step ", "hint: ")) for each in lines[1:]), ended
        return ended.stderr


def wait_for(condition: Callable[[], Any], seconds: float = 10) -> Any:
    """The first true value of a condition that comes to be soon."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"still not so after {seconds * SLOW} s"
        time.sleep(0.005)


def read_line(process: subprocess.Popen[bytes]) -> str:
    """One line of what a running program prints."""
    assert process.stdout
    return process.stdout.readline().decode().rstrip("\n")


def children(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    fields = file.read().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid and fields[0] != "Z":
                found.append(int(name))
    return found


def program(pid: int) -> str:
    """The first word of a process."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
            return file.read().partition("\0")[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def keeper(process: subprocess.Popen[bytes]) -> int:
    """The dolium-keep of a running `dolium run`."""
    found: int = wait_for(lambda: next((each for each in children(process.pid) if program(each) == "dolium-keep"), 0))
    return found


def first_process(process: subprocess.Popen[bytes]) -> int:
    """The container's first process, by its pid on the host."""
    found: int = wait_for(lambda: next(iter(children(keeper(process))), 0))
    return found


def end(process: subprocess.Popen[bytes]) -> Ended:
    """Kill a run that is of no more use, as a user would: SIGTERM thrice."""
    for _ in range(200):
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    out, err = process.communicate(timeout=20 * SLOW)
    return Ended(process.returncode, out or b"", err or b"")


def fields(text: str) -> dict[str, str]:
    """/proc/PID/status and its like: name -> value."""
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


Begin = Callable[..., str]
"""What the fixture `begin` is: (who, *words of `run -d`, program=("sleep", "1000")) -> the container's id."""
