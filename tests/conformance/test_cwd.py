"""`process.cwd`: who may enter it, and what is refused, by `run` and `exec`; test_beside_others.py asks runc and crun."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from bundles import Bundle, config
from containers import SLOW

MAPPING = [{"containerID": 0, "hostID": 100000, "size": 65536}]
USER = {"uid": 1000, "gid": 1000}
ROOT_IN_A_GROUP = {"uid": 0, "gid": 0, "additionalGids": [5000]}
UNMAPPED = 0
"""An id of the host that the container has not: root of its user namespace has no power over what belongs to it, capabilities(7)."""
Owners = dict[str, tuple[int, int, int]]
CASES: dict[str, tuple[Owners, str, dict[str, Any], str]] = {
    # directories with owner, group and mode; process.cwd; process.user; what is printed, or an error's words
    "user-alone": ({"/a": (101000, UNMAPPED, 0o700)}, "/a", USER, "/a"),
    "by-a-link": ({"/a": (101000, UNMAPPED, 0o700)}, "/link", USER, "/a"),
    "root-alone": ({"/a": (100000, 100000, 0o700)}, "/a", USER, "/a"),
    "by-a-group": ({"/a": (UNMAPPED, 105000, 0o070)}, "/a", ROOT_IN_A_GROUP, "/a"),
    "nobody": ({"/a": (UNMAPPED, UNMAPPED, 0o700)}, "/a", USER, "denied"),
    "below-the-users": ({"/a": (101000, UNMAPPED, 0o700), "/a/b": (101000, UNMAPPED, 0o755)}, "/a/b", USER, "/a/b"),
    "nothing-below": ({"/a": (101000, UNMAPPED, 0o700)}, "/a/b", USER, "no such file"),
    "no-directory": ({}, "/etc/passwd", USER, "not a directory"),
}


def said(bundle: Bundle, runtime: list[str], case: str) -> dict[str, str]:
    """What the program prints, or the error with which it does not come to that, by verb."""
    owners, cwd, user, _ = CASES[case]
    bundle.give(100000)
    os.symlink("a", f"{bundle.rootfs}/link")
    for path in owners:
        os.mkdir(f"{bundle.rootfs}{path}")
    for path, (uid, gid, mode) in owners.items():
        os.chown(f"{bundle.rootfs}{path}", uid, gid)
        os.chmod(f"{bundle.rootfs}{path}", mode)
    process = {"user": user, "cwd": cwd, "args": ["/bin/sh", "-c", "/bin/pwd"], "env": [], "noNewPrivileges": True}
    spec = config(linux__uidMappings=MAPPING, linux__gidMappings=MAPPING, process__args=["sleep", "1000"])
    spec["linux"]["namespaces"].append({"type": "user"})
    with open(f"{bundle.directory}/process.json", "w") as file:
        json.dump(process, file)

    def call(*words: str, **how: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*runtime, "--root", f"{bundle.directory}/state", *words], env=bundle.environment, stdin=subprocess.DEVNULL,
                              text=True, timeout=60 * SLOW, **how)

    try:
        bundle.write({**spec, "process": {**spec["process"], **process}})
        ended = {"run": call("run", "--bundle", bundle.directory, bundle.id, capture_output=True)}
        bundle.write(spec)
        call("run", "--detach", "--bundle", bundle.directory, bundle.id, check=True)
        ended["exec"] = call("exec", "--process", f"{bundle.directory}/process.json", bundle.id, capture_output=True)
    finally:
        call("delete", "--force", bundle.id, check=True)
    for verb, each in ended.items():
        assert each.returncode == (0 if each.stdout else 1 if verb == "run" else 255), each
    return {verb: each.stdout.strip() or each.stderr.lower() for verb, each in ended.items()}


def is_as(found: str, expected: str) -> bool:
    return found == expected if expected.startswith("/") else expected in found


@pytest.mark.parametrize("case", CASES)
def test_who_may_enter_it(bundle: Bundle, case: str) -> None:
    for verb, found in said(bundle, [bundle.runtime], case).items():
        assert is_as(found, CASES[case][3]), (verb, found)
