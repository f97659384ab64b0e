"""Whom `--user` means."""

from __future__ import annotations

import pytest

from dolium.engine import users
from dolium.errors import DoliumError, NotFound, SpecError

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1::/usr/sbin:/bin/false
1000:x:0:0:a name made of digits:/root:/bin/sh
www:x:33:33:web:/var/www:/bin/sh
www:x:44:44:a second one:/nowhere:/bin/sh
me:x:1000:100:Me,,,:/home/me:/bin/sh
homeless:x:7:7:::/bin/sh
broken:x:seven:7::/x:/bin/sh
short:x:9
"""
GROUP = """\
root:x:0:
tty:x:5:me,www
audio:x:29:me
users:x:100:me
me:x:1000:
77:x:0:me
bad:x:minus:me
nofields
"""


def read(path: str) -> str:
    return {"/etc/passwd": PASSWD, "/etc/group": GROUP}[path]


def find(text: str | None) -> tuple[int, int, tuple[int, ...], str]:
    user = users.find(text, read)
    return user.uid, user.gid, user.groups, user.home


@pytest.mark.parametrize(("text", "wanted"), [
    ("www", (33, 33, (5,), "/var/www")),
    ("me", (1000, 100, (5, 29, 0), "/home/me")),
    ("1000", (1000, 100, (5, 29, 0), "/home/me")),
    ("1", (1, 1, (), "/usr/sbin")),
    ("4242", (4242, 0, (), "/")),
    ("4242:4343", (4242, 4343, (), "/")),
    ("me:audio", (1000, 29, (), "/home/me")),
    ("me:7", (1000, 7, (), "/home/me")),
    ("me:77", (1000, 77, (), "/home/me")),
    ("4242:users", (4242, 100, (), "/")),
    ("homeless", (7, 7, (), "/")),
    ("0:5", (0, 5, (), "/root")),
    ("root:tty", (0, 5, (), "/root")),
    ("4294967294", (4294967294, 0, (), "/")),
    ("0007", (7, 7, (), "/")),
])  # fmt: skip
def test_found(text: str, wanted: tuple[int, int, tuple[int, ...], str]) -> None:
    assert find(text) == wanted


@pytest.mark.parametrize("text", [None, "root", "0", "0:0", "root:root"])
def test_root_needs_no_files(text: str | None) -> None:
    def refuse(path: str) -> str:
        raise AssertionError(f"{path} was read")

    assert users.find(text, refuse) is users.ROOT


@pytest.mark.parametrize("text", [
    "", ":", ":5", "me:", "me:audio:x", "a b", " me", "me ", "me\n", "me\tx", "m\0e", "me:au dio", "\x1b[2J", "\u202eme", "me:\x7f"])
def test_malformed(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        users.find(text, read)
    assert caught.value.path == "--user"


@pytest.mark.parametrize("text", ["4294967295", "4294967296", "99999999999999999999", "me:4294967295", "0:4294967295"])
def test_too_large(text: str) -> None:
    """-1 as an id means "leave it as it is" to the kernel."""
    with pytest.raises(SpecError, match="4294967294"):
        users.find(text, read)


@pytest.mark.parametrize("text", ["-1", "+5", "0x10", "1e3", "١٢", "5_0", "nobody", "ROOT", "short"])
def test_no_such_name(text: str) -> None:
    """What is not made of ASCII digits alone is a name: never half a number (CVE-2026-30892)."""
    with pytest.raises(NotFound) as caught:
        users.find(text, read)
    assert (caught.value.kind, caught.value.name) == ("user", text) and caught.value.hint


@pytest.mark.parametrize("text", ["me:nobody", "me:-5", "1:bad", "1:nofields"])
def test_no_such_group(text: str) -> None:
    with pytest.raises(NotFound) as caught:
        users.find(text, read)
    assert caught.value.kind == "group"


def test_digits_are_an_id_whatever_passwd_calls_so() -> None:
    """CVE-2016-3697: a user named `1000` with uid 0."""
    assert find("1000")[0] == 1000


def test_a_malformed_line_is_an_error() -> None:
    with pytest.raises(DoliumError, match="malformed"):
        users.find("broken", read)


@pytest.mark.parametrize("ids", ["-1:5", "5:-1", "4294967295:5", "5:4294967295", "4294967296:0", "0x0:0", " 0:0", "٠:0"])
def test_ids_in_the_images_passwd_are_parsed_as_strictly(ids: str) -> None:
    """The image is not trusted more than the command line."""
    with pytest.raises(DoliumError):
        users.find("evil", lambda path: f"evil:x:{ids}::/:/bin/sh\n" if path == "/etc/passwd" else "")


@pytest.mark.parametrize("gid", ["4294967295", "99999999999", "²", "٥"])
def test_ids_in_the_images_group_are_parsed_as_strictly(gid: str) -> None:
    def read(path: str) -> str:
        return "me:x:5:5::/:/bin/sh\n" if path == "/etc/passwd" else f"g:x:{gid}:me\n"

    with pytest.raises(DoliumError):
        users.find("me:g", read)
    with pytest.raises(DoliumError):
        if users.find("me", read).groups == ():  # passing over such a line is as good
            raise DoliumError("passed over")


def test_no_files() -> None:
    nothing = {"/etc/passwd": "", "/etc/group": ""}
    assert users.find("5:6", nothing.__getitem__).gid == 6
    with pytest.raises(NotFound):
        users.find("me", nothing.__getitem__)


def test_a_home_that_is_no_path() -> None:
    """HOME goes into the environment as it is: one line of passwd is one line."""
    user = users.find("x", lambda path: "x:x:5:5:: :/bin/sh\r\nx:x:6:6::/y:/bin/sh" if path == "/etc/passwd" else "")
    assert "\n" not in user.home
