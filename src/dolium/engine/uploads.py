"""Sending blobs and manifests to a registry, distribution-spec "Push".

A blob that the registry has is not sent; one that another repository of it has is mounted from there.  Up to CHUNK bytes go in one
request, larger ones in pieces, and after a cut from where the registry says that it is.
"""

import os
from urllib.parse import quote

from dolium.engine import blobs, connections
from dolium.engine.registry import DIGEST, MOST_ERROR, TRIES
from dolium.engine.trouble import Trouble
from dolium.errors import RegistryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from dolium.engine.connections import Answer
    from dolium.engine.registries import Endpoint
    from dolium.engine.registry import Client

    Came = Callable[[int], object]

CHUNK = 32 << 20
PIECE = 1 << 18
BYTES = {"Content-Type": "application/octet-stream"}


def has(client: "Client", digest: str, size: int) -> bool:
    """Whether the registry has that blob.  Raises RegistryError."""

    def ask(base: "Endpoint") -> bool:
        answer = client.request(base, "HEAD", f"blobs/{digest}")
        answer.close()
        if answer.status in (200, 307):
            if answer.length not in (None, size):
                client.fail(base, f"it has a blob {digest} of {answer.length} bytes, and ours has {size}")
            return True
        if answer.status != 404:
            client.unexpected(answer, base)
        return False

    return client.talk(ask)


def mount(client: "Client", digest: str, source: str) -> bool:
    """Whether the registry takes that blob from another repository of it.  Raises RegistryError."""

    def ask(base: "Endpoint") -> bool:
        scope = f"repository:{client.reference.repository}:pull,push repository:{source}:pull"
        path = f"blobs/uploads/?mount={quote(digest, safe='')}&from={quote(source, safe='')}"
        answer = client.request(base, "POST", path, {"Content-Length": "0"}, b"", scope=scope)
        if answer.status == 202:  # it begins an upload instead, which nobody wants
            target = _location(answer, base, client)
            client.request(base, "DELETE", target, tries=1).close()
        else:
            answer.close()
        return answer.status == 201

    try:
        return client.talk(ask)
    except RegistryError as error:
        if error.status in (401, 403, 404):  # we may not read there: then it is sent
            return False
        raise


def blob(client: "Client", digest: str, came: "Came") -> None:
    """Send a blob of the store.  Raises RegistryError, ImageError and OSError."""
    fd = blobs.open_blob(digest)
    try:
        size = os.fstat(fd).st_size

        def ask(base: "Endpoint") -> None:
            tries = 0
            while True:
                try:
                    if size <= CHUNK:
                        _whole(client, base, digest, fd, size, came)
                    else:
                        _pieces(client, base, digest, fd, size, came)
                    return
                except Trouble as trouble:
                    tries += 1
                    if not trouble.again or tries >= TRIES:
                        raise
                    client.pause(tries)

        client.talk(ask)
    finally:
        os.close(fd)


def _read(fd: int, start: int, end: int, came: "Came") -> "Iterator[bytes]":
    while start < end:
        piece = os.pread(fd, min(PIECE, end - start), start)
        if not piece:
            raise OSError("the blob has become shorter")
        yield piece
        came(len(piece))
        start += len(piece)


def _begin(client: "Client", base: "Endpoint") -> "Answer":
    answer = client.request(base, "POST", "blobs/uploads/", {"Content-Length": "0"}, b"")
    if answer.status != 202:
        client.unexpected(answer, base)
    answer.close()
    return answer


def _whole(client: "Client", base: "Endpoint", digest: str, fd: int, size: int, came: "Came") -> None:
    target = _location(_begin(client, base), base, client)
    sent = 0

    def count(size: int) -> None:
        nonlocal sent
        sent += size
        came(size)

    try:
        headers = {**BYTES, "Content-Length": str(size)}
        answer = client.once(base, "PUT", _ended(target, digest), headers, _read(fd, 0, size, count))
        _finish(answer, client, base, digest)
    except BaseException:
        came(-sent)
        raise


