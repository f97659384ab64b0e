"""One repository of one registry, as the distribution-spec 1.1 has it: manifests, blobs, referrers; engine/uploads.py sends.

Everything that comes is checked here: size and digest of manifests, `Docker-Content-Digest`, the ranges of what is resumed; what
a manifest says is read by engine/manifests.py, and blobs are verified by engine/blobs.py as they are written.
"""

import random
from urllib.parse import quote, urlsplit

from dolium.core import document
from dolium.engine import blobs, connections, manifests, references
from dolium.engine.authorization import Authorization, Refused
from dolium.engine.connections import Connections
from dolium.engine.trouble import NoTLS, Trouble
from dolium.errors import ImageError, RegistryError, SpecError
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, NoReturn, TypeVar

    from dolium.engine.blobs import Writer
    from dolium.engine.connections import Answer, Patience
    from dolium.engine.credentials import Credentials
    from dolium.engine.references import Reference
    from dolium.engine.registries import Endpoint, Registries

    Result = TypeVar("Result")

TRIES = 5
"""Of one request; and of one blob, as long as less than ENOUGH comes at a time."""
ENOUGH = 1 << 20
LONGEST_WAIT = 60.0
"""Seconds: a registry that wants us to wait longer (Retry-After) is told to people instead."""
MOST_ERROR = 1 << 16
MOST_PAGES = 20
BUSY = (429, 500, 502, 503, 504)
DIGEST = "Docker-Content-Digest"


class Found:
    """What a registry says of a manifest without sending it."""

    __slots__ = ("digest", "media_type", "size")

    def __init__(self, digest: str, media_type: str, size: "int | None") -> None:
        self.digest = digest
        self.media_type = media_type
        self.size = size


