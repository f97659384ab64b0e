"""Images of a plain user without subordinate ids, and the registry that they come from and go to."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

import pytest
from archives import DIRECTORY, archive, entry
from containers import Dolium, Ended
from layouts import Made, write_layout
from registry_servers import Debian, need
from test_images_run import shell
from test_tarballs import Host

__all__ = ["shell"]
OWNED = archive(entry("home/web", DIRECTORY, uid=33, gid=44, mode=0o750), entry("home/web/page", data=b"page", uid=33, gid=44, mode=0o600))


@pytest.fixture
def home(plain: Dolium, folder: str) -> Iterator[Host]:
    found = Host(plain.uid, folder)
    found.environment["HOME"] = folder
    os.chown(folder, plain.uid, -1)
    yield found
    found.close()


@pytest.fixture
def registry(folder: str) -> Iterator[Debian]:
    need("docker-registry")
    os.mkdir(f"{folder}/registry")
    found = Debian(f"{folder}/registry")
    yield found
    found.close()


def load(home: Host, folder: str, shell: bytes, **config: object) -> None:
    """An image with files of somebody else's, as `app:1`."""
    write_layout(f"{folder}/layout", {"docker.io/library/app:1": Made([shell, OWNED], {"Env": ["PATH=/bin"], **config})})
    assert done(home("load", "-i", f"{folder}/layout")) == "Loaded image: app:1\n"


def done(ended: Ended) -> str:
    assert ended.code == 0, ended
    return ended.stdout


def ids(home: Host) -> list[str]:
    return done(home("images", "-q")).split()


def test_to_a_registry_and_back(home: Host, registry: Debian, folder: str, shell: bytes) -> None:
    """All that is his, and nothing of root's: files of other users are his own in the container."""
    load(home, folder, shell, Cmd=["stat", "-c", "%u %a", "/home/web/page"])
    with open("/etc/subuid") as file:
        assert not any(line.startswith(("nobody:", f"{home.uid}:")) for line in file), "he has no other ids"
    name = f"{registry.name}/org/app:1"
    digest = done(home("push", "-q", "app:1", name))
    (identity,) = ids(home)
    done(home("rmi", "app:1"))
    assert ids(home) == [] and home("run", "--pull", "never", name).code == 125
    assert done(home("run", name)) == "0 600\n", "pulled, because it is not here"
    assert ids(home) == [identity] and done(home("pull", "-q", name)) == digest
    done(home("tag", name, "mine:2"))
    done(home("save", "-o", f"{folder}/saved.tar", "mine:2"))
    assert done(home("rmi", name, "mine:2")).count("Untagged: ") == 2 and ids(home) == []
    assert done(home("load", "-i", f"{folder}/saved.tar")) == "Loaded image: mine:2\n" and ids(home) == [identity]
    assert done(home("run", "mine:2")) == "0 600\n"
    about = os.stat(f"{home.data}/dolium")
    assert about.st_uid == home.uid and stat.S_IMODE(about.st_mode) == 0o700
    done(home("image", "prune", "-a"))
    assert ids(home) == [] and os.listdir(f"{home.data}/dolium/layers") == ["stacks"]


def test_an_image_that_wants_to_be_somebody_else(home: Host, folder: str, shell: bytes) -> None:
    """Root's files would be nobody's for a user of another id: it is refused, and said what works."""
    load(home, folder, shell, User="web", Cmd=["id", "-u"])
    said = home.refused("app:1")
    assert said.startswith("error: unsupported: --user 33:44: a plain user's container has one user only, its root (you)\n"), said
    assert "hint: --user 0 is this one, whatever the image says; else run dolium as root" in said
    assert done(home("run", "--user", "0", "app:1")) == "0\n"
