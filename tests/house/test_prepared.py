"""What the build prepares is what a start would make itself."""

import marshal
import os
from importlib.util import MAGIC_NUMBER

import pytest

from dolium.core import PROGRAMS
from dolium.plan import capabilities, filter, seccomp
from dolium.plan.seccomp_default import default_profile


def content(name: str) -> bytes:
    if not os.path.exists(f"{PROGRAMS}/{name}"):
        pytest.skip(f"{name} has not been built: make")
    with open(f"{PROGRAMS}/{name}", "rb") as file:
        return file.read()


def test_filters_are_those_of_the_compiler() -> None:
    filters = marshal.loads(content("filters"))
    profile = default_profile(frozenset(capabilities.DEFAULT))
    assert filters[filter.key(profile, "x86_64")] == seccomp.compile(profile)


@pytest.mark.parametrize(("name", "main"), [("modules", "dolium.cli.run"), ("modules-oci", "dolium.cli.oci_life")])
def test_modules_are_those_of_the_source(name: str, main: str) -> None:
    saved = content(name)
    if saved[: len(MAGIC_NUMBER)] != MAGIC_NUMBER:
        pytest.skip("built for another Python")
    _, modules = marshal.loads(saved[len(MAGIC_NUMBER) :])
    assert {"dolium", main, "dolium.plan.build", "dolium.runtime.launch", "dolium.core.wire"} <= set(modules)
    for _, path, changed, size, _ in modules.values():
        status = os.stat(path)
        assert (status.st_mtime_ns, status.st_size) == (changed, size), f"{path} is newer than the build: make"