class Client:
    """For any number of threads.  `doing` is what errors say cannot be done (`pull alpine:latest`); `say` hears of failing mirrors.

    All methods raise RegistryError, and SpecError or DoliumError for settings and credentials that cannot be read.
    """

    def __init__(self, reference: "Reference", doing: str, settings: "Registries", *, push: bool = False,
                 patience: "Patience | None" = None, say: "Callable[[str], object] | None" = None) -> None:  # fmt: skip
        self.reference = reference
        self.doing = doing
        self.push = push
        self.endpoints = settings.endpoints(reference.registry, mirrors=not push)
        self.through = Connections(settings, patience)
        self._say = say or (lambda line: None)
        path = reference.repository
        self._who = {id(each): Authorization(self.through, each.name, each.prefix + path) for each in self.endpoints}

    def close(self) -> None:
        """Close connections."""
        self.through.close()

    def abort(self) -> None:
        """End what other threads ask: they raise RegistryError."""
        self.through.abort()

    # ---- what there is

    def resolve(self, wanted: str) -> "Found | None":
        """What a tag or digest leads to; None where the registry does not say without sending it."""

        def ask(base: "Endpoint") -> "Found | None":
            answer = self.request(base, "HEAD", f"manifests/{wanted}", {"Accept": ", ".join(manifests.ACCEPT)})
            answer.close()
            if answer.status in (400, 405):  # the answer to GET says more
                return None
            if answer.status != 200:
                self._refuse_manifest(answer, base, wanted)
            digest = answer.header(DIGEST)
            if not is_digest(digest):
                return None
            return Found(digest, answer.header("Content-Type").partition(";")[0].strip(), answer.length)

        return self.each_endpoint(ask)

    def manifest(self, wanted: str) -> "tuple[bytes, str, str]":
        """A manifest or an index by tag or digest: its bytes, the type it was sent as, and its digest, which is verified."""

        def ask(base: "Endpoint") -> "tuple[bytes, str, str]":
            answer = self.request(base, "GET", f"manifests/{wanted}", {"Accept": ", ".join(manifests.ACCEPT)})
            if answer.status != 200:
                self._refuse_manifest(answer, base, wanted)
            data = answer.all(manifests.MOST_MANIFEST)
            said, asked = answer.header(DIGEST), ":" in wanted
            digest = blobs.digest_of(data, (wanted if asked else said).partition(":")[0]) if asked or is_digest(said) else ""
            if asked and digest != wanted:
                self.fail(base, f"asked for {wanted}, it sent what has the digest {digest}")
            if not asked and digest and digest != said:
                self.fail(base, f"it says that the manifest is {said}, and sent what has the digest {digest}")
            if base.mirror:
                try:
                    manifests.parse(data, "its answer", answer.header("Content-Type").partition(";")[0].strip())
                except ImageError as problem:
                    self.fail(base, str(problem))
            return data, answer.header("Content-Type").partition(";")[0].strip(), wanted if asked else blobs.digest_of(data)

        return self.each_endpoint(ask)

    def _refuse_manifest(self, answer: "Answer", base: "Endpoint", wanted: str) -> "NoReturn":
        if answer.status == 404:
            name = f"{base.name}/{base.prefix}{self.reference.repository}"
            self.fail(base, f"there is no {quoted(wanted)} in {name}, or no such repository", 404)
        self.unexpected(answer, base)

    def referrers(self, digest: str, artifact_type: str = "") -> "list[dict[str, Any]]":
        """Descriptors of what refers to that manifest (signatures, lists of contents), of one kind or all."""

        def ask(base: "Endpoint") -> "list[dict[str, Any]]":
            path = f"referrers/{digest}" + (f"?artifactType={quote(artifact_type, safe='')}" if artifact_type else "")
            found: list[dict[str, Any]] = []
            for _ in range(MOST_PAGES):
                answer = self.request(base, "GET", path, {"Accept": manifests.OCI_INDEX})
                if answer.status == 404:  # an older one: they are under a tag, distribution-spec "Referrers Tag Schema"
                    answer.close()
                    answer = self.request(base, "GET", f"manifests/{digest.replace(':', '-')}", {"Accept": manifests.OCI_INDEX})
                    if answer.status == 404:
                        answer.close()
                        return []
                if answer.status != 200:
                    self.unexpected(answer, base)
                index = self._json(answer.all(manifests.MOST_MANIFEST), base)
                found += [each for each in index.get("manifests") or [] if isinstance(each, dict)]
                path = self._next(answer, base)
                if not path:
                    break
            return [each for each in found if artifact_type in ("", each.get("artifactType"))]

        return self.each_endpoint(ask)

    def _json(self, data: bytes, base: "Endpoint") -> "dict[str, Any]":
        try:
            found = document.read(data.decode(), "answer")
        except (SpecError, UnicodeDecodeError):
            found = None
        if not isinstance(found, dict) or not isinstance(found.get("manifests") or [], list):
            self.fail(base, "its answer is no index")
        return found

    def _next(self, answer: "Answer", base: "Endpoint") -> str:
        """The path below the repository of the next page, RFC 8288; empty: that was the last."""
        link, _, about = answer.header("Link").partition(">")
        if not link.startswith("<") or 'rel="next"' not in about:
            return ""
        url = connections.join(answer.url, link[1:])
        if not url or connections.origin(url) != connections.origin(base.url):
            self.fail(base, "the next page of its answer is somewhere else")
        parts = urlsplit(url)
        top = urlsplit(self.url(base, "")).path
        return parts.path.removeprefix(top) + (f"?{parts.query}" if parts.query else "") if parts.path.startswith(top) else ""

    # ---- blobs

    def blob(self, digest: str, writer: "Writer", came: "Callable[[int], object]") -> None:
        """Fetch a blob into a writer, from where that is; `came` hears of its bytes.  It is the caller who commits."""

        def ask(base: "Endpoint") -> None:
            others = writer.offset  # of an earlier pull, or of a mirror that has failed
            rest(base)
            if not writer.is_right() and (base.mirror or others):
                lost = writer.offset
                writer.restart()
                came(-lost)
                if base.mirror:
                    self.fail(base, f"what it sends as the blob {digest} is something else")
                rest(base)

        def rest(base: "Endpoint") -> None:
            tries = 0
            while writer.offset < writer.size:
                before = writer.offset
                try:
                    self._some_of(base, digest, writer, came)
                    problem = "it ended too early"
                except Trouble as trouble:
                    if not trouble.again:
                        raise
                    problem = trouble.problem
                tries = 0 if writer.offset - before >= ENOUGH else tries + 1
                if writer.offset < writer.size:
                    if tries >= TRIES:
                        self.fail(base, f"the blob {digest} broke off after {writer.offset} of {writer.size} bytes: {problem}",
                                   hint="the same command goes on where this one was")  # fmt: skip
                    self.pause(tries)

        if not writer.done:
            self.each_endpoint(ask)

    def _some_of(self, base: "Endpoint", digest: str, writer: "Writer", came: "Callable[[int], object]") -> None:
        start = writer.offset
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self.request(base, "GET", f"blobs/{digest}", headers)
        try:
            if answer.status == 416 and start:
                writer.restart()
                raise Trouble(base.host, "it cannot go on in the middle", again=True)
            if answer.status == 403 and connections.origin(answer.url) != connections.origin(base.url):
                raise Trouble(connections.host_of(answer.url), "it refuses what it was asked for", again=True)  # a link that ended
            if answer.status not in (200, 206):
                self.unexpected(answer, base, f"the blob {digest}")
            self._must_fit(answer, base, digest, writer)
            skip = start if answer.status == 200 else 0
            for piece in answer.pieces(writer.size - start + skip):
                if skip:
                    piece, skip = piece[skip:], max(0, skip - len(piece))
                if len(piece) > writer.size - writer.offset:
                    self.fail(base, f"the blob {digest} has more than the {writer.size} bytes that its manifest says")
                writer.write(piece)
                came(len(piece))
        finally:
            answer.close()

    def _must_fit(self, answer: "Answer", base: "Endpoint", digest: str, writer: "Writer") -> None:
        if answer.status == 206:
            unit, _, rest = answer.header("Content-Range").partition(" ")
            span, _, whole = rest.partition("/")
            if unit != "bytes" or span.partition("-")[0] != str(writer.offset) or whole not in ("*", str(writer.size)):
                self.fail(base, f"asked for the blob {digest} from {writer.offset} of {writer.size} on, it sent {quoted(rest)}")
        expected = writer.size - (writer.offset if answer.status == 206 else 0)
        if answer.length is not None and answer.length != expected:
            self.fail(base, f"the blob {digest} has {answer.length} bytes, and its manifest says {expected}")

    # ---- asking

    def url(self, base: "Endpoint", path: str) -> str:
        """Of something below the repository."""
        return f"{base.url}{self.reference.repository}/{path}"

    def each_endpoint(self, ask: "Callable[[Endpoint], Result]") -> "Result":
        """Ask the mirrors, then the registry; what the last of them has to say is what counts."""
        for base in self.endpoints[:-1]:
            try:
                return ask(base)
            except (Trouble, RegistryError) as trouble:
                self._say(f"mirror {base.host}: {trouble.problem}; going on without it")
        return self.talk(ask)

    def talk(self, ask: "Callable[[Endpoint], Result]") -> "Result":
        """Ask the registry itself; Trouble becomes what people can read."""
        base = self.endpoints[-1]
        try:
            return ask(base)
        except Refused as refusal:
            self._refuse_access(refusal, base)
        except Trouble as trouble:
            raise RegistryError(self.doing, trouble.host, trouble.problem, hint=trouble.hint) from None

    def request(self, base: "Endpoint", method: str, path: str, headers: "Mapping[str, str] | None" = None,
                body: "bytes | None" = None, *, scope: "str | None" = None, tries: int = TRIES) -> "Answer":  # fmt: skip
        """Ask, and again where the registry is busy or the network breaks off.  `path` is below the repository, or a whole URL, or
        empty for the registry itself.  Raises Trouble."""
        for left in range(tries - 1, -1, -1):
            done = tries - left
            try:
                answer = self.once(base, method, path, headers or {}, body, scope)
            except Trouble as trouble:
                if not trouble.again or not left:
                    raise
                self.pause(done)
                continue
            if answer.status not in BUSY or not left:
                return answer
            wait = _retry_after(answer.header("Retry-After"))
            if wait is not None and wait > LONGEST_WAIT:
                return answer
            answer.close()
            if wait is None:
                self.pause(done)
            else:
                self.through.pause(wait)
        raise AssertionError("the last try returns or raises")

    def once(self, base: "Endpoint", method: str, path: str, headers: "Mapping[str, str]", body: "bytes | Iterable[bytes] | None",
             scope: "str | None" = None) -> "Answer":  # fmt: skip
        """One request, twice where the registry wants to know who we are first.  Raises Trouble."""
        who, again = self._who[id(base)], False
        if scope is None:
            scope = f"repository:{base.prefix}{self.reference.repository}:pull{',push' if self.push else ''}"
        while True:
            url = path if "://" in path else self.url(base, path) if path else base.url
            ours = connections.origin(url) == connections.origin(base.url)
            try:
                shown = who.headers(scope) if ours else {}
                answer = self.through.open(method, url, {**headers, **shown}, body)
            except NoTLS as trouble:
                other = url == path or not url.startswith("https:") or trouble.host != base.host
                if other or not self.through.speak_plainly(base.host):
                    raise
                base.plain = True
                continue
            # Only the registry itself may ask who we are, not whom it leads us to (CVE-2020-15157).
            if answer.status != 401 or not ours or connections.origin(answer.url) != connections.origin(url):
                return answer
            answer.all(MOST_ERROR) if method != "HEAD" else answer.close()
            who.learn(answer, scope, bool(shown), again)
            if not (body is None or isinstance(body, bytes)):
                raise Trouble(base.host, "it wants to know anew who we are", again=True)
            again = True

    def pause(self, tries: int) -> None:
        """A little longer each time, and not all at once."""
        self.through.pause(self.through.patience.pause * 2 ** max(tries - 1, 0) * random.uniform(0.8, 1.2))

    def log_in(self, found: "Credentials") -> None:
        """Whether the registry accepts them."""

        def ask(base: "Endpoint") -> None:
            self._who[id(base)].give(found)
            answer = self.request(base, "GET", "", scope="")
            if answer.status != 200:
                self.unexpected(answer, base)
            answer.close()

        self.talk(ask)

    # ---- what went wrong

    def fail(self, base: "Endpoint", problem: str, status: int = 0, hint: str = "") -> "NoReturn":
        """Raise RegistryError."""
        raise RegistryError(self.doing, base.host, problem, status=status, hint=hint)

    def unexpected(self, answer: "Answer", base: "Endpoint", what: str = "") -> "NoReturn":
        """An answer that is none of those that we know what to do with."""
        status, url = answer.status, answer.url
        said = said_by(answer)
        about = f"asked for {what}, it answered" if what else "it answered"
        if status == 429:
            more = "" if self._who[id(base)].known() else f"; who has logged in (`dolium login {base.name}`) may often ask more"
            self.fail(base, f"it was asked too often (429){said}", status, f"wait a while{more}")
        if status in (401, 403):
            known = self._who[id(base)].known() is not None
            self._refuse_access(Refused(connections.host_of(url), f"it refuses{said}", known=known, status=status), base)
        if status == 400 and base.plain and "https" in said.lower():
            self.fail(base, "it speaks TLS, and was asked without", status, "leave --plain-http out")
        if status == 404 and what:
            self.fail(base, f"it has no {what.removeprefix('the ')}", status, "its manifest names it: the image there is damaged")
        self.fail(base, f"{about} {status}{said}", status, "is it a registry?" if status == 404 else "")

    def _refuse_access(self, refusal: Refused, base: "Endpoint") -> "NoReturn":
        name = self.reference.name
        if base.name == references.HUB and not self.push:
            hint = f"is the name right? Docker Hub does not say whether {quoted(name)} is absent or private"
            hint += "" if refusal.known else "; if it is private: `dolium login`"
        elif refusal.known:
            hint = f"is {quoted(name)} the right name, and may that user do this? `dolium login {base.name}` logs in anew"
        else:
            hint = f"`dolium login {base.name}`, if {quoted(name)} is the right name"
        raise RegistryError(self.doing, refusal.host, refusal.problem, status=refusal.status, hint=hint)


