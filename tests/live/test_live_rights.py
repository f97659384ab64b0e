"""Flags that say who the program is and what it may do: users, capabilities, filters, masks."""

import json
import os
import shutil

import pytest
from containers import Dolium, fields
from test_live_flags import says

from dolium.plan.capabilities import NUMBERS


def held(dolium: Dolium, *words: str) -> int:
    seen = fields(dolium.output(*words, "cat", "/proc/self/status"))
    assert seen["CapEff"] == seen["CapPrm"] == seen["CapBnd"], seen
    return int(seen["CapEff"], 16)


@pytest.mark.parametrize(("words", "names"), [
    (["--cap-drop", "ALL"], []), (["--cap-drop=all", "--cap-add=net_raw,CAP_CHOWN"], ["NET_RAW", "CHOWN"]),
    (["--cap-drop", "ALL", "--cap-add", "SYS_ADMIN"], ["SYS_ADMIN"])])  # fmt: skip
def test_capabilities_are_exact(dolium: Dolium, alpine: str, words: list[str], names: list[str]) -> None:
    assert held(dolium, *words, alpine) == sum(1 << NUMBERS[f"CAP_{name}"] for name in names)


def test_what_a_capability_is_for(dolium: Dolium, alpine: str) -> None:
    inside = "ip addr add 10.1.2.3/32 dev lo && ip addr show lo | grep -c 10.1.2.3"
    assert dolium("run", alpine, "sh", "-c", inside).code != 0
    assert dolium.output("--cap-add", "NET_ADMIN", alpine, "sh", "-c", inside) == "1\n"
    inside = "mkdir /tmp/r && chroot / true"
    dolium.output(alpine, "sh", "-c", inside)
    assert "not permitted" in dolium("run", "--cap-drop", "SYS_CHROOT", alpine, "sh", "-c", inside).stderr


def test_more_power_inside_is_none_outside(dolium: Dolium, alpine: str) -> None:
    """All capabilities, of a user namespace of its own, and no filter: the host's clock and parameters stay."""
    words = ["--cap-add", "ALL", "--security-opt", "seccomp=unconfined", alpine]
    ended = dolium("run", *words, "sh", "-c", "date -s 2001-01-01; sysctl -w kernel.panic=99; hostname fine && hostname")
    if ended.code == 125:  # no user namespace here, or not all capabilities to give
        assert "hint: " in ended.stderr
    else:
        assert ended.stdout.endswith("fine\n") and ended.stderr.count("ermitted") + ended.stderr.count("ead-only") >= 2, ended


@pytest.mark.parametrize(("given", "ids"), [("7:8", "7 8 8"), ("bin", "1 1 1 2 3"), ("nobody", "65534 65534 65534"),
                                            ("bin:video", "1 27 27"), ("4000", "4000 0 0")])  # fmt: skip
def test_users(root: Dolium, alpine: str, given: str, ids: str) -> None:
    inside = "echo $(id -u) $(id -g) $(id -G); touch /etc/motd 2>/dev/null && echo WROTE"
    assert root("run", "--user", given, alpine, "sh", "-c", inside).stdout.strip() == ids
    assert root.output("-u", "mail", alpine, "sh", "-c", "echo $HOME") == "/var/mail\n"


def test_users_that_are_not_there(root: Dolium, alpine: str) -> None:
    assert "no user `nosuch`" in says(root, "-u", "nosuch", alpine, "true")[0]
    assert "no group `nosuch`" in says(root, "-u", "1:nosuch", alpine, "true")[0]
    ended = root("run", "-u", "70000", alpine, "id", "-u")
    if ended.shares_users:
        assert ended.stdout == "70000\n"
    else:
        assert ended.code == 125 and "the container has only the ids from 0 to 65535" in ended.stderr, ended
    assert root.output("-u", "70000", "--userns", "host", alpine, "id", "-u") == "70000\n"


def test_a_plain_user_has_one_user(plain: Dolium) -> None:
    assert plain.output("-u", "0", "@host", "id", "-u") == "0\n"
    said, hint = says(plain, "-u", "1000", "@host", "true")
    assert "one user only" in said and "--user" in hint
    assert "only in a user namespace" in says(plain, "--userns", "host", "@host", "true")[0]


def test_userns_required(dolium: Dolium, alpine: str) -> None:
    ended = dolium("run", "--userns", "required", alpine, "cat", "/proc/self/uid_map")
    if ended.code == 125:
        assert ended.stderr.startswith("error: unsupported: --userns required: "), ended
    else:
        assert ended.stdout.split()[0] == "0" and ended.stdout.split()[2] in ("65536", "1") and ended.err == b"", ended


def test_a_filter_of_your_own(dolium: Dolium, alpine: str, folder: str) -> None:
    profile = {"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"],
               "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28}]}  # fmt: skip
    with open(f"{folder}/profile.json", "w") as file:
        json.dump(profile, file)
    ended = dolium("run", "--security-opt", f"seccomp={folder}/profile.json", alpine, "mkdir", "/x")
    assert ended.code == 1 and "No space left on device" in ended.stderr, ended
    assert fields(dolium.output("--security-opt", "seccomp=unconfined", alpine, "cat", "/proc/self/status"))["Seccomp"] == "0"
    assert "No such file" in says(dolium, "--security-opt", f"seccomp={folder}/none.json", alpine, "true")[0]


def test_new_privileges(dolium: Dolium, alpine: str) -> None:
    for given, number in ("no-new-privileges", "1"), ("no-new-privileges=false", "0"):
        seen = fields(dolium.output("--security-opt", given, alpine, "cat", "/proc/self/status"))
        assert (seen["NoNewPrivs"], seen["Seccomp"]) == (number, "2")


def test_a_setuid_program(root: Dolium, folder: str) -> None:
    """It gives its owner's rights only where that was asked for."""
    shutil.copy("/usr/bin/id", f"{folder}/id")
    os.chmod(f"{folder}/id", 0o4755)
    words = ["-u", "1000", "-v", f"{folder}:/opt", "@host", "/opt/id", "-u"]
    assert root.output(*words) == "1000\n"
    assert root.output("--security-opt", "no-new-privileges=false", *words) == "0\n"


def test_masks(dolium: Dolium, alpine: str) -> None:
    inside = "cat /etc/fstab; ls -A /etc/apk; cat /proc/uptime; echo x >/etc/fstab"
    ended = dolium("run", "--security-opt", "mask=/etc/fstab:/etc/apk", "--security-opt", "mask=/proc/uptime", alpine, "sh", "-c", inside)
    assert ended.stdout == "", ended
    before = dolium.output(alpine, "sh", "-c", "grep -c ' /proc/' /proc/self/mountinfo")
    after = dolium("run", "--security-opt", "unmask=ALL", alpine, "sh", "-c", "grep -c ' /proc/' /proc/self/mountinfo").stdout
    assert int(after) == 0 < int(before)
    seen = dolium.output("--security-opt", "unmask=/proc/interrupts", alpine, "sh", "-c", "grep -c ' /proc/' /proc/self/mountinfo")
    assert int(seen) == int(before) - 1
