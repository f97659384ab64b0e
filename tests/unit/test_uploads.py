"""What is sent to a registry of the tests' own: in one, in pieces, again after a cut, or not at all."""

from __future__ import annotations

import pytest
from layouts import digest, store
from registry_servers import MADE, Hostile, Request, Tokens, hostile, nobody, other
from test_registry import BIG, LAYER, refused

from dolium.engine import blobs, manifests
from dolium.errors import RegistryError

__all__ = ["hostile", "nobody", "other", "store"]
pytestmark = pytest.mark.usefixtures("nobody", "store")


def sent(hostile: Hostile, data: bytes) -> str:
    from dolium.engine import uploads

    name = blobs.put(data)
    uploads.blob(hostile.client(push=True), name, lambda count: None)
    assert hostile.blobs[name] == data
    return name


def test_a_small_blob_goes_in_one(hostile: Hostile) -> None:
    sent(hostile, b"small")
    assert [each[0] for each in hostile.seen] == ["POST", "PUT"]


def test_a_large_one_in_pieces(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    from dolium.engine import uploads

    monkeypatch.setattr(uploads, "CHUNK", 1 << 20)
    sent(hostile, BIG)
    assert [each[0] for each in hostile.seen] == ["POST", "PATCH", "PATCH", "PATCH", "PUT"]


def test_pieces_are_as_large_as_the_registry_wants(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    from dolium.engine import uploads

    monkeypatch.setattr(uploads, "CHUNK", 1 << 20)
    hostile.tricks.append(lambda request: request.command == "POST" and (hostile.uploads.update({"9": b""}) or request.reply(202, Location="/v2/image/blobs/uploads/9", OCI_Chunk_Min_Length="2000000") or True))
    sent(hostile, BIG)
    assert [each[2].get("Content-Range") for each in hostile.seen if each[0] == "PATCH"] == ["0-1999999", f"2000000-{len(BIG) - 1}"]


def test_an_upload_that_is_cut_goes_on(hostile: Hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    from dolium.engine import uploads

    monkeypatch.setattr(uploads, "CHUNK", 1 << 20)
    done = []

    def cut(request: Request) -> bool:
        if request.command != "PATCH" or done or hostile.uploads["0"] == b"":
            return False
        done.append(1)
        hostile.uploads["0"] += request.body[:300_000]
        request.hang_up()
        return True

    hostile.tricks.append(cut)
    sent(hostile, BIG)
    starts = [each[2]["Content-Range"].partition("-")[0] for each in hostile.seen if each[0] == "PATCH"]
    assert starts == ["0", "1048576", "1348576", "2397152"]


def test_a_blob_that_is_there_or_next_door(hostile: Hostile) -> None:
    from dolium.engine import uploads

    client = hostile.client(push=True)
    assert uploads.has(client, LAYER, len(MADE.blobs[LAYER])) and not uploads.has(client, digest(b"x"), 1)
    with pytest.raises(RegistryError, match="it has a blob"):
        uploads.has(client, LAYER, 1)
    assert uploads.mount(client, LAYER, "other/image") and not uploads.mount(client, digest(b"x"), "other/image")
    assert hostile.uploads == {} and hostile.seen[-1][0] == "DELETE", "what nobody wanted is ended"


def test_mounting_asks_for_both(hostile: Hostile) -> None:
    from dolium.engine import uploads

    tokens = Tokens(hostile)
    hostile.tricks.append(tokens)
    assert uploads.mount(hostile.client(push=True), LAYER, "other/image")
    assert tokens.asked[0][1]["scope"] == ["repository:image:pull,push", "repository:other/image:pull"]


def test_a_manifest_goes_last(hostile: Hostile) -> None:
    from dolium.engine import uploads

    client = hostile.client(push=True)
    assert uploads.manifest(client, MADE.manifest, manifests.OCI_MANIFEST, "new") == MADE.digest
    assert hostile.tags["new"] == MADE.digest
    hostile.tricks.append(lambda request: request.reply(201, Docker_Content_Digest=digest(b"x")) or True)
    with pytest.raises(RegistryError, match="it has stored the manifest"):
        uploads.manifest(client, MADE.manifest, manifests.OCI_MANIFEST, "new")


def test_what_may_not_be_sent(hostile: Hostile) -> None:
    from dolium.engine import uploads

    body = b'{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}'
    hostile.tricks.append(lambda request: request.command == "POST" and (request.reply(403, body) or True))
    name = blobs.put(b"small")
    error = refused(lambda: uploads.blob(hostile.client(push=True), name, lambda count: None))
    assert "it refuses: requested access to the resource is denied" in str(error) and "dolium login" in error.hint
