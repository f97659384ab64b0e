"""A shell in a container as a person has it: in a window of tmux, which is a terminal that nobody of ours has made."""

import os
import shutil
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator

import leaks
import pytest
from containers import SLOW, Dolium, wait_for


class Window:
    """One window, and in it a shell that starts dolium."""

    def __init__(self, who: Dolium, directory: str, columns: int, rows: int) -> None:
        self.tmux = [shutil.which("tmux") or "tmux", "-S", f"{directory}/socket", "-f", "/dev/null"]
        self.how = {"user": who.uid, "group": who.uid, "extra_groups": []} if who.uid != os.geteuid() else {}
        self.environment = {**who.environment, "TERM": "xterm", "PS1": "outer> ", "SHELL": "/bin/sh"}
        self("new-session", "-d", "-x", str(columns), "-y", str(rows), "exec sh")
        self.shows("outer>")

    def __call__(self, *words: str) -> str:
        done = subprocess.run([*self.tmux, *words], capture_output=True, text=True, env=self.environment, timeout=30 * SLOW, **self.how)  # type: ignore[call-overload]
        assert done.returncode == 0, (words, done.stderr)
        return str(done.stdout)

    def lines(self) -> list[str]:
        """What the window shows, without empty lines."""
        return [line.rstrip() for line in self("capture-pane", "-p", "-J").splitlines() if line.strip()]

    def shows(self, text: str) -> None:
        """Wait until a line begins with it."""
        deadline = time.monotonic() + 15 * SLOW
        while not any(line.startswith(text) for line in self.lines()):
            assert time.monotonic() < deadline, f"{text!r} is not shown: {self.lines()}"
            time.sleep(0.03)

    def clear(self) -> None:
        """Until nothing but the prompt is shown: what is typed before that could be cleared with the rest."""
        self.type("clear")
        wait_for(lambda: self.lines() == ["in>"] or time.sleep(0.03))

    def type(self, text: str) -> None:
        """A line, and the return key.  Not at once: busybox asks where the cursor is, and what comes before tmux's answer to
        that it takes for a part of it, in a container or not."""
        time.sleep(0.15 * SLOW)
        self("send-keys", "-l", text)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        self("send-keys", *keys)

    def prompts(self) -> None:
        """Wait until the shell inside has nothing to do."""
        wait_for(lambda: self.lines()[-1:] == ["in>"])


def has_terminal(pid: int) -> bool:
    """Whether it is in the foreground of its terminal."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return fields[2] == fields[5]


def runs(*words: str) -> bool:
    """Whether a program of ours with these words has its terminal."""
    for pid in leaks.family():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read() == "".join(f"{each}\0" for each in words).encode() and has_terminal(pid):
                    return True
        except OSError:
            continue
    return False


@pytest.fixture
def window(user: Dolium) -> Iterator[Window]:
    if not shutil.which("tmux"):
        pytest.skip("no tmux here")
    with tempfile.TemporaryDirectory(prefix="dolium-tmux-", dir="/tmp") as directory:
        os.chmod(directory, 0o700)
        if user.uid != os.geteuid():
            os.chown(directory, user.uid, user.uid)
        found = Window(user, directory, 90, 28)
        try:
            yield found
        finally:
            found("kill-server")
            user("ps")  # settles what the test has left in the middle


@pytest.mark.parametrize("kind", ["directory", "@host"])
def test_a_shell(request: pytest.FixtureRequest, user: Dolium, window: Window, kind: str) -> None:
    image = "@host" if kind == "@host" else request.getfixturevalue("alpine" if user.uid == 0 else "own_alpine")
    window.type(f"{user.command[0]} run --rm --network none -h pot -e 'PS1=in> ' -it {image} sh; echo code=$?")
    window.shows("in>")

    window.type("echo $((6 * 7)) typed; stty size")  # typing and size
    window.shows("42 typed")
    window.shows("28 90")
    window("resize-window", "-x", "70", "-y", "20")
    wait_for(lambda: "20 70" in (window.type("stty size"), time.sleep(0.1 * SLOW), window.lines())[2])
    window.clear()

    window.type("sleep 986; echo interrupted=$?")  # Ctrl-C
    wait_for(lambda: runs("sleep", "986"))
    window.press("C-c")
    window.prompts()
    window.type("echo alive=$?")
    window.shows("alive=130")

    window.clear()
    window.type("sleep 987; echo slept=$?")  # Ctrl-Z, fg
    wait_for(lambda: runs("sleep", "987"))
    window.press("C-z")
    wait_for(lambda: any("topped" in line and "sleep 987" in line for line in window.lines()))
    window.type("fg")
    wait_for(lambda: runs("sleep", "987"))
    window.press("C-c")
    window.prompts()

    window.clear()
    window.type("cat > /dev/shm/x")  # Ctrl-D
    window.type("a line")
    window.press("C-d")
    window.type("cat /dev/shm/x | tr a-z A-Z")
    window.shows("A LINE")
    window.type("exit 41")
    window.shows("code=41")

    window.type("stty -a | grep -c -e '-icanon' -e '-echo ' -e '-isig'; echo as before")  # the outer terminal
    window.shows("as before")
    assert window.lines()[window.lines().index("as before") - 1] == "0"


def test_suspended_and_brought_back(user: Dolium, window: Window) -> None:
    """SIGTSTP to dolium from elsewhere: the outer shell has its terminal back, and `fg` gives it away again."""
    window.type(f"{user.command[0]} run --rm --network none -e 'PS1=in> ' -it @host sh")
    window.shows("in>")
    panes = window("list-panes", "-F", "#{pane_pid}").strip()
    with open(f"/proc/{panes}/task/{panes}/children") as file:
        (dolium,) = file.read().split()
    os.kill(int(dolium), 20)
    wait_for(lambda: any("topped" in line for line in window.lines()))
    window.type("echo outside")
    window.shows("outside")
    window.type("fg")
    with open(f"/proc/{dolium}/fd/0", "rb", buffering=0) as terminal:
        wait_for(lambda: has_terminal(int(dolium)) and not termios.tcgetattr(terminal)[3] & termios.ICANON)
    window.type("echo inside; exit 6")
    window.shows("inside")
    window.type("echo then=$?")
    window.shows("then=6")


def test_exec(user: Dolium, window: Window) -> None:
    ended = user("run", "-d", "@host", "sleep", "1000")
    try:
        window.type(f"{user.command[0]} exec -e 'PS1=in> ' -it {ended.stdout.strip()} sh; echo code=$?")
        window.shows("in>")
        window.type("stty size; tty")
        window.shows("28 90")
        window.shows("/dev/pts/0")
        window.type("sleep 988")
        wait_for(lambda: runs("sleep", "988"))
        window.press("C-c")
        window.prompts()
        window.type("exit 9")
        window.shows("code=9")
    finally:
        user("rm", "-f", ended.stdout.strip())
