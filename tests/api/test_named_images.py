"""The library over an image of the store: what its config says holds for `run`, `Sandbox`, `Pool`, `preload` and snapshots."""

import os
import subprocess
from collections.abc import Iterator

import pytest
from containers import Dolium, wait_for

import dolium
from dolium.runtime import places

NAME = "localhost/dolium-test-library:1"


@pytest.fixture(scope="module")
def named(workshop: str, alpine: str) -> Iterator[str]:
    """Alpine under a name, with a config of its own; gone after these tests."""
    command = Dolium(forgets=False)
    tarball = f"{workshop}/named.tar"
    subprocess.run(["tar", "-C", alpine, "-cf", tarball, "."], check=True)
    words = [word for each in ("ENV GREETING=hello", "WORKDIR /var/work", 'CMD ["cat", "/etc/os-release"]') for word in ("--change", each)]
    ended = command("import", *words, tarball, NAME)
    assert ended.code == 0, ended
    os.unlink(tarball)
    yield NAME
    ended = command("rmi", NAME)
    assert ended.code == 0, ended


def test_run(named: str) -> None:
    seen = dolium.run(["sh", "-c", "echo $GREETING; pwd; grep ^ID= /etc/os-release"], image=named, text=True, check=True)
    assert seen.stdout == "hello\n/var/work\nID=alpine\n"
    assert dolium.run(["sh", "-c", "echo $GREETING; pwd"], image=named, env={"GREETING": "mine"}, cwd="/", text=True).stdout == "mine\n/\n"
    with pytest.raises(dolium.DoliumError):
        dolium.run(["true"], image="localhost/dolium-test-library:none")


def test_a_sandbox_and_snapshots_of_it_and_of_those(named: str) -> None:
    with dolium.Sandbox(image=named) as box:
        box.run(["sh", "-c", "echo one > first; rm /etc/motd; echo 2 > /etc/alpine-release"], check=True)
        assert box.read("/var/work/first") == b"one\n"
        snap = box.snapshot()
    with snap:
        with dolium.Sandbox(image=snap) as box:
            assert box.run(["sh", "-c", "echo $GREETING; pwd; cat first"], text=True).stdout == "hello\n/var/work\none\n"
            box.run(["sh", "-c", "mv first second; mkdir /etc/motd"], check=True)
            again = box.snapshot()
        with again:
            seen = dolium.run(["sh", "-c", "ls; ls -d /etc/motd/; cat /etc/alpine-release second"], image=again, text=True, check=True)
            assert seen.stdout == "second\n/etc/motd/\n2\none\n" and again.depth == 2
            with dolium.Pool(size=2, image=again) as pool:
                for _ in range(3):
                    assert pool.run(["sh", "-c", "echo $GREETING; cat second; rm second"], text=True).stdout == "hello\none\n"
                with pool.take() as box:
                    assert box.ls("/var/work") == ["second"]
        assert dolium.run(["sh", "-c", "cat first; test ! -e /etc/motd"], image=snap, text=True, check=True).stdout == "one\n"
    assert dolium.run(["sh", "-c", "ls; ls /etc/motd"], image=named, text=True, check=True).stdout == "/etc/motd\n"
    assert not os.listdir(f"{places.data_path()}/snapshots")


def test_a_pool(named: str) -> None:
    with dolium.Pool(size=2, image=named, memory="64M" if os.geteuid() == 0 else None) as pool:
        wait_for(lambda: pool.ready == 2)
        for _ in range(4):
            assert pool.run(["sh", "-c", "echo $GREETING; pwd; ls; touch mark"], text=True).stdout == "hello\n/var/work\n"
        with pool.take() as box:
            assert box.run(["pwd"], text=True).stdout == "/var/work\n"
            with box.snapshot() as snap:
                assert dolium.run(["pwd"], image=snap, text=True).stdout == "/var/work\n"
        with pytest.raises(dolium.UsageError):
            pool.snippet("1")


def test_preload(named: str) -> None:
    """Alpine has no Python: the pool says so at once.  One with a Python is a snapshot of the host's."""
    with pytest.raises(dolium.DoliumError, match="python3"):
        dolium.Pool(size=1, image=named, preload=["json"])
    with dolium.Sandbox() as box:
        box.write("/opt/mine/mine.py", "ANSWER = 42")
        snap = box.snapshot()
    with snap, dolium.Pool(size=2, image=snap, env={"PYTHONPATH": "/opt/mine"}, preload=["mine"]) as pool:
        found = pool.snippet("mine.ANSWER + len(open('/opt/mine/mine.py').read())")
        assert found.error == "NameError"  # it is imported, and named by who uses it
        assert pool.snippet("import mine, sys; mine.ANSWER").value == "42"


def test_an_image_that_a_pool_needs_stays(named: str) -> None:
    """Whoever takes its name away: what waits goes on, and so does what is made later of the same files."""
    command = Dolium(forgets=False)
    other = "localhost/dolium-test-library:2"
    assert command("tag", named, other).code == 0
    with dolium.Pool(size=1, image=other) as pool:
        assert command("rmi", other).code == 0
        assert command("image", "prune", "-f").code == 0
        assert pool.run(["sh", "-c", "echo $GREETING"], text=True).stdout == "hello\n"
        with pytest.raises(dolium.DoliumError):
            pool.run(["true"])  # none of that name can be made any more
