"""Mirrors of a registry: asked first, passed over when they fail or lie, and never told who we are."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from layouts import Made, layer, store
from registry_servers import MADE, Hostile, Request, Tokens, failing, hostile, know, nobody, other

from dolium.engine import blobs
from dolium.engine.registries import Registries
from dolium.engine.registry import Client

__all__ = ["hostile", "nobody", "other", "store"]
pytestmark = pytest.mark.usefixtures("nobody", "store")
Trick = Callable[[Request], bool]


def mirrored(hostile: Hostile, other: Hostile) -> Client:
    return hostile.client(Registries({"registry": {hostile.name: {"mirrors": [f"{other.url}/hub"]}}}))


def test_a_mirror_is_asked_first_and_never_told_who_we_are(hostile: Hostile, other: Hostile, nobody: str) -> None:
    know(nobody, **{hostile.name: "me:secret"})
    tokens = Tokens(other)
    other.tricks.append(tokens)
    assert mirrored(hostile, other).resolve("latest")
    assert hostile.seen == [] and other.seen[-1][1] == "/v2/hub/image/manifests/latest"
    assert tokens.asked[0] == ("GET", {"service": ["registry.test"], "scope": ["repository:hub/image:pull"]}, "")


@pytest.mark.parametrize("trick", [failing(404, 99), failing(500, 99), failing(401, 99), lambda request: request.hang_up() or True])
def test_a_mirror_that_fails(hostile: Hostile, other: Hostile, trick: Callable[[Request], bool]) -> None:
    other.tricks.append(trick)
    said: list[str] = []
    client = mirrored(hostile, other)
    client._say = said.append
    assert client.manifest("latest")[2] == MADE.digest and len(said) == 1 and said[0].startswith(f"mirror {other.name}: ")


def test_no_mirror_is_asked_to_take_anything(hostile: Hostile, other: Hostile) -> None:
    client = hostile.client(Registries({"registry": {hostile.name: {"mirrors": [other.url]}}}), push=True)
    assert client.resolve("latest") and other.seen == []


BIG = Made([layer("base"), os.urandom(1 << 20)], compress=bytes)
BLOB = next(name for name, data in BIG.blobs.items() if len(data) == 1 << 20)


def of_blob(trick: Trick) -> Trick:
    return lambda request: request.path.endswith(BLOB) and trick(request)


def wrong(request: Request) -> bool:
    """As many bytes as there should be, and others."""
    request.reply(200, os.urandom(1 << 20))
    return True


def half_wrong(request: Request) -> bool:
    """Half of them, and others; then nothing more, ever."""
    if request.headers.get("Range"):
        request.reply(404)
    else:
        request.reply(200, os.urandom(1 << 19), length=1 << 20)
        request.hang_up()
    return True


def too_many(request: Request) -> bool:
    request.reply(200, bytes(1 << 21))
    return True


def silent(request: Request) -> bool:
    request.hang_up()
    return True


LIARS = {"wrong": wrong, "half-wrong": half_wrong, "too-many": too_many, "absent": failing(404, 99), "silent": silent}


@pytest.mark.parametrize("liar", LIARS)
def test_what_a_mirror_sends_wrong_comes_from_the_registry(hostile: Hostile, other: Hostile, liar: str) -> None:
    hostile.blobs, other.blobs = dict(BIG.blobs), dict(BIG.blobs)
    other.tricks.append(of_blob(LIARS[liar]))
    client, said, heard = mirrored(hostile, other), list[str](), list[int]()
    client._say = said.append
    writer = blobs.ingest(BLOB, 1 << 20)
    try:
        client.blob(BLOB, writer, heard.append)
        writer.commit()
    finally:
        writer.close()
        client.close()
    assert blobs.is_right(BLOB) and sum(heard) == 1 << 20
    assert len(said) == 1 and said[0].startswith(f"mirror {other.name}: ") and said[0].endswith("; going on without it")
    assert len(hostile.asked(BLOB)) == (2 if liar == "half-wrong" else 1), "what a mirror began is kept, unless it shows to be wrong"


def test_a_mirror_whose_manifest_is_none(hostile: Hostile, other: Hostile) -> None:
    def nonsense(request: Request) -> bool:
        request.reply(200, b"<html>please log in</html>", Content_Type="text/html")
        return True

    other.tricks.append(nonsense)
    client = mirrored(hostile, other)
    assert client.manifest("latest")[2] == MADE.digest
    client.close()


def test_the_next_mirror_is_asked_before_the_registry(hostile: Hostile, other: Hostile) -> None:
    third = Hostile(address="127.0.0.3")
    try:
        other.tricks.append(failing(500, 99))
        client = hostile.client(Registries({"registry": {hostile.name: {"mirrors": [other.url, third.url]}}}))
        assert client.manifest("latest")[2] == MADE.digest
        assert other.seen and third.seen and hostile.seen == []
        client.close()
    finally:
        third.close()
