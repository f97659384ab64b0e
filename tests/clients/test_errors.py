"""docs/howto/engines-errors.md: what engines say, with runc and with Dolium.  `DOLIUM_GOLDEN=write` writes the page anew."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_containerd
import test_docker
import test_podman
from containers import TOP, wait_for
from lab import HERE, Lab
from pages import files

NEEDS = {**test_podman.NEEDS, **test_containerd.NEEDS, **test_docker.NEEDS}
PAGE = Path(TOP, "docs/howto/engines-errors.md")
FILES = {"/tmp/foreign": "\x7fELF\x02\x01\x01" + "\0" * 9 + "\x02\0\xf3\0" + "\0" * 44, "/tmp/crlf.sh": "#!/bin/sh\r\necho hi\r\n"}
"""Programs of the page: a header for RISC-V, elf(5), and a script from Windows."""
CHOICE = {
    "dolium": (("ctr run", f"ctr run {test_containerd.DOLIUM}"),),
    "runc": (("podman run", "podman --runtime runc run"), ("docker run", "docker run --runtime runc")),
}
"""Podman's and Docker's files name Dolium; ctr has none."""


@pytest.fixture(scope="module")
def machine(lab: Lab, tarball: str) -> Iterator[Lab]:
    lab.write({**test_podman.HERE, **files("podman.md"), **files("docker.md"), **files("containerd.md")})
    lab.write(FILES)
    lab.sh("chmod 755 /tmp/foreign /tmp/crlf.sh; rm -f /etc/docker/key.json")
    daemons = [lab.start(line, f"{lab.directory}/{line.split()[0]}.log") for line in ("containerd", f"dockerd {test_docker.HERE}")]
    try:
        wait_for(lambda: lab.sh("docker version && ctr version").code == 0, 60)
        made = lab.sh(f"podman import {tarball} localhost/alpine && docker import {tarball} alpine &&"
                      f"python3 {HERE}/images.py {tarball} alpine:latest /tmp/a.tar && ctr image import /tmp/a.tar")  # fmt: skip
        assert made.code == 0, made
        yield lab
    finally:
        for daemon in daemons:
            daemon.kill()
            daemon.wait()


def said(machine: Lab, command: str) -> str:
    """The lines that belong below it."""
    lines, codes = [], []
    for runtime in ("runc", "dolium"):
        line = command
        for old, new in CHOICE[runtime]:
            line = line.replace(old, new)
        ended = machine.sh(line)
        text = ended.stderr.partition("\n\nRun 'docker run --help'")[0].strip() or ended.stdout.strip() or "(nothing)"
        lines.append(f"    {runtime + ':':8}" + re.sub(r"usage: \d+", "usage: N", re.sub(r"[0-9a-f]{64}", "ID", text)) + "\n")
        codes.append(ended.code)
        machine.sh("ctr c rm c1")
        assert "\n" not in text and "Traceback" not in text, ended
    return "".join(lines) + f"    {'exit code ' + str(codes[0]) if codes[0] == codes[1] else f'exit codes {codes[0]} and {codes[1]}'}\n"


def test_the_page(machine: Lab) -> None:
    text = PAGE.read_text()
    blocks = re.findall(r"^    \$ (.*)\n((?:    .*\n)*)", text, re.M)
    assert len(blocks) > 10
    for command, lines in blocks:
        now = said(machine, command)
        if os.environ.get("DOLIUM_GOLDEN") == "write":
            text = text.replace(f"    $ {command}\n{lines}", f"    $ {command}\n{now}")
        else:
            assert lines == now, command
    if os.environ.get("DOLIUM_GOLDEN") == "write":
        PAGE.write_text(text)
