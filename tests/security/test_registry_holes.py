"""Holes that were published of programs that fetch images, one test each: what a registry got out of them, or into them."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from containers import Dolium
from layouts import Made, digest, layer
from machine import Machine
from registry_servers import Hostile, Request, hostile, hostile_by_tls, know, other

from dolium.engine import manifests

__all__ = ["hostile", "other"]
MADE = Made([layer("base"), layer("more")])


class Place(Machine):
    """The command with directories and a home of its own."""

    def __init__(self, home: str) -> None:
        super().__init__()
        self.environment["HOME"] = home
        self.environment.pop("XDG_RUNTIME_DIR", None)
        self.home = home

    def refuses(self, server: Hostile, *words: str) -> str:
        ended = self("pull", *words, f"{server.name}/image")
        assert ended.code == 125 and ended.stdout == "" and "Traceback" not in ended.stderr, ended
        assert self.images() == [], "nothing is recorded"
        return ended.stderr

    def images(self) -> list[str]:
        code = "import sys; sys.path.insert(0, sys.argv[1]); from dolium.engine import images; print(*(each.digest for each in images.every()))"
        source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + "/src"
        return self.sh(f"/usr/bin/python3 -IS -c {code!r} {source}").split()


@pytest.fixture
def place(root: Dolium, folder: str) -> Iterator[Place]:
    os.mkdir(f"{folder}/home")
    found = Place(f"{folder}/home")
    yield found
    found.close()


def secrets(server: Hostile) -> list[str]:
    return [each[2]["Authorization"] for each in server.seen if "Authorization" in each[2]]


def basic(request: Request) -> bool:
    """A trick: who we are is asked for."""
    wanted = f"Basic {base64.b64encode(b'me:secret').decode()}"
    return request.headers.get("Authorization") != wanted and (request.reply(401, WWW_Authenticate='Basic realm="x"') or True)


def leading(target: str, word: str) -> Callable[[Request], bool]:
    return lambda request: word in request.path and (request.reply(307, Location=target + request.path) or True)


@pytest.mark.parametrize("word", ["/manifests/", "/blobs/"])
@pytest.mark.parametrize("scheme", ['Basic realm="x"', 'Bearer realm="{}/token",service="x"'])
def test_cve_2020_15157_who_we_are_is_told_to_whom_a_registry_leads(place: Place, hostile: Hostile, other: Hostile, word: str, scheme: str) -> None:
    """containerd: answered the 401 of the host that it was led to with the credentials of the registry."""
    know(place.home, **{hostile.name: "me:secret", other.name: "other:word"})
    hostile.tricks += [basic, leading(other.url, word)]
    other.tricks.append(lambda request: request.reply(401, WWW_Authenticate=scheme.format(other.url)) or True)
    place.refuses(hostile)
    assert secrets(hostile) and other.seen and not secrets(other) and not other.asked("/token")


def test_cve_2020_15157_another_port_is_another_host(place: Place, hostile: Hostile) -> None:
    second = Hostile(MADE)
    try:
        know(place.home, **{hostile.name: "me:secret"})
        hostile.tricks += [basic, leading(second.url, "/blobs/")]
        second.blobs |= hostile.blobs
        assert place("pull", f"{hostile.name}/image").code == 0
        assert secrets(hostile) and second.seen and not secrets(second)
    finally:
        second.close()


def test_cve_2020_15157_urls_of_a_layer_are_not_asked(place: Place, hostile: Hostile, other: Hostile) -> None:
    """Foreign layers: the manifest itself named a host, and that one asked who we are."""
    know(place.home, **{hostile.name: "me:secret"})
    body = json.loads(MADE.manifest)
    for each in body["layers"]:
        each["mediaType"] = f"{manifests.DOCKER}image.rootfs.foreign.diff.tar.gzip"
        each["urls"] = [f"{other.url}/layer"]
    hostile.tricks.append(basic)
    serve(hostile, body)
    for each in body["layers"]:
        hostile.blobs.pop(each["digest"], None)
    assert "it has no blob" in place.refuses(hostile)
    assert other.seen == []


def test_cve_2020_15157_a_realm_without_tls(place: Place, hostile: Hostile) -> None:
    """Tokens are not asked for in the clear from somewhere else."""
    know(place.home, **{hostile.name: "me:secret"})
    hostile.tricks.append(lambda request: request.reply(401, WWW_Authenticate='Bearer realm="http://192.0.2.7/token"') or True)
    assert "192.0.2.7" in place.refuses(hostile)
    assert not secrets(hostile)


def serve(server: Hostile, body: dict[str, Any], content_type: str = "") -> str:
    data = json.dumps(body).encode()
    name = digest(data)
    server.blobs = {**MADE.blobs, name: data}
    server.tags["latest"] = name
    if content_type:
        server.types[name] = content_type
    return name


@pytest.mark.parametrize("content_type", [manifests.OCI_MANIFEST, manifests.OCI_INDEX, manifests.DOCKER_MANIFEST, "application/json"])
def test_cve_2021_41190_an_index_that_is_a_manifest_too(place: Place, hostile: Hostile, content_type: str) -> None:
    """OCI: one document with `layers` and `manifests`, which each reader took for what its header said."""
    body = json.loads(MADE.manifest)
    del body["mediaType"]
    body["manifests"] = [{"mediaType": manifests.OCI_MANIFEST, "digest": MADE.digest, "size": len(MADE.manifest)}]
    serve(hostile, body, content_type)
    assert "both an index" in place.refuses(hostile)


@pytest.mark.parametrize("content_type", [manifests.OCI_INDEX, manifests.DOCKER_MANIFEST])
def test_cve_2021_41190_another_type_than_it_says(place: Place, hostile: Hostile, content_type: str) -> None:
    serve(hostile, json.loads(MADE.manifest), content_type)
    assert "was given as" in place.refuses(hostile)


def test_cve_2021_41190_another_type_than_its_index_says(place: Place, hostile: Hostile) -> None:
    listed = {"mediaType": manifests.DOCKER_MANIFEST, "digest": MADE.digest, "size": len(MADE.manifest),
              "platform": {"os": "linux", "architecture": "amd64"}}  # fmt: skip
    serve(hostile, {"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": [listed]})
    assert "it came as" in place.refuses(hostile, "--platform", "linux/amd64")


def test_cve_2021_41190_schema_1(place: Place, hostile: Hostile) -> None:
    """Docker's first form, whose digests verify nothing; a registry may still hand it out."""
    body = {"schemaVersion": 1, "name": "image", "tag": "latest", "fsLayers": [], "history": [], "signatures": []}
    serve(hostile, body, f"{manifests.DOCKER}distribution.manifest.v1+prettyjws")
    assert "schema 1" in place.refuses(hostile)


