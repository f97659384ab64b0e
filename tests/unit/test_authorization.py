"""Who we are to a registry: tokens, passwords, and nothing; the registry is the tests' own."""

from __future__ import annotations

import json
import time

import pytest
from layouts import store
from registry_servers import Hostile, Tokens, hostile, know, nobody, other
from test_registry import LAYER, fetched, refused

__all__ = ["hostile", "nobody", "other", "store"]
pytestmark = pytest.mark.usefixtures("nobody", "store")


def test_anonymous_token(hostile: Hostile) -> None:
    tokens = Tokens(hostile)
    hostile.tricks.append(tokens)
    client = hostile.client()
    assert client.resolve("latest") and client.manifest("latest") and fetched(client, LAYER)
    assert tokens.asked == [("GET", {"service": ["registry.test"], "scope": ["repository:image:pull"]}, "")], "one for all of them"


def test_token_for_who_is_known(hostile: Hostile, nobody: str) -> None:
    know(nobody, **{hostile.name: "me:geheim:ß"})
    tokens = Tokens(hostile, "me:geheim:ß")
    hostile.tricks.append(tokens)
    assert hostile.client().resolve("latest")
    assert tokens.asked[0][1]["account"] == ["me"]


def test_identity_token(hostile: Hostile, nobody: str) -> None:
    know(nobody)
    with open(f"{nobody}/.docker/config.json", "w") as file:
        json.dump({"auths": {hostile.name: {"auth": "bWU6", "identitytoken": "refresh-me"}}}, file)
    tokens = Tokens(hostile, "nobody:knows")
    hostile.tricks.append(tokens)
    assert hostile.client().resolve("latest")
    method, form, said = tokens.asked[0]
    assert (method, said, form["grant_type"], form["refresh_token"]) == ("POST", "", ["refresh_token"], ["refresh-me"])


def test_a_token_that_ends_is_replaced(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    from dolium.engine import authorization

    tokens = Tokens(hostile, lasts=300)
    hostile.tricks.append(tokens)
    client = hostile.client()
    client.resolve("latest")
    later = time.monotonic() + 295
    monkeypatch.setattr(authorization, "monotonic", lambda: later)
    client.resolve("latest")
    assert len(tokens.given) == 2 and len([each for each in hostile.seen if not each[1].startswith("/token")]) == 3, "before it is refused"


def test_a_token_that_ends_before_its_time(hostile: Hostile) -> None:
    tokens = Tokens(hostile)
    hostile.tricks.append(tokens)
    client = hostile.client()
    client.resolve("latest")
    tokens.given.append("of somebody else")
    assert client.resolve("latest") and len(tokens.given) == 3


def test_a_registry_that_accepts_none_of_its_tokens(hostile: Hostile) -> None:
    hostile.tricks.append(lambda request: bool(request.path.startswith("/v2") and (request.reply(401, WWW_Authenticate=f'Bearer realm="{hostile.url}/token"') or True)))
    hostile.tricks.append(Tokens(hostile))
    error = refused(lambda: hostile.client().resolve("latest"))
    assert "it refuses" in str(error) and error.status == 401 and len(hostile.asked("/v2")) == 2


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"token":1}', b'{"token":"a\\r\\nX: y"}', b'{"token":"\xff"}', b"x" * (1 << 21)])
def test_what_is_no_token(hostile: Hostile, body: bytes) -> None:
    hostile.tricks.append(lambda request: request.path.startswith("/token") and (request.reply(200, body) or True))
    hostile.tricks.append(Tokens(hostile))
    error = str(refused(lambda: hostile.client().resolve("latest")))
    assert "asked for a token, it gave none" in error or "more than 1048576 bytes" in error


@pytest.mark.parametrize("realm", ["", "ftp://127.0.0.1/", "http://a b/", "http://x@y/", "/token", "http://192.0.2.1/token"])
def test_what_is_no_place_for_tokens(hostile: Hostile, realm: str, nobody: str) -> None:
    know(nobody, **{hostile.name: "me:secret"})
    hostile.tricks.append(lambda request: request.reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="x"') or True)
    error = str(refused(lambda: hostile.client().resolve("latest")))
    assert "no address on the web" in error or "without TLS" in error
    assert not any("Authorization" in each[2] for each in hostile.seen)


def test_basic(hostile: Hostile, nobody: str) -> None:
    hostile.tricks.append(lambda request: request.headers.get("Authorization") != "Basic bWU6c2VjcmV0" and (request.reply(401, WWW_Authenticate='Basic realm="x"') or True))
    error = refused(lambda: hostile.client().resolve("latest"))
    assert "it wants a name and a password" in str(error) and f"dolium login {hostile.name}" in error.hint
    know(nobody, **{hostile.name: "me:wrong"})
    error = refused(lambda: hostile.client().resolve("latest"))
    assert "does not accept who we are" in str(error) and "logs in anew" in error.hint
    know(nobody, **{hostile.name: "me:secret"})
    assert hostile.client().resolve("latest")


def test_nothing_to_log_in_by(hostile: Hostile) -> None:
    hostile.tricks.append(lambda request: request.reply(401, WWW_Authenticate="Negotiate") or True)
    assert "offers negotiate" in str(refused(lambda: hostile.client().resolve("latest")))
