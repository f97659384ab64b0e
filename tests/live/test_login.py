"""Registries that want to be trusted, and to know who is there: TLS, and `dolium login`."""

from __future__ import annotations

import json
import os
import pty
import shutil
import subprocess
import time
from collections.abc import Iterator

import pytest
from registry_servers import Debian, hostile, hostile_by_tls, need, other
from test_pull_and_push import MADE, Place, a_registry, filled, here, place, skopeo

__all__ = ["here", "hostile", "other", "place"]


@pytest.fixture
def here_by_tls(folder: str) -> Iterator[Debian]:
    yield from a_registry(folder, tls=True)


@pytest.fixture
def here_by_password(folder: str) -> Iterator[Debian]:
    need("htpasswd")
    yield from a_registry(folder, tls=True, user="me:secret")


# ---- TLS


def test_tls(here_by_tls: Debian, place: Place, folder: str) -> None:
    name = filled(here_by_tls, folder, MADE, "v1")
    said = place.fails("pull", name)
    assert "signed by nobody whom this host trusts" in said and f"/etc/docker/certs.d/{here_by_tls.name}/ca.crt" in said
    assert place.digest("--tls-verify=false", name) == MADE.digest
    said = place.fails("pull", "--plain-http", name)
    assert "it speaks TLS, and was asked without" in said
    wrong = name.replace("localhost", "127.0.0.2")
    os.makedirs(f"{place.home}/.config/containers/certs.d/{here_by_tls.name}")
    os.symlink(here_by_tls.ca, f"{place.home}/.config/containers/certs.d/{here_by_tls.name}/ca.crt")
    assert place.digest(name) == MADE.digest
    assert "connection refused" in place.fails("pull", wrong)


def test_a_registry_that_wants_to_see_our_certificate(place: Place, folder: str) -> None:
    with hostile_by_tls(folder, asks=True) as server:
        os.makedirs(where := f"{place.home}/.config/containers/certs.d/{server.name}")
        shutil.copy(f"{folder}/ca.crt", where)
        assert "cannot pull" in place.fails("pull", f"{server.name}/image") and server.seen == []
        shutil.copy(f"{folder}/tls.crt", f"{where}/client.cert")
        assert "there is no `client.key`" in place.fails("pull", f"{server.name}/image")
        shutil.copy(f"{folder}/tls.key", f"{where}/client.key")
        assert place.digest(f"{server.name}/image") == server.made.digest


def test_a_ca_in_the_settings(here_by_tls: Debian, place: Place, folder: str) -> None:
    name = filled(here_by_tls, folder, MADE, "v1")
    os.makedirs(f"{place.home}/.config/dolium")
    with open(f"{place.home}/.config/dolium/registries.toml", "w") as file:
        file.write(f'short = "{here_by_tls.name}/org"\n[registry."{here_by_tls.name}"]\nca = "{here_by_tls.ca}"\n')
    assert place.digest("image:v1") == MADE.digest, "and short names are there"
    with open(f"{place.home}/.config/dolium/registries.toml", "a") as file:
        file.write("tls-verfy = false\n")
    assert "there is no `tls-verfy`" in place.fails("pull", name)


# ---- who we are


def test_login(here_by_password: Debian, place: Place, folder: str) -> None:
    server = here_by_password
    name = filled(server, folder, MADE, "v1", creds="me:secret")
    said = place.fails("pull", "--tls-verify=false", name)
    assert "it wants a name and a password" in said and f"dolium login {server.name}" in said
    ended = place("login", "--tls-verify=false", "-u", "me", "--password-stdin", server.name, input=b"wrong\n")
    assert ended.code == 125 and "does not accept who we are" in ended.stderr
    assert not os.path.exists(f"{place.home}/.docker/config.json"), "nothing is kept of one that failed"
    os.mkdir(f"{place.home}/.docker")
    with open(f"{place.home}/.docker/config.json", "w") as file:
        json.dump({"detachKeys": "ctrl-e", "auths": {"quay.io": {"auth": "YTpi"}}}, file)
    ended = place("login", "--tls-verify=false", "-u", "me", "--password-stdin", server.name, input=b"secret\n")
    assert (ended.code, ended.stdout) == (0, "Login Succeeded\n") and "not encrypted" in ended.stderr
    with open(f"{place.home}/.docker/config.json") as file:
        kept = json.load(file)
    assert kept["detachKeys"] == "ctrl-e" and {*kept["auths"]} == {"quay.io", server.name}
    assert os.stat(f"{place.home}/.docker/config.json").st_mode & 0o777 == 0o600
    assert place.digest("--tls-verify=false", name) == MADE.digest
    assert place("push", "-q", "--tls-verify=false", name, f"{server.name}/org/copy:1").stdout.strip() == MADE.digest
    # skopeo reads what we wrote
    assert skopeo("inspect", "--tls-verify=false", "--authfile", f"{place.home}/.docker/config.json", "--format", "{{.Digest}}", f"docker://{name}").strip() == MADE.digest
    assert place("logout", server.name).stdout == f"Removed the login to {server.name}\n"
    assert "wants a name" in place.fails("pull", "--tls-verify=false", name)
    with open(f"{place.home}/.docker/config.json") as file:
        assert {*json.load(file)["auths"]} == {"quay.io"}
    assert "there was no login" in place("logout", server.name).stderr


def test_login_of_podman(here_by_password: Debian, place: Place, folder: str) -> None:
    name = filled(here_by_password, folder, MADE, "v1", creds="me:secret")
    where = f"{place.home}/.config/containers/auth.json"
    skopeo("login", "--tls-verify=false", "--authfile", where, "-u", "me", "-p", "secret", here_by_password.name)
    assert place.digest("--tls-verify=false", name) == MADE.digest


def test_login_takes_somebody_to_ask(place: Place) -> None:
    assert "no terminal" in place.fails("login", "127.0.0.1:9")
    assert "needs `--username`" in place.fails("login", "--password-stdin", "127.0.0.1:9")
    assert "two passwords" in place.fails("login", "-u", "me", "-p", "x", "--password-stdin", "127.0.0.1:9")
    assert "can be seen" in place("login", "-u", "me", "--password", "x", "127.0.0.1:9").stderr


def test_login_at_a_terminal(here_by_password: Debian, place: Place) -> None:
    ours, theirs = pty.openpty()
    with place.start("login", "--tls-verify=false", here_by_password.name, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE,
                     start_new_session=True) as process:  # fmt: skip
        os.close(theirs)
        shown = read_until(ours, b"Username")
        os.write(ours, b"me\n")
        shown += read_until(ours, b"Password")
        time.sleep(0.3)  # getpass throws away what was typed before it has turned the echo off
        os.write(ours, b"secret\n")
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and out == b"Login Succeeded\n"
        shown += read_until(ours, b"encrypted")
    os.close(ours)
    assert b"secret" not in shown


def read_until(fd: int, word: bytes) -> bytes:
    data = b""
    while word not in data:
        data += os.read(fd, 4096)
    return data