def test_cve_2025_6032_certificates_are_looked_at(place: Place, folder: str) -> None:
    """podman: an image of a machine was fetched from whoever answered."""
    with hostile_by_tls(folder) as server:
        assert "signed by nobody whom this host trusts" in place.refuses(server) and server.seen == []
        assert place("pull", "--tls-verify=false", f"{server.name}/image").code == 0, "unless it is not to be looked at"


def test_cve_2025_6032_a_certificate_for_another_host(place: Place, folder: str) -> None:
    with hostile_by_tls(folder, "127.0.0.3") as server:
        os.makedirs(where := f"{place.home}/.config/containers/certs.d/{server.name}")
        shutil.copy(f"{folder}/ca.crt", where)
        assert "its certificate is not good" in place.refuses(server) and server.seen == []


def test_what_a_registry_says_reaches_no_terminal(place: Place, hostile: Hostile) -> None:
    """Escape sequences in an error of a registry's."""
    body = json.dumps({"errors": [{"code": "X", "message": "\x1b[2J\x1b]0;evil\x07\r\nerror: all is well"}]}).encode()
    hostile.tricks.append(lambda request: request.reply(403, body) or True)
    said = place.refuses(hostile)
    assert "\x1b" not in said and "\x07" not in said and "\r" not in said and said.count("\n") <= 3
