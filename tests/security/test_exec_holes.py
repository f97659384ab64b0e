"""Published holes of entering a running container, one test for each, named after it."""

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
from containers import SLOW, Begin, Dolium, fields, wait_for

from dolium.core import PROGRAMS

HERE = os.path.dirname(os.path.abspath(__file__))
LONG_PATH = "PATH=" + "/a:" * 20000 + "/bin"
"""So long a search for the program that whoever looks sees who is searching."""


@pytest.fixture(scope="session")
def watcher(workshop: str) -> str:
    """The hostile program, in a directory of its own."""
    compiler = shutil.which("musl-gcc") or shutil.which("cc")
    if not compiler:
        pytest.skip("no C compiler")
    path = f"{workshop}/hostile"
    os.mkdir(path)
    os.chmod(path, 0o755)
    subprocess.run([compiler, "-static", "-Wall", "-Wextra", "-O1", "-o", f"{path}/watcher", f"{HERE}/watcher.c"], check=True)
    return path


def output(who: Dolium, *words: str) -> str:
    ended = who("exec", *words)
    assert (ended.code, ended.stderr) == (0, ""), ended
    return ended.stdout


def refused(who: Dolium, *words: str) -> str:
    ended = who("exec", *words)
    assert ended.code == 125 and ended.stdout == "" and ended.stderr.startswith("error: "), ended
    return ended.stderr


def seen(who: Dolium, name: str, *flags: str) -> list[str]:
    """What the watcher in a container saw while it was entered so often."""
    def lines() -> list[str]:
        return who("logs", name).stdout.splitlines()

    wait_for(lambda: "ready" in lines())
    for _ in range(15 if flags else 40):
        assert who("exec", *flags, "-e", LONG_PATH, name, "true").code == 0
    found = lines()
    assert "OWN" in found, "the watcher can trace what it may trace"
    assert any(each.startswith("SEEN") for each in found), "it did not see the one that came"
    return found


@pytest.mark.parametrize("flags", [(), ("-t",)])
def test_cve_2016_9962_nobody_inside_reaches_the_one_who_enters(
        root: Dolium, begin: Begin, alpine: str, watcher: str, flags: tuple[str, ...]) -> None:  # fmt: skip
    """With every capability there is in the container's own user namespace."""
    name = begin(root, "--cap-add", "ALL", "-v", f"{watcher}:/hostile:ro", alpine, program=("/hostile/watcher", "trace"))
    found = seen(root, name, *flags)
    assert {each.split()[0] for each in found} == {"OWN", "ready", "SEEN"}


def test_cve_2016_9962_a_plain_users_container(plain: Dolium, begin: Begin, own_alpine: str, watcher: str) -> None:
    name = begin(plain, "--cap-add", "ALL", "-v", f"{watcher}:/hostile:ro", own_alpine, program=("/hostile/watcher", "trace"))
    found = seen(plain, name)
    assert {each.split()[0] for each in found} == {"OWN", "ready", "SEEN"}


@pytest.mark.parametrize("flags", [(), ("-t",)])
@pytest.mark.parametrize("words", [(), ("--security-opt", "no-new-privileges=false")])
def test_cve_2016_9962_who_may_trace_all_of_the_host_gains_nothing(
        root: Dolium, begin: Begin, alpine: str, watcher: str, words: tuple[str, ...], flags: tuple[str, ...]) -> None:  # fmt: skip
    """With the host's users and CAP_SYS_PTRACE nothing is out of reach: so there is nothing to be had.  Of a terminal only
    the program's own end."""
    name = begin(root, "--userns", "host", "--cap-add", "SYS_PTRACE", *words, "-v", f"{watcher}:/hostile:ro", alpine,
                 program=("/hostile/watcher", "look"))  # fmt: skip
    found = seen(root, name, *flags)
    links = {each.split(" ", 2)[2] for each in found if each.startswith("FD")}
    assert links, "it could look"
    assert all(re.match(r"(pipe|socket):|/dev/null$|/dev/pts/\d+$", each) for each in links), links
    assert any(each.startswith("/dev/pts/") for each in links) == bool(flags)
    numbers = [int(each.split()[1]) for each in found if each.startswith("FD") and "socket:" in each]
    assert len(numbers) <= sum(each.startswith("SEEN") for each in found), "one end of one pair"
    assert not [each for each in found if each.startswith(("MAP", "WRITTEN"))]
    bounds = fields(output(root, name, "cat", "/proc/self/status"))
    assert int(bounds["CapBnd"], 16) == int(fields(output(root, name, "cat", "/proc/1/status"))["CapBnd"], 16)


def digest() -> str:
    found = hashlib.sha256()
    for name in ("dolium-init", "dolium-keep"):
        with open(f"{PROGRAMS}/{name}", "rb") as file:
            found.update(file.read())
    return found.hexdigest()


