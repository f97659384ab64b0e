"""The environment of the tests, half made, at a stranger's (test_at_a_strangers.py has the rest)."""

import shutil
from pathlib import Path

import pytest
from containers import TOP
from stranger import TEST, Stranger


@pytest.mark.needs_root
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
