"""What tests of real containers share: a rootfs, the command as two users, and the check that nothing is left."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import pytest

TESTS = os.path.dirname(os.path.abspath(__file__))
for _path in (f"{os.path.dirname(TESTS)}/src", TESTS):
    if _path not in sys.path:
        sys.path.insert(0, _path)

import leaks
from bundles import Bundle, scratch
from containers import DOLIUM, NOBODY, TOP, Begin, Dolium
from machine import Machine
from networks import Site
from stranger import Stranger

ALPINE = f"{os.path.dirname(TOP)}/shared/rootfs/alpine-minirootfs-3.20.3-x86_64.tar.gz"
WATCHED = ("live", "security", "api", "conformance")
"""Directories below tests/ whose every test is watched for leaks; others ask for the fixture `nothing_left`."""
_not_run = 0


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "needs_root: not run as a plain user")
    # Begun in the background by a shell it is ignored, here and by all that the tests start: Ctrl-C would not be tested.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    global _not_run
    if os.geteuid() == 0:
        return
    out = [item for item in items if item.get_closest_marker("needs_root") or "root" in getattr(item, "fixturenames", ())]
    if out:
        _not_run = len(out)
        config.hook.pytest_deselected(items=out)
        items[:] = [item for item in items if item not in out]


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _not_run:
        line = f"{_not_run} not run: need root"
        terminalreporter.write_line(line)
        if os.access(f"{TOP}/.build", os.W_OK):  # `make test` ends with it; a plain user of a machine cannot
            with open(f"{TOP}/.build/not-run", "w") as file:
                file.write(line + "\n")


@pytest.fixture(autouse=True)
def _watch(request: pytest.FixtureRequest) -> None:
    """First of all fixtures, so that it looks last."""
    if os.path.relpath(request.path, TESTS).split(os.sep)[0] in WATCHED:
        request.getfixturevalue("nothing_left")


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Fails the test if a process, mount, cgroup, lease, network namespace or descriptor of it is still there after it."""
    leaks.adopt_orphans()
    before = leaks.world()
    yield
    remaining = leaks.left(before)
    assert not remaining, "left behind:\n" + "\n".join(remaining)


@pytest.fixture
def strace() -> str:
    """The program; the test is skipped where it is absent."""
    found = shutil.which("strace")
    if not found:
        pytest.skip("no strace")
    return found


@pytest.fixture(scope="session")
def workshop() -> Iterator[str]:
    """A directory that every user can read, gone after the session."""
    path = tempfile.mkdtemp(prefix="dolium-test-", dir="/tmp")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def alpine(workshop: str) -> str:
    """Alpine's root file system as a directory, readable for all: from ROOTFS=, else from ../shared/rootfs."""
    source = os.environ.get("ROOTFS") or ALPINE
    if os.path.isdir(source):
        return os.path.abspath(source)
    if not os.path.exists(source):
        pytest.skip(f"no Alpine root file system: {source} does not exist; name one by ROOTFS=")
    path = f"{workshop}/alpine"
    os.mkdir(path)
    subprocess.run(["tar", "-xzf", source, "-C", path, "--numeric-owner"], check=True)
    os.chmod(path, 0o755)
    return path


@pytest.fixture(scope="session")
def own_alpine(workshop: str, alpine: str) -> str:
    """The same, every file of it owned by the plain user."""
    if os.geteuid() != 0 and alpine.startswith(workshop):
        return alpine
    path = f"{workshop}/alpine-of-plain-user"
    shutil.copytree(alpine, path, symlinks=True)
    if os.geteuid() == 0:
        subprocess.run(["chown", "-hR", f"{NOBODY}:{NOBODY}", path], check=True)
    return path


@pytest.fixture
def dolium() -> Dolium:
    """The command `dolium`, run by whoever runs the tests."""
    return Dolium()


@pytest.fixture
def site(root: Dolium) -> Iterator[Site]:
    """The command in a network namespace of the test's own."""
    yield from _site(alone=False)


@pytest.fixture
def lonely(root: Dolium) -> Iterator[Site]:
    """The same, with state and data directories of its own besides."""
    yield from _site(alone=True)


def _site(alone: bool) -> Iterator[Site]:
    for tool in ("nft", "ip", "ping", "nsenter", "unshare"):
        if not shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
            pytest.skip(f"no {tool} here")
    found = Site(alone)
    yield found
    found.close()


@pytest.fixture
def machine(root: Dolium) -> Iterator[Machine]:
    """The command with directories of the test's own, which can be rebooted."""
    found = Machine()
    yield found
    found.close()


@pytest.fixture
def stranger(folder: str) -> Stranger:
    """A clone in which nothing is made yet, with few programs and no network."""
    os.chmod(folder, 0o755)
    return Stranger(folder)


@pytest.fixture
def root() -> Dolium:
    """The command, run by root; a plain user does not run tests that ask for it."""
    return Dolium()


_reachable: dict[int, str] = {}


@pytest.fixture
def plain() -> Dolium:
    """The command, run by a plain user without any group, subordinate id or capability."""
    user = Dolium(NOBODY if os.geteuid() == 0 else None)
    if user.uid not in _reachable:
        ended = user("--version", argv=["/bin/sh", DOLIUM]) if _can_read(user) else None
        fine = ended is not None and ended.code == 0
        _reachable[user.uid] = "" if fine else f"uid {user.uid} cannot read {TOP}: {ended and ended.stderr}"
    if _reachable[user.uid]:
        pytest.skip(_reachable[user.uid])
    return user


@pytest.fixture(params=["root", "plain"])
def user(request: pytest.FixtureRequest) -> Dolium:
    """The command as root, then as a plain user."""
    found: Dolium = request.getfixturevalue(request.param)
    return found


@pytest.fixture(params=["directory", "@host"])
def image(request: pytest.FixtureRequest, user: Dolium) -> str:
    """Alpine in a directory, then this host's own files."""
    if request.param == "@host":
        return "@host"
    return str(request.getfixturevalue("alpine" if user.uid == 0 else "own_alpine"))


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a container that runs detached, and removes it after the test."""
    begun: list[tuple[Dolium, str]] = []

    def start(who: Dolium, *words: str, program: tuple[str, ...] = ("sleep", "1000")) -> str:
        ended = who("run", "-d", *words, *program)
        assert (ended.code, ended.stderr) == (0, ""), ended
        begun.append((who, ended.stdout.strip()))
        return begun[-1][1]

    yield start
    for who, name in begun:
        who("rm", "-f", name)


def _can_read(user: Dolium) -> bool:
    with user.start(argv=["/bin/sh", "-c", f"test -r {DOLIUM} && test -r {TOP}/src/dolium/programs/dolium-init"]) as process:
        return process.wait() == 0


@pytest.fixture
def bundle(root: Dolium, alpine: str) -> Iterator[Bundle]:
    """A bundle with a rootfs of its own, and a state directory for its container alone."""
    yield from _bundle(alpine)


def _bundle(alpine: str) -> Iterator[Bundle]:
    path = scratch()
    found = Bundle(path, alpine, f"{path}/state")
    yield found
    found.close()
    shutil.rmtree(path)


@pytest.fixture
def folder(workshop: str) -> Iterator[str]:
    """An empty directory for one test, readable for all."""
    path = tempfile.mkdtemp(dir=workshop)
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)
