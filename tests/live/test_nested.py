"""Dolium in a container: one of its own and one of Podman's.  It runs or says why not, and what the doctor says is so."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess

import pytest
from containers import DOLIUM, SYSTEM_PYTHON, TOP, Dolium

from dolium.plan import mends

OPEN = ("--security-opt", "seccomp=unconfined", "--security-opt", "unmask=ALL")
"""What another user namespace takes: unshare, mount and the like, and a whole /proc."""
INNER = ("--network", "none", "-e", f"DOLIUM_PYTHON={SYSTEM_PYTHON}", "-v", f"{TOP}:{TOP}:ro")
TRUE = (DOLIUM, "run", "--rm", "--network", "none", "@host", "sh", "-c", "echo inner; exit 3")


def verdicts(text: str) -> dict[str, dict[str, object]]:
    return {each["id"]: each for each in json.loads(text)}


def test_in_one_of_its_own_that_is_open_it_runs(user: Dolium) -> None:
    ended = user("run", *INNER, *OPEN, "@host", *TRUE)
    assert (ended.code, ended.stdout, ended.stderr) == (3, "inner\n", ""), ended
    ended = user("run", *INNER, *OPEN, "@host", DOLIUM, "doctor", "--json")
    made = verdicts(ended.stdout)
    assert ended.code == 0 and made["trial-containers"]["ok"] and made["trial-kept"]["ok"], ended
    assert "runs in a container" in str(made["outer"]["found"]) and made["outer"]["job"] == ""


@pytest.mark.parametrize(("flags", "step"), [((), "unshare"), (("--cap-add", "SYS_ADMIN"), "keyring"), (OPEN[:2], "/proc")])
def test_in_one_that_is_not_it_says_what_forbids_it(root: Dolium, flags: tuple[str, ...], step: str) -> None:
    ended = root("run", *INNER, *flags, "@host", *TRUE)
    assert ended.code == 125 and ended.stderr.startswith("error: cannot ") and step in ended.stderr.splitlines()[0], ended
    hint = ended.stderr.splitlines()[-1]
    assert hint.startswith("hint: ") and "outer container" in hint and "`dolium doctor " in hint
    ended = root("run", *INNER, *flags, "@host", DOLIUM, "doctor", "--json")
    made = verdicts(ended.stdout)
    assert ended.code == 1 and not made["outer"]["ok"] and not made["trial-containers"]["ok"], ended
    taken = str(made["outer"]["found"])
    assert ("seccomp" in taken) == (flags != OPEN[:2]) and "parts of /proc" in taken
    assert ("CAP_SYS_ADMIN" in taken) == ("--cap-add" not in flags)


class Podman:
    """Podman with directories of its own, and a root file system that has this host's programs."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        limits = [f'"{name}={hard}:{hard}"' for name, kind, most in (("nofile", resource.RLIMIT_NOFILE, 1 << 20), ("nproc", resource.RLIMIT_NPROC, 32768))
                  if (hard := min(each if each >= 0 else most for each in (resource.getrlimit(kind)[1], most)))]  # fmt: skip
        with open(f"{folder}/containers.conf", "w") as file:
            file.write(f'[containers]\ndefault_ulimits=[{", ".join(limits)}]\n[engine]\ncgroup_manager="cgroupfs"\nevents_logger="none"\n'
                       + ('runtime="runc"\n' if shutil.which("runc") else ""))  # fmt: skip
        for each in ("usr", "etc", "proc", "sys", "dev", "tmp", "run", "var"):
            os.makedirs(f"{folder}/rootfs/{each}")
        for each in ("bin", "sbin", "lib", "lib64"):
            os.symlink(f"usr/{each}", f"{folder}/rootfs/{each}")

    def __call__(self, *words: str, flags: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        places = [f"--{name}={self.folder}/{name}" for name in ("root", "runroot", "tmpdir")]
        volumes = ["-v", "/usr:/usr:ro", "-v", f"{TOP}:{TOP}:ro", "-e", f"DOLIUM_PYTHON={SYSTEM_PYTHON}"]
        return subprocess.run(["podman", *places, "run", "--rm", "--network", "none", *volumes, *flags, "--rootfs", f"{self.folder}/rootfs", *words],
                              env={**os.environ, "CONTAINERS_CONF": f"{self.folder}/containers.conf"}, stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=120)  # fmt: skip


@pytest.mark.needs_root
def test_in_podmans(folder: str) -> None:
    if not shutil.which("podman"):
        pytest.skip("no podman here")
    podman = Podman(folder)
    if (tried := podman("true")).returncode:
        pytest.skip(f"podman itself does not run: {tried.stderr.strip()[-200:]}")
    refused = podman(*TRUE)
    assert refused.returncode == 125 and "outer container" in refused.stderr and "`dolium doctor " in refused.stderr, refused
    asked = podman(DOLIUM, "doctor", "--json")
    made = verdicts(asked.stdout)
    assert asked.returncode == 1 and made["outer"]["mend"] == "podman run --privileged" and not made["trial-containers"]["ok"]
    # what that line says is so
    assert podman(*TRUE, flags=("--privileged",)).stdout == "inner\n"
    asked = podman(DOLIUM, "doctor", "--json", flags=("--privileged",))
    assert asked.returncode == 0 and {each: check["found"] for each, check in verdicts(asked.stdout).items() if not check["ok"] and check["job"]} == {}


WINDOWS = "echo {} >/tmp/release; mount --bind /tmp/release /proc/sys/kernel/osrelease"
"""What uname(2) says there, proc_sys_kernel(5)."""


@pytest.mark.parametrize(("mark", "environment", "name"), [
    ("touch /.dockerenv", "a=b", "Docker"), ("touch /run/.containerenv", "a=b", "Podman"),
    ("mkdir -p /run/secrets/kubernetes.io; ln -s /run /var/run", "a=b", "Kubernetes"), ("true", "container=lxc", "LXC"),
    ("mkdir /run/systemd; echo systemd-nspawn >/run/systemd/container", "a=b", "systemd-nspawn"), ("true", "container=mine", "mine"),
    ("mkdir -p /run/host; echo systemd-nspawn >/run/host/container-manager", "a=b", "systemd-nspawn"),
    ("true", "KUBERNETES_SERVICE_HOST=10.0.0.1", "Kubernetes"), ("true", "container=oci", "a container"),
    (WINDOWS.format("4.4.0-19041-Microsoft"), "a=b", "WSL 1"), (WINDOWS.format("6.6.87.2-microsoft-standard-WSL2"), "a=b", "WSL 2"),
    (WINDOWS.format("6.1.21-mine-WSL2+"), "a=b", "WSL 2"),
])  # fmt: skip
def test_by_which_marks_an_outer_one_is_known(dolium: Dolium, mark: str, environment: str, name: str) -> None:
    """As each of them leaves them; what follows is said by the name."""
    ended = dolium("run", *INNER, *OPEN, "--cap-add", "SYS_ADMIN", "-e", environment, "@host", "sh", "-c", f"{mark}; exec {DOLIUM} doctor --json")
    assert f"this system runs in {name}, which takes away " in str(verdicts(ended.stdout)["outer"]["found"]), ended
    ended = dolium("run", *INNER, "--security-opt", "seccomp=unconfined", "--cap-add", "SYS_ADMIN", "-e", environment, "@host", "sh", "-c",
                   f"{mark}; exec {DOLIUM} doctor --json")  # fmt: skip
    assert verdicts(ended.stdout)["outer"]["mend"] == mends.OUTER.get(name, ""), ended
