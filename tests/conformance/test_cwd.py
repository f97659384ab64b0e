"""`process.cwd`: who may enter it, and what is refused; for `run` and `exec`, and with runc the same."""

from __future__ import annotations

import json
import os
import shutil
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
CASES: dict[str, tuple[Owners, str, dict[str, Any], dict[str, str]]] = {
    # directories with owner, group and mode; process.cwd; process.user; what `run` and `exec` print, or an error's words
    "user-alone": ({"/a": (101000, UNMAPPED, 0o700)}, "/a", USER, {"run": "/a", "exec": "/a"}),
    "by-a-link": ({"/a": (101000, UNMAPPED, 0o700)}, "/link", USER, {"run": "/a", "exec": "/a"}),
    "root-alone": ({"/a": (100000, 100000, 0o700)}, "/a", USER, {"run": "/a", "exec": "/a"}),
    "by-a-group": ({"/a": (UNMAPPED, 105000, 0o070)}, "/a", ROOT_IN_A_GROUP, {"run": "/a", "exec": "/a"}),
    "nobody": ({"/a": (UNMAPPED, UNMAPPED, 0o700)}, "/a", USER, {"run": "denied", "exec": "denied"}),
    "below-the-users": ({"/a": (101000, UNMAPPED, 0o700), "/a/b": (101000, UNMAPPED, 0o755)}, "/a/b", USER, {"run": "/a/b", "exec": "/a/b"}),
    "nothing-below": ({"/a": (101000, UNMAPPED, 0o700)}, "/a/b", USER, {"run": "no such file", "exec": "no such file"}),
    "no-directory": ({}, "/etc/passwd", USER, {"run": "not a directory", "exec": "not a directory"}),
}
UNLIKE = {("runc", "below-the-users", "run"): "denied", ("runc", "nothing-below", "run"): "denied"}
"""runc makes it where it is not there, and an error of that is final; crun enters it, as we do."""


def prepared(bundle: Bundle, case: str, verb: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config of the container, and the process that is to be there."""
    owners, cwd, user, _ = CASES[case]
    subprocess.run(["chown", "-hR", "100000:100000", bundle.rootfs], check=True)
    os.symlink("a", f"{bundle.rootfs}/link")
    for path in owners:
        os.mkdir(f"{bundle.rootfs}{path}")
    for path, (uid, gid, mode) in owners.items():
        os.chown(f"{bundle.rootfs}{path}", uid, gid)
        os.chmod(f"{bundle.rootfs}{path}", mode)
    process = {"user": user, "cwd": cwd, "args": ["/bin/sh", "-c", "/bin/pwd"], "env": [], "noNewPrivileges": True}
    spec = config(linux__uidMappings=MAPPING, linux__gidMappings=MAPPING, process__args=["sleep", "1000"])
    spec["linux"]["namespaces"].append({"type": "user"})
    if verb == "run":
        spec["process"] |= process
    return spec, process


def said(bundle: Bundle, runtime: str, case: str, verb: str) -> str:
    """What the program prints, or the error with which it does not come to that."""
    spec, process = prepared(bundle, case, verb)
    bundle.write(spec)
    argv = [runtime, "--root", f"{bundle.directory}/state"]
    how: dict[str, Any] = {"env": bundle.environment, "stdin": subprocess.DEVNULL, "timeout": 60 * SLOW}
    try:
        if verb == "run":
            ended = subprocess.run([*argv, "run", "--bundle", bundle.directory, bundle.id], capture_output=True, text=True, **how)
        else:
            subprocess.run([*argv, "run", "--detach", "--bundle", bundle.directory, bundle.id], check=True, **how)
            with open(f"{bundle.directory}/process.json", "w") as file:
                json.dump(process, file)
            ended = subprocess.run([*argv, "exec", "--process", f"{bundle.directory}/process.json", bundle.id], capture_output=True, text=True, **how)
    finally:
        subprocess.run([*argv, "delete", "--force", bundle.id], check=True, **how)
    assert ended.returncode == (0 if ended.stdout else 1 if verb == "run" else 255), ended
    return ended.stdout.strip() or ended.stderr


@pytest.mark.parametrize("runtime", ["dolium-oci", "runc"])
@pytest.mark.parametrize("verb", ["run", "exec"])
@pytest.mark.parametrize("case", CASES)
def test_who_may_enter_it(bundle: Bundle, case: str, verb: str, runtime: str) -> None:
    path = bundle.runtime if runtime == "dolium-oci" else shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin")
    if not path:
        pytest.skip("no runc here")
    expected = UNLIKE.get((runtime, case, verb), CASES[case][3][verb])
    found = said(bundle, path, case, verb)
    assert expected in found if not expected.startswith("/") else found == expected, found
