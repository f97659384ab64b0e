"""Copying between a container and the host: what programs inside put in the way leads nowhere."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from containers import Dolium, read_line


def read(path: str) -> str:
    with open(path, errors="replace") as file:
        return file.read()


RACES = """cd /w; mkdir real; echo safe > real/file; ln -s /etc link; ln -s /outside far; echo ready
while :; do mv real was; mv link real; mv real link; mv was real; done"""


@pytest.mark.parametrize("direction", ["out", "in"])
def test_cve_2018_15664_a_link_put_in_place_of_a_directory(root: Dolium, alpine: str, folder: str, direction: str) -> None:
    """Whatever is in its place at that moment, nothing is read from or written to the host's own /etc and the directory beside."""
    root.forgets = False
    name = f"cp-race-{os.getpid()}"
    secret = f"{folder}/passwd"
    with open(secret, "w") as file:
        file.write("the host's")
    before = {each: os.stat(f"/etc/{each}").st_mtime_ns for each in ("passwd", ".")}
    with root.start("run", "--name", name, alpine, "sh", "-c", "mkdir /w; " + RACES) as process:
        try:
            assert read_line(process) == "ready"
            for at in range(25):
                if direction == "out":
                    root("cp", "-q", f"{name}:/w/real", f"{folder}/out{at}")
                    if os.path.islink(f"{folder}/out{at}"):  # that is what was there
                        continue
                    for directory, _, files in os.walk(f"{folder}/out{at}"):
                        for each in files:
                            path = f"{directory}/{each}"
                            if not os.path.islink(path):
                                assert read(path) not in ("the host's", read("/etc/passwd"))
                else:
                    root("cp", secret, f"{name}:/w/real/dolium-test-passwd")
            assert not os.path.exists("/etc/dolium-test-passwd")
            assert before == {each: os.stat(f"/etc/{each}").st_mtime_ns for each in before}
        finally:
            root("rm", "-f", name)


def test_cve_2019_14271_no_library_of_the_container_is_loaded(root: Dolium, alpine: str, folder: str) -> None:
    """Nothing is looked up by a library that could be the container's: owners stay numbers."""
    root.forgets = False
    name = f"cp-nss-{os.getpid()}"
    with root.start("run", "--name", name, alpine, "sh", "-c", "mkdir -p /lib /usr/lib; for l in files compat systemd; do "
                    "echo evil > /lib/libnss_$l.so.2; done; echo x > /x; echo ready; sleep 1000") as process:  # fmt: skip
        try:
            assert read_line(process) == "ready"
            trace = subprocess.run(["strace", "-f", "-e", "trace=open,openat", "-o", f"{folder}/trace", *root.command, "cp", f"{name}:/x", f"{folder}/x"],
                                   capture_output=True) if shutil.which("strace") else None  # fmt: skip
            if trace is None:
                assert root("cp", f"{name}:/x", f"{folder}/x").code == 0
            else:
                assert trace.returncode == 0 and "libnss" not in read(f"{folder}/trace")
            assert read(f"{folder}/x") == "x\n"
        finally:
            root("rm", "-f", name)
