"""What `@host`, `@venv` and a path mean, on hosts of several layouts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from layouts import store

from dolium.engine import rootfs, sources
from dolium.errors import NotFound

__all__ = ["store"]


class FakeHost:
    """A host's files: path -> "dir", "file", or `-> target` for a symbolic link."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
        self.files = {"/": "dir", "/usr": "dir", **files}
        monkeypatch.setattr(rootfs, "os", self)
        self.path = self
        self.environ = os.environ

    def listdir(self, path: str) -> list[str]:
        assert path == "/"
        return [each[1:] for each in self.files if each.count("/") == 1 and each != "/"]

    def real(self, path: str) -> str:
        for link, target in self.files.items():
            if target.startswith("-> ") and (path == link or path.startswith(link + "/")):
                to = target[3:] if target[3:].startswith("/") else f"{link.rpartition('/')[0]}/{target[3:]}"
                return self.real(to + path[len(link):])
        return path

    def islink(self, path: str) -> bool:
        return self.files.get(path, "").startswith("-> ")

    def readlink(self, path: str) -> str:
        return self.files[path][3:]

    def isdir(self, path: str) -> bool:
        return self.files.get(self.real(path)) == "dir"

    def exists(self, path: str) -> bool:
        return self.real(path) in self.files

    def realpath(self, path: str) -> str:
        return self.real(path)

    dirname = staticmethod(os.path.dirname)
    abspath = staticmethod(os.path.abspath)


MERGED = {"/bin": "-> usr/bin", "/sbin": "-> usr/sbin", "/lib": "-> usr/lib", "/lib64": "-> usr/lib64", "/lib32": "-> usr/lib32",
          "/etc": "dir", "/home": "dir", "/root": "dir", "/boot": "dir", "/etc/ssl/certs": "dir", "/etc/ld.so.cache": "file",
          "/etc/shadow": "file", "/etc/ssl/private": "dir", "/library": "dir"}  # fmt: skip
UNMERGED = {"/bin": "dir", "/sbin": "dir", "/lib": "dir", "/lib64": "dir", "/etc": "dir", "/etc/alternatives": "dir"}


def binds(found: rootfs.Rootfs) -> list[str]:
    for each in found.mounts:
        assert each["type"] == "bind" and {"rbind", "ro", "nosuid", "nodev"} <= {*each["options"]}
        assert each["source"] == each["destination"]
    return [each["destination"] for each in found.mounts]


