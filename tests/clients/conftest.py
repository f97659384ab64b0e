"""The machines with engines: one for each file of tests, because engines are slow to start."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from containers import SLOW, TOP
from lab import Lab

ALPINE = f"{os.path.dirname(TOP)}/shared/rootfs/alpine-minirootfs-3.20.3-x86_64.tar.gz"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if os.path.dirname(item.path) == os.path.dirname(__file__):
            item.add_marker(pytest.mark.needs_root)


@pytest.fixture(scope="session")
def tarball() -> str:
    """Alpine, of which the engines make their image."""
    source = os.environ.get("ROOTFS") or ALPINE
    if not os.path.isfile(source):
        pytest.skip(f"no Alpine tarball: {source} is none; name one by ROOTFS=")
    return os.path.abspath(source)


def _life(fixture_name: str, config: pytest.Config) -> str:
    """One for all files under emulation, where to install takes minutes."""
    return "session" if SLOW > 1 else "module"


@pytest.fixture(scope=_life)
def installed() -> Iterator[Lab]:
    """A machine with Dolium."""
    found = Lab()
    try:
        found.install()
        yield found
    finally:
        found.close()


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, installed: Lab) -> Lab:
    """That machine with the programs in NEEDS of the module that asks; those that the host has not are installed in it alone."""
    for program, package in request.module.NEEDS.items():
        said = "" if installed.has(program) else installed.add(package)
        if not installed.has(program):
            pytest.skip(f"{program} is not installed, and cannot be: apt-get install {package}: {said}")
    return installed
