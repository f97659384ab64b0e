"""The client against a registry of the tests' own, which does what it should and what it should not."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest
from layouts import Made, digest, store
from registry_servers import MADE, QUICK, Hostile, Request, Tokens, failing, hostile, know, nobody, other

from dolium.engine import blobs, connections, manifests
from dolium.engine.registries import Registries
from dolium.engine.registry import Client
from dolium.errors import RegistryError

__all__ = ["hostile", "nobody", "other", "store"]
pytestmark = pytest.mark.usefixtures("nobody", "store")
LAYER = [*MADE.blobs][2]
BIG = os.urandom(3 << 20)


def fetched(client: Client, name: str, size: int | None = None) -> bytes:
    writer = blobs.ingest(name, len(MADE.blobs[name]) if size is None else size)
    try:
        client.blob(name, writer, lambda count: None)
        writer.commit()
    finally:
        writer.close()
    return blobs.read(name, 1 << 24)


def refused(work: Callable[[], object]) -> RegistryError:
    with pytest.raises(RegistryError) as caught:
        work()
    assert str(caught.value).startswith(f"cannot pull image: {caught.value.registry}: ")
    return caught.value


def test_manifest_and_blobs_on_one_connection(hostile: Hostile) -> None:
    client = hostile.client()
    found = client.resolve("latest")
    assert found and (found.digest, found.media_type, found.size) == (MADE.digest, manifests.OCI_MANIFEST, len(MADE.manifest))
    assert client.manifest("latest") == client.manifest(MADE.digest) == (MADE.manifest, manifests.OCI_MANIFEST, MADE.digest)
    ports = {id(each) for each in client.through._shelves[("http", hostile.name)]}
    assert fetched(client, LAYER) == MADE.blobs[LAYER]
    assert {id(each) for each in client.through._shelves[("http", hostile.name)]} == ports and len(ports) == 1
    client.close()


def test_a_connection_that_has_been_closed_meanwhile_is_made_anew(hostile: Hostile) -> None:
    client = hostile.client()
    hostile.tricks.append(lambda request: setattr(request, "close_connection", True) or False)
    for _ in range(3):
        assert client.resolve("latest")


# ---- what is wrong


@pytest.mark.parametrize("asked", ["latest", MADE.digest], ids=["tag", "digest"])
def test_another_manifest_than_its_digest_says(hostile: Hostile, asked: str) -> None:
    hostile.tricks.append(lambda request: request.reply(200, MADE.manifest + b" ", Docker_Content_Digest=MADE.digest) or True)
    assert "what has the digest sha256:" in str(refused(lambda: hostile.client().manifest(asked)))


def test_a_digest_in_the_header_that_means_nothing(hostile: Hostile) -> None:
    hostile.tricks.append(lambda request: request.reply(200, MADE.manifest, Docker_Content_Digest="sha256:../../etc") or True)
    client = hostile.client()
    assert client.resolve("latest") is None and client.manifest("latest")[2] == MADE.digest


def test_a_blob_of_another_size(hostile: Hostile) -> None:
    for bad in (MADE.blobs[LAYER] + b"x", MADE.blobs[LAYER][:-1]):
        hostile.blobs[LAYER] = bad
        assert f"has {len(bad)} bytes, and its manifest says {len(MADE.blobs[LAYER])}" in str(refused(lambda: fetched(hostile.client(), LAYER)))
    assert not blobs.has(LAYER)


def test_a_blob_with_another_content(hostile: Hostile) -> None:
    hostile.blobs[LAYER] = bytes(len(MADE.blobs[LAYER]))
    with pytest.raises(Exception, match="what came has the digest sha256:"):
        fetched(hostile.client(), LAYER)
    assert not blobs.has(LAYER)
    hostile.blobs[LAYER] = MADE.blobs[LAYER]
    assert fetched(hostile.client(), LAYER) == MADE.blobs[LAYER], "nothing of the wrong one is kept"


def endless(request: Request, kind: str) -> bool:
    if f"/{kind}/" not in request.path or request.command == "HEAD":
        return False
    request.send_response(200)
    request.send_header("Transfer-Encoding", "chunked")
    request.end_headers()
    piece = b"10000\r\n" + bytes(65536) + b"\r\n"
    for _ in range(400):
        request.wfile.write(piece)
    return True


def test_a_manifest_without_end(hostile: Hostile) -> None:
    hostile.tricks.append(lambda request: endless(request, "manifests"))
    assert "more than 4194304 bytes" in str(refused(lambda: hostile.client().manifest("latest")))


def test_a_blob_without_end(hostile: Hostile) -> None:
    hostile.tricks.append(lambda request: endless(request, "blobs"))
    assert f"more than the {len(MADE.blobs[LAYER])} bytes" in str(refused(lambda: fetched(hostile.client(), LAYER)))
    assert sum(map(len, os.listdir(os.path.dirname(blobs.path(LAYER))))) == 0


@pytest.mark.parametrize("where", ["head", "body", "blob"])
def test_slow_loris(hostile: Hostile, where: str) -> None:
    """One byte at a time, so that no read ever times out by itself."""
    def drip(request: Request) -> bool:
        if where != "head":
            request.send_response(200)
            request.send_header("Content-Length", str(len(MADE.blobs[LAYER])))
            request.end_headers()
        else:
            request.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        for _ in range(100):
            request.wfile.write(b"x")
            request.wfile.flush()
            time.sleep(0.1)
        request.hang_up()
        return True

    hostile.tricks.append(drip)
    client = hostile.client(patience=connections.Patience(5, 0.5, 0.5, 4096, 0.01))
    began = time.monotonic()
    error = refused((lambda: fetched(client, LAYER)) if where == "blob" else (lambda: client.manifest("latest")))
    assert "in time" in str(error) and time.monotonic() - began < 9, "long before all has come"


def test_silence(hostile: Hostile) -> None:
    hostile.tricks.append(lambda request: time.sleep(1) or True)
    client = hostile.client(patience=connections.Patience(5, 0.3, 0.3, 4096, 0.01))
    assert "does not answer in time" in str(refused(lambda: client.resolve("latest")))


@pytest.mark.parametrize("said", [b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n",
                                  b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n", b""])
def test_what_is_no_answer(hostile: Hostile, said: bytes) -> None:
    hostile.tricks.append(lambda request: bool(request.wfile.write(said) or request.hang_up() or True))
    error = refused(lambda: hostile.client().resolve("latest"))
    assert "not HTTP" in str(error) or "without an answer" in str(error)


# ---- going on after a cut


def cutting(size: int, times: list[int]) -> Callable[[Request], bool]:
    """A trick: so many bytes of a blob, then nothing; and which bytes were asked for."""
    def cut(request: Request) -> bool:
        if "/blobs/" not in request.path:
            return False
        data = request.server.blobs[request.path.rpartition("/")[2]]
        start = int(request.headers.get("Range", "bytes=0-")[6:-1])
        times.append(start)
        if len(data) - start <= size:
            return False
        about = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        request.reply(206 if start else 200, data[start : start + size], length=len(data) - start, **about)
        request.hang_up()
        return True
    return cut


def big(server: Hostile) -> str:
    name = digest(BIG)
    server.blobs[name] = MADE.blobs[name] = BIG
    return name


def test_a_cut_connection_is_gone_on_with(hostile: Hostile) -> None:
    times: list[int] = []
    hostile.tricks.append(cutting(1 << 20, times))
    assert fetched(hostile.client(), big(hostile)) == BIG
    assert times == [0, 1 << 20, 2 << 20]


def test_the_next_command_goes_on_where_one_was_cut(hostile: Hostile) -> None:
    times: list[int] = []
    name = big(hostile)
    hostile.tricks.append(cutting(100_000, times))
    error = refused(lambda: fetched(hostile.client(), name))
    assert "broke off after 500000 of 3145728 bytes" in str(error) and "where this one was" in error.hint
    hostile.tricks.clear()
    hostile.seen.clear()
    assert fetched(hostile.client(), name) == BIG
    assert [each[2].get("Range") for each in hostile.seen] == ["bytes=500000-"]


def half_there(name: str) -> None:
    writer = blobs.ingest(name, len(BIG))
    writer.write(BIG[:2_000_000])
    writer.close()


def test_a_registry_that_knows_no_ranges(hostile: Hostile) -> None:
    name = big(hostile)
    half_there(name)
    hostile.tricks.append(lambda request: bool(request.headers.__delitem__("Range")))
    assert fetched(hostile.client(), name) == BIG


def test_a_registry_that_refuses_ranges(hostile: Hostile) -> None:
    name = big(hostile)
    half_there(name)
    hostile.tricks.append(lambda request: bool(request.headers.get("Range") and (request.reply(416) or True)))
    assert fetched(hostile.client(), name) == BIG


def test_another_range_than_was_asked_for(hostile: Hostile) -> None:
    name = big(hostile)
    half_there(name)
    hostile.tricks.append(lambda request: request.reply(206, BIG[1000:], Content_Range=f"bytes 1000-{len(BIG) - 1}/{len(BIG)}") or True)
    assert "it sent `1000-" in str(refused(lambda: fetched(hostile.client(), name)))


def test_a_part_that_is_not_of_this_blob(hostile: Hostile) -> None:
    """It shows in the digest; then all of it is fetched once more."""
    name = big(hostile)
    writer = blobs.ingest(name, len(BIG))
    writer.write(bytes(1000))
    writer.close()
    hostile.seen.clear()
    assert fetched(hostile.client(), name, len(BIG)) == BIG
    assert ["Range" in headers for _, _, headers in hostile.asked(name)] == [True, False]


# ---- busy


@pytest.mark.parametrize("status, headers", [(503, {}), (429, {"Retry_After": "0"}), (500, {}), (429, {"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"})])
def test_a_busy_registry_is_asked_again(hostile: Hostile, status: int, headers: dict[str, str]) -> None:
    hostile.tricks.append(failing(status, 4, **headers))
    assert hostile.client().resolve("latest") and len(hostile.seen) == 5


def test_a_registry_that_stays_busy(hostile: Hostile) -> None:
    hostile.tricks.append(failing(503, 99))
    assert "it answered 503" in str(refused(lambda: hostile.client().resolve("latest"))) and len(hostile.seen) == 5


def test_a_limit_that_lasts_is_said_at_once(hostile: Hostile) -> None:
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit."}]}'
    hostile.tricks.append(lambda request: request.reply(429, body, Retry_After="3600") or True)
    error = refused(lambda: hostile.client().manifest("latest"))
    assert "asked too often (429): You have reached your pull rate limit." in str(error)
    assert "dolium login" in error.hint and len(hostile.seen) == 1 and error.status == 429


# ---- redirects


def moved(target: str, word: str = "/blobs/", status: int = 307) -> Callable[[Request], bool]:
    return lambda request: word in request.path and (request.reply(status, Location=target) or True)


def test_what_is_led_elsewhere_goes_without_who_we_are(hostile: Hostile, other: Hostile, nobody: str) -> None:
    know(nobody, **{hostile.name: "me:secret"})
    tokens = Tokens(hostile, "me:secret")
    hostile.tricks += [tokens, moved(f"{other.url}/elsewhere")]
    other.tricks.append(lambda request: request.reply(200, MADE.blobs[LAYER]) or True)
    assert fetched(hostile.client(), LAYER) == MADE.blobs[LAYER]
    assert "Authorization" not in other.seen[-1][2] and hostile.seen[-1][2]["Authorization"].startswith("Bearer")


@pytest.mark.parametrize("scheme", ['Bearer realm="{}/token",service="x"', 'Basic realm="x"'])
def test_who_we_are_led_to_may_not_ask_who_we_are(hostile: Hostile, other: Hostile, nobody: str, scheme: str) -> None:
    """CVE-2020-15157."""
    know(nobody, **{hostile.name: "me:secret", other.name: "me:other"})
    hostile.tricks.append(moved(f"{other.url}/elsewhere"))
    other.tricks.append(lambda request: request.reply(401, WWW_Authenticate=scheme.format(other.url)) or True)
    refused(lambda: fetched(hostile.client(), LAYER))
    assert [each[1] for each in other.seen] == ["/elsewhere"]
    assert not any("Authorization" in each[2] for each in other.seen)


@pytest.mark.parametrize("target, says", [
    ("ftp://127.0.0.1/x", "no address on the web"), ("http://user:word@127.0.0.1/x", "no address on the web"),
    ("http://[::1", "no address on the web"), ("http://127.0.0.1:999999/", "no address on the web"),
    ("http://192.0.2.1/x", "without TLS"), ("/v2/image/blobs/x", "more than 5 times"), ("file:///etc/passwd", "no address on the web"),
])
def test_where_no_redirect_leads(hostile: Hostile, target: str, says: str) -> None:
    hostile.tricks.append(moved(target))
    assert says in str(refused(lambda: fetched(hostile.client(), LAYER)))


def test_a_link_that_has_ended_is_asked_for_anew(hostile: Hostile, other: Hostile) -> None:
    hostile.tricks.append(moved(f"{other.url}/elsewhere"))
    answers = [403, 200]
    other.tricks.append(lambda request: request.reply(answers.pop(0), MADE.blobs[LAYER] if not answers else b"") or True)
    assert fetched(hostile.client(), LAYER) == MADE.blobs[LAYER]


# ---- what there is not


def test_not_there(hostile: Hostile) -> None:
    error = refused(lambda: Client(_reference(hostile, "image:nope"), "pull image", Registries(), patience=QUICK).manifest("nope"))
    assert error.status == 404 and f"there is no `nope` in {hostile.name}/image" in str(error)
    del hostile.blobs[LAYER]
    error = refused(lambda: fetched(hostile.client(), LAYER))
    assert "it has no blob sha256:" in str(error) and "damaged" in error.hint


def _reference(server: Hostile, name: str) -> Any:
    from dolium.engine import references

    return references.parse(f"{server.name}/{name}")


def test_nobody_listens() -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{probe.getsockname()[1]}"
        from dolium.engine import references

        error = refused(lambda: Client(references.parse(f"{name}/image"), "pull image", Registries(), patience=QUICK).resolve("latest"))
    assert "connection refused" in str(error)


def test_no_such_host() -> None:
    from dolium.engine import references

    with pytest.raises(RegistryError, match=r"nowhere\.invalid: (there is no such host|its name cannot be looked up)") as caught:
        Client(references.parse("nowhere.invalid/image"), "pull image", Registries(), patience=QUICK).resolve("latest")
    assert "online" in caught.value.hint


def test_plain_http_only_where_it_is_allowed(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    from dolium.engine import registries

    assert hostile.client(Registries(plain=True)).resolve("latest")
    monkeypatch.setattr(registries, "LOOPBACK", ())
    monkeypatch.setattr(registries, "is_loopback", lambda host: False)
    hostile.seen.clear()
    error = refused(lambda: hostile.client().resolve("latest"))
    assert "does not speak TLS" in str(error) and "--plain-http" in error.hint and hostile.seen == []
    for settings in (Registries(verify=False), Registries(plain=True), Registries({"registry": {hostile.name: {"plain-http": True}}})):
        assert hostile.client(settings).resolve("latest")


def test_docker_hub_does_not_say_what_is_absent(hostile: Hostile, monkeypatch: pytest.MonkeyPatch, nobody: str) -> None:
    """It refuses alike what is not there and what is private."""
    from dolium.engine import references, registries

    monkeypatch.setattr(registries, "HOSTS", {"docker.io": hostile.name})
    hostile.tricks.append(lambda request: request.path.startswith("/v2/library") and request.headers.get("Authorization") == "Bearer token-0"
                          and (request.reply(401, b'{"errors":[{"code":"DENIED"}]}', WWW_Authenticate=f'Bearer realm="{hostile.url}/token",error="insufficient_scope"') or True))
    hostile.tricks.append(tokens := Tokens(hostile))
    client = Client(references.parse("nothing"), "pull nothing", Registries(plain=True), patience=QUICK)
    with pytest.raises(RegistryError) as caught:
        client.manifest("latest")
    assert "Docker Hub does not say whether `docker.io/library/nothing` is absent or private" in caught.value.hint
    assert "`dolium login`" in caught.value.hint and tokens.asked[0][1]["scope"] == ["repository:library/nothing:pull"]


# ---- referrers


def index(*artifacts: str) -> bytes:
    listed = [{"mediaType": manifests.OCI_MANIFEST, "digest": digest(each.encode()), "size": 1, "artifactType": each} for each in artifacts]
    return json.dumps({"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": listed}).encode()


def test_referrers_by_pages(hostile: Hostile) -> None:
    def pages(request: Request) -> bool:
        if "/referrers/" not in request.path:
            return False
        more = {} if "last=" in request.path else {"Link": f'<{request.path.partition("?")[0]}?last=1>; rel="next"'}
        request.reply(200, index("text/c", "text/a") if not more else index("text/a", "text/b"), **more)
        return True

    hostile.tricks.append(pages)
    assert [each["artifactType"] for each in hostile.client().referrers(MADE.digest)] == ["text/a", "text/b", "text/c", "text/a"]
    assert [each["artifactType"] for each in hostile.client().referrers(MADE.digest, "text/a")] == ["text/a", "text/a"]


def test_referrers_by_tag(hostile: Hostile) -> None:
    assert hostile.client().referrers(MADE.digest) == []
    data = index("text/a", "text/b")
    hostile.blobs[digest(data)] = data
    hostile.tags[MADE.digest.replace(":", "-")] = digest(data)
    assert [each["artifactType"] for each in hostile.client().referrers(MADE.digest, "text/b")] == ["text/b"]


def test_a_next_page_somewhere_else(hostile: Hostile, other: Hostile) -> None:
    hostile.tricks.append(lambda request: request.reply(200, index(), Link=f'<{other.url}/x>; rel="next"') or True)
    assert "somewhere else" in str(refused(lambda: hostile.client().referrers(MADE.digest)))
    assert other.seen == []


def test_an_image_with_other_fields() -> None:
    assert Made([], None).digest != MADE.digest  # the module's image is not changed by what tests add to it
