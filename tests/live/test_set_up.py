"""What is set up at a stranger's, the whole way (test_at_a_strangers.py has what goes wrong on it)."""

import os
import shutil
from pathlib import Path

import pytest
from containers import NOBODY, TOP
from stranger import COMPILER, TEST, Stranger

pytestmark = pytest.mark.needs_root
SHOWN = "host name,processes,network,files,time,from Python,afterwards"


def test_an_environment_half_made(stranger: Stranger) -> None:
    """Thrown away and made anew; then it is left alone.  What PyPI is to give is left out."""
    stranger.has("python3", "musl-gcc", "cc")
    shutil.copytree(f"{TOP}/src/dolium/programs", f"{stranger.clone}/src/dolium/programs")  # what is not tried here
    Path(stranger.clone, "make/requirements.txt").write_text("")
    half = Path(stranger.clone, ".build/venv/bin")
    half.mkdir(parents=True)
    Path(half, "python").write_text("half")
    stranger(*TEST)
    assert Path(half, "python").is_symlink() and Path(stranger.clone, ".build/venv/complete").exists()
    assert "venv" not in stranger(*TEST)


def test_a_closed_home_a_tmp_that_runs_nothing_and_no_network(stranger: Stranger) -> None:
    """Traps 4, 7, 8, 10, 12 and 13: `make run` of a plain user, with no ping, ip or nft; the second time nothing is set up."""
    stranger.has(*COMPILER)
    os.chmod(stranger.clone, 0o700)
    mounts = (f"mount --bind {stranger.clone} /mnt; for each in /tmp /var/tmp; do mount --bind $each $each; mount -o remount,bind,noexec $each; done; "
              f"mount --bind /mnt {stranger.clone}")  # fmt: skip
    first = stranger("make", "run", uid=NOBODY, before=mounts, ROOTFS="@host")
    set_up, shown = first.split("Running as you, nobody: without root there are no limits on memory and CPU to show.\n")
    assert [line.split()[0] for line in set_up.splitlines()] == ["python", "helpers", "bytecode"]
    assert "FAILED" not in shown and {f"  ok     {each:<12}" for each in SHOWN.split(",")} <= {line[:21] for line in shown.splitlines()}, shown
    second = stranger("make", "run", uid=NOBODY, before=mounts, ROOTFS="@host")
    assert second.startswith("Running as you, nobody") and "FAILED" not in second
