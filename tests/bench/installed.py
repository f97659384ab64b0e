"""Dolium as its users have it: put below a prefix by `make install`, where the kernel starts a command's Python without a shell."""

import os
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def installed(prefix: str) -> str:
    """The directory of the commands, after they have been installed below `prefix`."""
    argv = [f"{TOP}/.build/python", "-IS", f"{TOP}/make/install.py", "install", prefix]
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return f"{prefix}/bin"