def is_digest(text: str) -> bool:
    """Whether it is one that can be verified here."""
    algorithm, _, digits = text.partition(":")
    return blobs.LENGTHS.get(algorithm) == len(digits) and not digits.strip(blobs.HEX)


def said_by(answer: "Answer") -> str:
    """What a registry says of an error, distribution-spec "Error Codes", on one line; empty where it says nothing."""
    try:
        data = answer.all(MOST_ERROR)
        found = document.read(data.decode(), "answer")["errors"][0]
        text = str(found.get("message") or found.get("code") or "")
    except UnicodeDecodeError:
        return ""
    except (SpecError, LookupError, TypeError, AttributeError):
        text = "" if len(data) > 400 or data.lstrip().startswith(b"<") else data.decode("utf-8", "replace").strip().split("\n")[0]
    except Trouble:
        return ""
    finally:
        answer.close()
    text = "".join(each if each.isprintable() else "?" for each in text)
    return f": {text[:200]}" if text else ""


def _retry_after(text: str) -> "float | None":
    """Seconds, RFC 9110: a number or a date."""
    if text.isascii() and text.isdecimal() and len(text) < 10:
        return float(text)
    if text:
        from email.utils import parsedate_to_datetime
        from time import time

        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time())
        except (ValueError, TypeError, OverflowError):
            pass
    return None