def test_merged_usr(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHost(monkeypatch, MERGED)
    found = rootfs.find("@host")
    assert (found.kind, found.path) == ("tmpfs", "")
    links = dict(found.links)
    assert {name: links[name] for name in ("/bin", "/sbin", "/lib", "/lib64", "/lib32")} == {
        "/bin": "usr/bin", "/sbin": "usr/sbin", "/lib": "usr/lib", "/lib64": "usr/lib64", "/lib32": "usr/lib32"}  # fmt: skip
    assert {"/usr", "/etc/ssl/certs", "/etc/ld.so.cache"} <= {*binds(found)}
    assert binds(found)[0] == "/usr"


def test_no_secret_and_nothing_else_of_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHost(monkeypatch, MERGED)
    visible = binds(rootfs.find("@host"))
    for path in ("/etc", "/etc/shadow", "/etc/ssl", "/etc/ssl/private", "/home", "/root", "/boot", "/", "/library"):
        assert path not in visible
    assert not [each for each in rootfs.ETC if each.startswith(("shadow", "ssh", "ssl/private", "passwd", "sudoers", "machine-id"))]


def test_unmerged_usr(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHost(monkeypatch, UNMERGED)
    found = rootfs.find("@host")
    assert {"/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/alternatives"} == {*binds(found)}
    assert not found.links


def test_own_files_and_directories(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeHost(monkeypatch, MERGED)
    found = rootfs.find("@host")
    files, directories = dict(found.files), dict(found.directories)
    assert files["/etc/passwd"].startswith("root:x:0:0:") and "tty:x:5:" in files["/etc/group"]
    assert directories["/tmp"] == directories["/var/tmp"] == 0o1777 and directories["/root"] == 0o700
    assert {"/home", "/run", "/etc", "/var"} <= {*directories}
    assert not found.path_first
    assert rootfs.find("@host").files is not found.files, "each container's own"


def venv(monkeypatch: pytest.MonkeyPatch, files: dict[str, str], prefix: str, base: str, executable: str) -> rootfs.Rootfs:
    FakeHost(monkeypatch, {**MERGED, **files})
    fake: Any = type("sys", (), {"prefix": prefix, "base_prefix": base, "executable": executable})
    monkeypatch.setattr(rootfs, "sys", fake)
    return rootfs.find("@venv")


def test_venv_in_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever they lie, in directories that are closed to others too; nothing beside them is shown."""
    found = venv(monkeypatch, {}, "/root/p/.venv", "/root/.pyenv/versions/3.11", "/root/p/.venv/bin/python")
    shown = binds(found)
    assert {"/root/p/.venv", "/root/.pyenv/versions/3.11"} <= {*shown}
    assert not {"/root", "/root/p", "/root/.pyenv"} & {*shown}
    assert found.path_first == ["/root/p/.venv/bin", "/root/.pyenv/versions/3.11/bin"]


def test_venv_of_the_systems_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """/usr is there already, and what is inside it."""
    found = venv(monkeypatch, {}, "/usr", "/usr", "/usr/bin/python3")
    assert binds(found).count("/usr") == 1
    assert found.path_first == ["/usr/bin"]
    found = venv(monkeypatch, {}, "/usr/local", "/usr/local", "/usr/local/bin/python3")
    assert "/usr/local" not in binds(found) and found.path_first[0] == "/usr/local/bin"


def test_venv_without_site(monkeypatch: pytest.MonkeyPatch) -> None:
    """With -S sys.prefix does not know the environment; its pyvenv.cfg does."""
    found = venv(monkeypatch, {"/srv/e/pyvenv.cfg": "file"}, "/usr", "/usr", "/srv/e/bin/python")
    assert "/srv/e" in binds(found) and found.path_first == ["/srv/e/bin", "/usr/bin"]
    found = venv(monkeypatch, {}, "/usr", "/usr", "")
    assert found.path_first == ["/usr/bin"], "an embedded Python has no executable"


def test_nested_and_linked_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = venv(monkeypatch, {"/opt/python": "-> /opt/python3.12"}, "/opt/python/envs/a", "/opt/python", "/opt/python/envs/a/bin/python")
    shown = binds(found)
    assert {"/opt/python", "/opt/python3.12"} <= {*shown}
    assert found.path_first[0] == "/opt/python/envs/a/bin"
    assert len(shown) == len({*shown})
    outer = [each for each in shown if "/opt/python/envs/a".startswith(each)]
    assert outer, "the environment is visible, by its own mount or one around it"
    for index, each in enumerate(shown):
        assert not [later for later in shown[index + 1 :] if each.startswith(later + "/")], f"{each} would be covered by a later mount"


def test_a_similar_name_is_not_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    found = venv(monkeypatch, {}, "/usr2/env", "/usr", "/usr2/env/bin/python")
    assert "/usr2/env" in binds(found)


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path / "root")
    for name in (str(tmp_path / "root"), "./", ".", "../root", "./../root/"):
        found = rootfs.find(name)
        assert (found.kind, found.path) == ("overlay", str(tmp_path / "root")), name
        assert found.sources() == [found.path] and not found.mounts and not found.files
    with pytest.raises(NotFound) as caught:
        rootfs.find(str(tmp_path / "file"))
    assert "is a file" in caught.value.hint
    with pytest.raises(NotFound) as caught:
        rootfs.find("../none")
    assert "does not exist" in caught.value.hint


@pytest.mark.parametrize("name", ["@hots", "@", "@HOST", "@venv/"])
def test_unknown_names(name: str) -> None:
    with pytest.raises(NotFound) as caught:
        rootfs.find(name)
    assert caught.value.similar == ("@host", "@venv")


@pytest.mark.parametrize("name", ["alpine", "alpine:3.20", "docker.io/library/alpine", "x/y", "oci:./here"])
def test_names_of_images(name: str) -> None:
    """They are looked for in the store, not on the disk; an error says how a directory of that name is written."""
    assert rootfs.is_image(name) and not rootfs.is_image(f"./{name}") and not rootfs.is_image("@host")
    with pytest.raises(NotFound, match="no unpacked copy"):
        rootfs.find(name)


@pytest.mark.usefixtures("store")
def test_an_image_that_is_not_there() -> None:
    with pytest.raises(NotFound, match="no image `alpin`") as caught:
        sources.stored("alpin")
    assert "./alpin" in caught.value.hint and "dolium pull alpin" in caught.value.hint
    with pytest.raises(NotFound, match="no image `alpine`"):
        rootfs.provide("alpine", pull="never")


def test_this_host() -> None:
    """The one the tests run on: every source exists, every link leads somewhere."""
    for name in rootfs.OWN:
        found = rootfs.find(name)
        assert all(os.path.exists(each) for each in found.sources()), name
        assert all(os.path.exists(path) for path, _ in found.links)
    assert f"{sys.prefix}/bin" in found.path_first
