"""Registries by way of a proxy, as the usual variables have it; and a header that anybody may write: WWW-Authenticate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from registry_servers import MADE, QUICK, Hostile, hostile, nobody

from dolium.engine import authorization, references
from dolium.engine.credentials import Credentials
from dolium.engine.registries import Registries
from dolium.engine.registry import Client
from dolium.errors import RegistryError

__all__ = ["hostile", "nobody"]


def client(name: str, **how: bool) -> Client:
    return Client(references.parse(name), "pull image", Registries(**how), patience=QUICK)


@pytest.mark.usefixtures("nobody")
def test_plain_by_a_proxy(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", hostile.url)
    found = client("registry.invalid/image", plain=True).resolve("latest")
    assert found and found.digest == MADE.digest
    assert hostile.seen[0][1] == "http://registry.invalid/v2/image/manifests/latest" and hostile.seen[0][2]["Host"] == "registry.invalid"


@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("words", ["registry.invalid", ".invalid", "other, invalid", "*"])
def test_not_by_a_proxy(hostile: Hostile, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    monkeypatch.setenv("HTTP_PROXY", hostile.url)
    monkeypatch.setenv("NO_PROXY", words)
    with pytest.raises(RegistryError):
        client("registry.invalid/image", plain=True).resolve("latest")
    assert hostile.seen == []


@pytest.mark.usefixtures("nobody")
def test_this_machine_is_never_asked_by_a_proxy(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert hostile.client().resolve("latest")


@pytest.mark.usefixtures("nobody")
def test_tls_by_a_proxy_that_wants_a_password(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", hostile.url.replace("http://", "http://me:se%20cret@"))
    hostile.tricks.append(lambda request: request.command == "CONNECT" and (request.reply(403) or True))
    with pytest.raises(RegistryError, match="by way of the proxy 127") as caught:
        client("registry.invalid/image").resolve("latest")
    method, path, headers = hostile.seen[0]
    assert (method, path) == ("CONNECT", "registry.invalid:443") and headers["Proxy-Authorization"] == "Basic bWU6c2UgY3JldA=="
    assert "se%20cret" not in str(caught.value) and "se cret" not in str(caught.value)


@pytest.mark.usefixtures("nobody")
def test_an_old_registry_that_is_none(hostile: Hostile) -> None:
    hostile.tricks.append(lambda request: request.reply(404, b"<html>nothing</html>") or True)
    with pytest.raises(RegistryError, match="or no such repository"):
        hostile.client().manifest("latest")
    with pytest.raises(RegistryError, match="it answered 404") as caught:
        hostile.client().log_in(Credentials("me", "word"))
    assert caught.value.hint == "is it a registry?"


@pytest.mark.usefixtures("nobody")
def test_login_where_there_is_no_tls(hostile: Hostile) -> None:
    hostile.client().log_in(Credentials("me", "word"))
    assert [each[:2] for each in hostile.seen] == [("GET", "/v2/")]


@pytest.mark.parametrize("text, found", [
    ('Bearer realm="https://a/t",service="s",scope="x:y:pull,push"', [("bearer", {"realm": "https://a/t", "service": "s", "scope": "x:y:pull,push"})]),
    ('Basic realm="a \\"b\\", c"', [("basic", {"realm": 'a "b", c'})]),
    ("Negotiate, Basic realm=x", [("negotiate", {}), ("basic", {"realm": "x"})]),
    ("BEARER Realm = https , a=1", [("bearer", {"realm": "https", "a": "1"})]),
    ("", []), ("=", []), ('Bearer realm="open', [("bearer", {"realm": "open"})]), ('Bearer a=1,a=2', [("bearer", {"a": "1"})]),
])
def test_challenges(text: str, found: list[tuple[str, dict[str, str]]]) -> None:
    assert [(each.scheme, each.parameters) for each in authorization.challenges([text])] == found


@given(some.lists(some.text(max_size=60) | some.text('Bearer ealm=",\\ ', max_size=40), max_size=3))
def test_whatever_a_registry_writes(headers: list[str]) -> None:
    for each in authorization.challenges(headers):
        assert each.scheme and each.scheme == each.scheme.lower() and all(name and name == name.lower() for name in each.parameters)