def _pieces(client: "Client", base: "Endpoint", digest: str, fd: int, size: int, came: "Came") -> None:
    answer = _begin(client, base)
    target, start, tries = _location(answer, base, client), 0, 0
    least = answer.header("OCI-Chunk-Min-Length")
    chunk = max(CHUNK, int(least) if least.isascii() and least.isdecimal() and len(least) < 12 else 0)
    while start < size:
        end = min(start + chunk, size)
        headers = {**BYTES, "Content-Length": str(end - start), "Content-Range": f"{start}-{end - 1}"}
        try:
            answer = client.once(base, "PATCH", target, headers, _read(fd, start, end, came))
            if answer.status not in (202, 416):
                client.unexpected(answer, base)
            answer.all(MOST_ERROR)
            tries = 0 if answer.status == 202 else tries + 1
            reached = end if answer.status == 202 else -1
        except Trouble as trouble:
            tries += 1
            if not trouble.again or tries >= TRIES:
                raise
            reached = -1
        if reached < 0:
            client.pause(tries)
            answer = client.request(base, "GET", target)
            if answer.status != 204:
                client.unexpected(answer, base)
            answer.close()
            reached = _reached(answer)
            if not start <= reached <= size or tries >= TRIES:
                client.fail(base, f"it has lost what it had of the blob {digest}")
        target = _location(answer, base, client, target)
        start = reached
    answer = client.once(base, "PUT", _ended(target, digest), {"Content-Length": "0"}, b"")
    _finish(answer, client, base, digest)


def _reached(answer: "Answer") -> int:
    """How many bytes a registry has: `Range: 0-N`, and `0-0` is none, as the registry that all others follow has it."""
    last = answer.header("Range").removeprefix("bytes=").partition("-")[2]
    if not (last.isascii() and last.isdecimal() and len(last) < 20):
        return -1
    return int(last) + 1 if int(last) else 0


def _location(answer: "Answer", base: "Endpoint", client: "Client", otherwise: str = "") -> str:
    """Where to send it.  Raises Trouble where that is nowhere to go."""
    said = answer.header("Location")
    if not said and otherwise:
        return otherwise
    url = connections.join(answer.url, said) if said else ""
    if url.startswith("http:") and answer.url.startswith("https:"):
        # Behind a proxy that ends TLS, of which the registry does not know; nowhere else.
        url = "https" + url.removeprefix("http") if connections.host_of(url) == base.host else ""
    if not url:
        raise Trouble(base.host, "it names no place to send a blob to")
    return url


def _ended(target: str, digest: str) -> str:
    return f"{target}{'&' if '?' in target else '?'}digest={quote(digest, safe='')}"


def _finish(answer: "Answer", client: "Client", base: "Endpoint", digest: str) -> None:
    if answer.status in (500, 502, 503, 504, 429):
        answer.close()
        raise Trouble(base.host, f"it answered {answer.status}", again=True)
    if answer.status not in (201, 204):
        client.unexpected(answer, base)
    answer.close()
    if (said := answer.header(DIGEST)) and said.partition(":")[0] == digest.partition(":")[0] and said != digest:
        client.fail(base, f"it has stored the blob {digest} as {said}")


def manifest(client: "Client", data: bytes, media_type: str, name: str) -> str:
    """Send a manifest or an index, under a tag or its digest; its digest.  Raises RegistryError."""
    digest = blobs.digest_of(data)

    def ask(base: "Endpoint") -> str:
        answer = client.request(base, "PUT", f"manifests/{name}", {"Content-Type": media_type}, data)
        if answer.status not in (200, 201):
            client.unexpected(answer, base, f"to take the manifest {name}")
        answer.close()
        if (said := answer.header(DIGEST)) and said.startswith("sha256:") and said != digest:
            client.fail(base, f"it has stored the manifest {digest} as {said}")
        return digest

    return client.talk(ask)
