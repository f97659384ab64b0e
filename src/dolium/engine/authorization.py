"""What a registry wants to see before it answers: Basic, or the tokens of the distribution's token specification (Bearer).

A challenge is answered for the registry that made it alone.  Its `realm` may be another host, as Docker Hub's is; it is asked by
TLS, or without only where the registry itself is spoken to so.
"""

from base64 import b64encode
from threading import Lock
from time import monotonic
from urllib.parse import quote, urlencode

from dolium.core import document
from dolium.engine import connections, credentials
from dolium.engine.trouble import Trouble
from dolium.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.connections import Answer, Connections
    from dolium.engine.credentials import Credentials

MOST_TOKEN = 1 << 20
LASTS, LEAST_LEFT = 60.0, 10.0
"""Seconds a token is good for where nothing is said (token specification), and those that a request should still have."""
CLIENT = "dolium"
WORD = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""RFC 9110, token."""


class Refused(Trouble):
    """Who we are, or that we are nobody, is not enough; `known`: we had credentials.  `status` of the answer."""

    def __init__(self, host: str, problem: str, *, known: bool, status: int = 401) -> None:
        super().__init__(host, problem)
        self.known = known
        self.status = status


class Challenge:
    """One of `WWW-Authenticate`: scheme in lower case, parameters by name in lower case."""

    __slots__ = ("scheme", "parameters")

    def __init__(self, scheme: str, parameters: "dict[str, str]") -> None:
        self.scheme = scheme
        self.parameters = parameters


def challenges(headers: "list[str]") -> "list[Challenge]":
    """Those in the values of `WWW-Authenticate`, RFC 9110 section 11; what is malformed ends its value."""
    found: list[Challenge] = []
    for text in headers:
        rest = text.strip()
        while rest:
            word, rest = _word(rest)
            if not word:
                break
            if rest.startswith("=") and found:
                value, rest = _value(rest[1:].lstrip())
                found[-1].parameters.setdefault(word.lower(), value)
            else:
                found.append(Challenge(word.lower(), {}))
            rest = rest.lstrip(", \t")
    return found


def _word(text: str) -> "tuple[str, str]":
    end = next((at for at, each in enumerate(text) if each not in WORD), len(text))
    return text[:end], text[end:].lstrip()


def _value(text: str) -> "tuple[str, str]":
    if not text.startswith('"'):
        return _word(text)
    value, at = "", 1
    while at < len(text) and text[at] != '"':
        at += text[at] == "\\"
        value += text[at : at + 1]
        at += 1
    return value, text[at + 1 :].lstrip()


class Authorization:
    """For one registry, or one mirror: what to send with each request, learnt from its first refusal."""

    def __init__(self, through: "Connections", registry: str, repository: str) -> None:
        self._through = through
        self._registry = registry
        self._repository = repository
        self._lock = Lock()
        self._challenge: Challenge | None = None
        self._tokens: dict[str, tuple[str, float]] = {}
        self._known: Credentials | None = None
        self._looked = False

    def give(self, found: "Credentials") -> None:
        """Credentials to use instead of those that are kept."""
        self._known, self._looked = found, True

    def known(self) -> "Credentials | None":
        """Ours there.  Raises SpecError and DoliumError."""
        if not self._looked:
            self._known = credentials.find(self._registry, self._repository)
            self._looked = True
        return self._known

    def headers(self, scope: str) -> "dict[str, str]":
        """What to send; empty while nothing has been asked for.  Raises Trouble and Refused."""
        with self._lock:
            if self._challenge is None:
                return {}
            if self._challenge.scheme == "basic":
                return {"Authorization": f"Basic {self._basic()}"}
            token, until = self._tokens.get(scope, ("", 0.0))
            if not token or monotonic() > until - LEAST_LEFT:
                token, lasts = self._fetch(self._challenge, scope)
                self._tokens[scope] = (token, monotonic() + lasts)
            return {"Authorization": f"Bearer {token}"}

    def learn(self, answer: "Answer", scope: str, sent: bool, again: bool) -> None:
        """After a 401: what is to be sent the next time.  `sent`: something was; `again`: this is the second one for one request.
        Raises Refused where there is nothing else to try."""
        host = connections.host_of(answer.url)
        offered = challenges(answer.headers("WWW-Authenticate"))
        chosen = next((each for wanted in ("bearer", "basic") for each in offered if each.scheme == wanted), None)
        with self._lock:
            known = self.known() is not None
            if chosen is None:
                names = ", ".join(each.scheme for each in offered) or "nothing"
                raise Refused(host, f"it refuses, and offers {names} to log in by, of Bearer and Basic", known=known)
            if again or (sent and chosen.scheme == "basic"):
                raise Refused(host, "it does not accept who we are" if known else "it refuses", known=known)
            self._tokens.pop(scope, None)  # one may end before its time
            self._challenge = chosen

    def _basic(self) -> str:
        known = self.known()
        if known is None or not known.user:
            raise Refused(self._registry, "it wants a name and a password", known=False)
        return b64encode(f"{known.user}:{known.password}".encode()).decode()

    def _fetch(self, challenge: Challenge, scope: str) -> "tuple[str, float]":
        """A token for that scope, and how long it lasts.  Raises Trouble and Refused."""
        realm = challenge.parameters.get("realm", "")
        self._must_be_realm(realm)
        known = self.known()
        service = challenge.parameters.get("service", "")
        if known is not None and known.token:
            form = {"grant_type": "refresh_token", "service": service, "client_id": CLIENT, "scope": scope,
                    "refresh_token": known.token}  # fmt: skip
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._through.open("POST", realm, headers, urlencode(form).encode(), follow=False)
        else:
            query = {"service": service} if service else {}
            if known is not None:
                query |= {"account": known.user, "client_id": CLIENT}
            pairs = [*query.items(), *(("scope", each) for each in scope.split(" ") if each)]
            url = realm + ("&" if "?" in realm else "?") + urlencode(pairs, quote_via=quote, safe=":,/")
            headers = {} if known is None else {"Authorization": f"Basic {self._basic()}"}
            answer = self._through.open("GET", url, headers)
        body = answer.all(MOST_TOKEN)
        host = connections.host_of(realm)
        if answer.status in (401, 403):
            raise Refused(host, "it does not accept who we are" if known else "it gives no token to who is not known",
                          known=known is not None, status=answer.status)  # fmt: skip
        if answer.status != 200:
            again = answer.status >= 500 or answer.status == 429
            raise Trouble(host, f"asked for a token, it answered {answer.status}", again=again)
        return _token(body, host)

    def _must_be_realm(self, realm: str) -> None:
        if not connections.join("", realm):
            raise Trouble(self._registry, "the place that it names for tokens is no address on the web")
        host = connections.host_of(realm)
        if realm.startswith("http:") and self._through.scheme(self._registry) != "http" and not self._through.settings.plain(host):
            raise Trouble(self._registry, f"for tokens it sends us to {host} without TLS: all could read who we are")


def _token(body: bytes, host: str) -> "tuple[str, float]":
    try:
        found: Any = document.read(body.decode(), "answer")
    except (SpecError, UnicodeDecodeError):
        found = None
    found = found if isinstance(found, dict) else {}
    token, lasts = found.get("token") or found.get("access_token"), found.get("expires_in")
    if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable() or " " in token:
        raise Trouble(host, "asked for a token, it gave none")
    plain = isinstance(lasts, (int, float)) and not isinstance(lasts, bool) and 0 < lasts < 1e9
    return token, max(float(lasts), LASTS) if plain else LASTS