@pytest.mark.parametrize("userns", ["auto", "host"])
def test_cve_2019_5736_what_enters_cannot_be_overwritten(
        root: Dolium, begin: Begin, alpine: str, watcher: str, userns: str) -> None:  # fmt: skip
    before = digest()
    words = ("--userns", userns, "--cap-add", "SYS_PTRACE", "-v", f"{watcher}:/hostile:ro", alpine)
    name = begin(root, *words, program=("/hostile/watcher", "look"))
    output(root, name, "sh", "-c", "printf '#!/proc/self/exe\\n' > /evil; chmod 755 /evil; ln -s /proc/self/exe /again")
    for _ in range(20):
        for program in ("/evil", "/again", "/proc/self/exe"):
            root("exec", name, program)
    lines = root("logs", name).stdout.splitlines()
    assert any(each.startswith("SEEN") for each in lines) and "WRITTEN" not in lines
    assert digest() == before


@pytest.mark.parametrize("number", [0, *range(3, 24), 63])
def test_cve_2024_21626_no_directory_of_the_host_is_the_working_one(
        root: Dolium, shared_container: str, number: int) -> None:  # fmt: skip
    said = refused(root, "-w", f"/proc/self/fd/{number}", shared_container, "ls")
    assert f"/proc/self/fd/{number}" in said
    output(root, shared_container, "ln", "-sfn", f"/proc/self/fd/{number}", "/tmp/link")
    refused(root, "-w", "/tmp/link", shared_container, "ls")
    refused(root, "-w", "/tmp/link/../..", shared_container, "ls")


@pytest.fixture(scope="module")
def shared_container(workshop: str, alpine: str) -> Iterator[str]:
    """One for all numbers."""
    who = Dolium()
    if os.geteuid():
        pytest.skip("as root")
    name = who("run", "-d", alpine, "sleep", "1000").stdout.strip()
    yield name
    who("rm", "-f", name)


def test_cve_2024_21626_nothing_of_the_host_is_open(root: Dolium, begin: Begin, alpine: str) -> None:
    leaky = [os.open("/", os.O_RDONLY | os.O_DIRECTORY) for _ in range(20)]
    try:
        name = begin(root, alpine)
        ended = root("exec", name, "sh", "-c", "ls -l /proc/$$/fd /proc/$$/cwd /proc/$$/root; true", pass_fds=leaky)
    finally:
        for fd in leaky:
            os.close(fd)
    targets = [line.split(" -> ")[1] for line in ended.stdout.splitlines() if " -> " in line]
    assert len(targets) == 5 and all(re.match(r"(pipe:.*|/dev/null|/)$", each) for each in targets), targets


def test_cve_2022_29162_nothing_is_inheritable(root: Dolium, begin: Begin, alpine: str) -> None:
    name = begin(root, "--cap-add", "NET_ADMIN", alpine)
    for words in ((), ("-u", "nobody")):
        status = fields(output(root, *words, name, "cat", "/proc/self/status"))
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        assert int(status["CapBnd"], 16) == int(fields(output(root, name, "cat", "/proc/1/status"))["CapBnd"], 16)


def test_cve_2016_3697_cve_2026_30892_users_are_read_strictly(root: Dolium, begin: Begin, alpine: str) -> None:
    """In the passwd that the container has made of its own by now."""
    name = begin(root, alpine)
    output(root, name, "sh", "-c", "echo 0:x:1000:1000::/:/bin/sh > /etc/passwd; echo 7:x:0:0::/:/bin/sh >> /etc/passwd")
    assert output(root, "-u", "0", name, "id", "-u") == "0\n"
    assert output(root, "-u", "7", name, "id", "-u") == "7\n"
    for text in ("+0", "-1", " 0", "0x0", "0:", ":0", "0:0:0", "", "4294967295", "٣"):
        refused(root, "-u", text, name, "id")


@pytest.mark.parametrize("trap", ["ln -sf /dev/zero /etc/passwd", "mkfifo /etc/passwd", "truncate -s 5G /etc/passwd", "mkdir /etc/passwd"])
def test_cve_2026_47262_a_passwd_that_is_none(root: Dolium, begin: Begin, alpine: str, trap: str) -> None:
    name = begin(root, alpine)
    output(root, name, "sh", "-c", f"rm /etc/passwd; {trap}")
    began = time.monotonic()
    refused(root, "-u", "mail", name, "id")
    assert time.monotonic() - began < 20 * SLOW
    if trap.startswith("truncate"):
        refused(root, "-u", "8:8", name, "echo")  # its home would be read there
    else:
        assert output(root, "-u", "8:8", name, "echo", "fine") == "fine\n"  # whom no file knows, for this is none
    assert output(root, name, "echo", "fine") == "fine\n"


def test_cve_2018_15664_a_passwd_that_leads_outside(root: Dolium, begin: Begin, alpine: str, folder: str) -> None:
    """Links of the container end in the container, also those of its /proc."""
    with open(f"{folder}/passwd", "w") as file:
        file.write("outsider:x:5:5::/:/bin/sh\n")
    name = begin(root, alpine)
    for target in (f"{folder}/passwd", f"/../../../../../../..{folder}/passwd", f"/proc/1/root{folder}/passwd"):
        output(root, name, "ln", "-sfn", target, "/etc/passwd")
        assert "no user `outsider`" in refused(root, "-u", "outsider", name, "id") or "proc" in target
