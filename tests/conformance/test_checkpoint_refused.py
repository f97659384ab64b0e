"""`checkpoint` and `restore` where there is no criu, or one that cannot: one line that says so, and nothing has happened."""

from __future__ import annotations

import json
import os

import pytest
from bundles import Bundle

EMPTY = {"PATH": "/nowhere"}
WORDS = "cannot checkpoint or restore: `criu` is not there (Debian: apt-get install criu)"


@pytest.mark.parametrize("verb", ["checkpoint", "restore"])
def test_without_criu(bundle: Bundle, verb: str) -> None:
    pid = bundle.running()
    bundle.environment = {**bundle.environment, **EMPTY}
    identity = bundle.id if verb == "checkpoint" else "another"
    ended = bundle.verb(verb, "--image-path", bundle.directory, *(["--bundle", bundle.directory] if verb == "restore" else []), identity)
    assert ended.code == 1 and ended.err == f"error: {WORDS}\n", ended
    assert bundle.state()["pid"] == pid
    assert "does not exist" in bundle.verb("state", "another").err


def test_a_criu_that_cannot(bundle: Bundle) -> None:
    """--criu names another one; what it says before it can write a log is not lost."""
    pid = bundle.running()
    path = f"{bundle.directory}/criu"
    with open(path, "w") as file:
        file.write("#!/bin/sh\necho 'Error (criu/vdso.c:1): vdso: something about this kernel' >&2\necho 'Error (criu/x.c:2): so no' >&2\nexit 1\n")
    os.chmod(path, 0o755)
    ended = bundle.verb("checkpoint", "--image-path", f"{bundle.directory}/images", bundle.id, options=("--criu", path))
    assert ended.code == 1 and ended.err == "error: criu: vdso: something about this kernel (`criu check` says whether it can work here)\n", ended
    assert bundle.state()["pid"] == pid
    ended = bundle.verb("checkpoint", bundle.id, options=("--criu", "/absent"))
    assert "`/absent` is not there" in ended.err


def test_features_say_so(bundle: Bundle) -> None:
    """By the annotation that runc has: it is about the program, not about this host."""
    found = json.loads(bundle.verb("features").out)
    assert found["annotations"]["org.opencontainers.runc.checkpoint.enabled"] == "true"
    assert "org.criu.config" in found["potentiallyUnsafeConfigAnnotations"], "it names a file of settings for criu"
