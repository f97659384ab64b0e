"""HTTP/1.1 to registries, on http.client: connections that are kept, TLS, proxies, redirects, and what no server may do to us.

A server that falls silent, or sends so slowly that nobody would wait (slow loris), is given up; so is an answer that does not end.
What proves who we are is sent to the one host that it is for: a redirect elsewhere goes without it (CVE-2020-15157), and none leads
from TLS to plain HTTP.  docs/decisions/0026-registries-by-the-standard-library.md
"""

import os
import socket
import ssl
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from io import BufferedReader
from threading import Event, Lock
from time import monotonic
from urllib.parse import SplitResult, urljoin, urlsplit

from dolium import __version__
from dolium.engine import registries
from dolium.engine.trouble import NoTLS, Trouble, explained, of_certificate, setting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

AGENT = f"dolium/{__version__}"
PIECE = 1 << 18
"""Bytes read at a time."""
MOST_REDIRECTS = 5
MOST_URL = 16384
MOVED = (301, 302, 303, 307, 308)
OTHER_THAN_TLS = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
IDLE = 8
"""Connections kept for one host."""


class Patience:
    """How long a server may take, in seconds.

    connect  to be reached;  answer  to begin its answer, and to end a small one
    window   in which a large one brings at least `least` bytes
    pause    before a second try; twice as long before each further one
    """

    __slots__ = ("connect", "answer", "window", "least", "pause")

    def __init__(self, connect: float = 20.0, answer: float = 60.0, window: float = 30.0, least: int = 8192,
                 pause: float = 0.5) -> None:  # fmt: skip
        self.connect = connect
        self.answer = answer
        self.window = window
        self.least = least
        self.pause = pause


class _Raw(socket.SocketIO):
    """A socket whose bytes have to come in time."""

    def __init__(self, sock: socket.socket, patience: Patience) -> None:
        super().__init__(sock, "r")
        sock._io_refs += 1  # type: ignore[attr-defined]  # as socket.makefile does: it is closed with the last of them
        self._socket = sock
        self._patience = patience
        self.deadline = monotonic() + patience.answer
        self._paced = False
        self._came = 0

    def pace(self) -> None:
        """From here on it is a large body."""
        self._paced = True
        self._begin()

    def _begin(self) -> None:
        self.deadline = monotonic() + self._patience.window
        self._came = 0

    def readinto(self, buffer: "memoryview") -> int:  # type: ignore[override]
        left = self.deadline - monotonic()
        if left <= 0:
            raise TimeoutError("too slow")
        self._socket.settimeout(left)
        count = super().readinto(buffer) or 0
        self._came += count
        if self._paced and self._came >= self._patience.least:
            self._begin()
        return count


class Answer:
    """What a server said: `status`, `url` that said it, and a body.  Close it."""

    def __init__(self, response: HTTPResponse, raw: _Raw, url: str, give_back: "Callable[[bool], object]") -> None:
        self.status = response.status
        self.url = url
        self._response = response
        self._raw = raw
        self._give_back: Callable[[bool], object] | None = give_back

    def header(self, name: str) -> str:
        """The first of that name; empty where there is none."""
        return self._response.headers.get(name, "")

    def headers(self, name: str) -> "list[str]":
        """All of that name."""
        return self._response.headers.get_all(name) or []

    @property
    def length(self) -> "int | None":
        """Bytes of the body, where it is said."""
        text = self.header("Content-Length")
        return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None

    def all(self, most: int) -> bytes:
        """The whole of a small body.  Raises Trouble for more than so many bytes, and for what does not come in time."""
        data = b""
        while piece := self._some(min(PIECE, most + 1 - len(data))):
            data += piece
            if len(data) > most:
                self.close()
                raise Trouble(host_of(self.url), f"its answer has more than {most} bytes")
        self.close()
        if self.length is not None and len(data) < self.length:
            raise Trouble(host_of(self.url), "it broke off in the middle of its answer", again=True)
        return data

    def pieces(self, most: int) -> "Iterable[memoryview]":
        """A large body, piece by piece, each valid until the next; at most one byte more than `most`.  Raises Trouble."""
        self._raw.pace()
        buffer = memoryview(bytearray(PIECE))
        left = most + 1
        while left > 0 and (count := self._into(buffer[: min(PIECE, left)])):
            left -= count
            yield buffer[:count]

    def _into(self, buffer: memoryview) -> int:
        try:
            return self._response.readinto(buffer)
        except (OSError, HTTPException, ValueError) as error:
            self.close()
            raise explained(error, host_of(self.url)) from None

    def _some(self, size: int) -> bytes:
        try:
            return self._response.read(size)
        except (OSError, HTTPException, ValueError) as error:
            self.close()
            raise explained(error, host_of(self.url)) from None

    def close(self) -> None:
        """The connection is kept if the whole answer was read, and closed otherwise."""
        give_back, self._give_back = self._give_back, None
        whole = self._response.isclosed() and not self._response.length
        self._response.close()
        if give_back is not None:
            give_back(whole and not self._response.will_close)


class Connections:
    """To any number of hosts, for any number of threads."""

    def __init__(self, settings: registries.Registries, patience: "Patience | None" = None) -> None:
        self.settings = settings
        self.patience = patience or Patience()
        self._lock = Lock()
        self._ended = Event()
        self._sockets: set[socket.socket] = set()
        self._shelves: dict[tuple[str, str], list[HTTPConnection]] = {}
        self._contexts: dict[str, ssl.SSLContext] = {}
        """By what is special of a host, mostly nothing: to load the host's CAs takes longer than to connect."""
        self._plain: set[str] = set()
        self._encrypted: set[str] = set()

    def close(self) -> None:
        """All that are idle."""
        with self._lock:
            for shelf in self._shelves.values():
                while shelf:
                    self._sockets.discard(shelf[-1].sock)
                    shelf.pop().close()

    def abort(self) -> None:
        """End what other threads are about: each of them has Trouble now."""
        self._ended.set()
        with self._lock:
            for each in self._sockets:
                try:
                    each.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def pause(self, seconds: float) -> None:
        """Wait, unless that has been ended.  Raises Trouble."""
        if self._ended.wait(seconds):
            raise Trouble("", "given up")

    def _drop(self, connection: HTTPConnection, sock: "socket.socket | None") -> None:
        with self._lock:
            if sock is not None:
                self._sockets.discard(sock)
        connection.close()

    def scheme(self, host: str) -> str:
        """How that host is spoken to; `http` is found out where it is allowed."""
        return "http" if host in self._plain or self.settings.plain(host) else "https"

    def open(self, method: str, url: str, headers: "Mapping[str, str]", body: "bytes | Iterable[bytes] | None" = None, *,
             follow: bool = True) -> Answer:  # fmt: skip
        """Send a request, and follow where the answer leads.  `Authorization` goes to the host of `url` alone.  Close the answer.

        A body that is no bytes is read once: for such a one there is no redirect, and `Content-Length` is among `headers`.
        Raises Trouble.
        """
        sent = dict(headers)
        for _ in range(MOST_REDIRECTS + 1):
            answer = self._try(method, url, sent, body)
            target = answer.header("Location") if answer.status in MOVED and follow else ""
            if not target or not (body is None or isinstance(body, bytes)):
                return answer
            answer.close()
            url, before = self._target(url, target), url
            if origin(url) != origin(before):
                sent = {name: value for name, value in sent.items() if name.lower() not in ("authorization", "cookie")}
            if answer.status == 303 and method not in ("GET", "HEAD"):
                method, body = "GET", None
        raise Trouble(host_of(url), f"it has led us on more than {MOST_REDIRECTS} times")

    def _target(self, url: str, target: str) -> str:
        """Where a redirect leads.  Raises Trouble where that is nowhere to go."""
        host, found = host_of(url), join(url, target)
        if not found:
            raise Trouble(host, "it leads us to what is no address on the web")
        if found.startswith("http:") and url.startswith("https:"):
            raise Trouble(host, f"it leads us from TLS to plain HTTP, to {host_of(found)}")
        if found.startswith("http:") and origin(url) != origin(found) and not self._allows_plain(host_of(found)):
            raise Trouble(host, f"it leads us to {host_of(found)} without TLS")
        return found

    def _allows_plain(self, host: str) -> bool:
        return self.settings.plain(host) or self.settings.may_be_plain(host)

    def _try(self, method: str, url: str, headers: "dict[str, str]", body: "bytes | Iterable[bytes] | None") -> Answer:
        """On a connection that was kept, and where that has been closed by the other end meanwhile, on a new one."""
        parts = urlsplit(url)
        host = host_of(url)
        if parts.scheme == "http" and not self._allows_plain(host):
            raise Trouble(host, "without TLS nobody but you yourself may be asked",
                          hint=f"--plain-http allows it, or {setting(host)}")
        shelf = self._shelves.setdefault(origin(url), [])
        while True:
            with self._lock:
                connection = shelf.pop() if shelf else None
            kept = connection is not None
            if connection is None:
                connection = self._connect(parts.scheme, host)
            sock = connection.sock
            try:
                return self._send(connection, shelf, method, url, headers, body)
            except (OSError, HTTPException, ValueError) as error:
                self._drop(connection, sock)
                replayed = body is None or isinstance(body, bytes)
                if kept and replayed and isinstance(error, (RemoteDisconnected, BrokenPipeError, ConnectionResetError)):
                    continue
                raise explained(error, host) from None
            except BaseException:
                self._drop(connection, sock)
                raise

    def _send(self, connection: HTTPConnection, shelf: "list[HTTPConnection]", method: str, url: str, headers: "dict[str, str]",
              body: "bytes | Iterable[bytes] | None") -> Answer:  # fmt: skip
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if connection.sock is not None:
            connection.sock.settimeout(self.patience.window)
        if connection.host != parts.hostname and not isinstance(connection, HTTPSConnection):
            path = url  # by way of a proxy
        ours = {"Host": parts.netloc, "User-Agent": AGENT, "Accept-Encoding": "identity"}
        connection.request(method, path, body, {**ours, **headers})
        sock = connection.sock
        raws: list[_Raw] = []

        def respond(sock: socket.socket, method: "str | None" = None) -> HTTPResponse:
            response = HTTPResponse(sock, method=method)
            response.fp.close()
            raws.append(_Raw(sock, self.patience))
            response.fp = BufferedReader(raws[0], 1 << 16)
            return response

        connection.response_class = respond  # type: ignore[assignment]
        response = connection.getresponse()

        def give_back(good: bool) -> None:
            with self._lock:
                if good and connection.sock is not None and len(shelf) < IDLE:
                    shelf.append(connection)
                    return
            self._drop(connection, sock)

        return Answer(response, raws[0], url, give_back)

    # ---- connecting

    def _connect(self, scheme: str, host: str) -> HTTPConnection:
        parts = urlsplit(f"{scheme}://{host}")
        name, port = parts.hostname or "", parts.port or (80 if scheme == "http" else 443)
        proxy = None if registries.is_loopback(host) else _proxy(scheme, name)
        to, at = (proxy.hostname or "", proxy.port or 80) if proxy else (name, port)
        if scheme == "http":
            connection = HTTPConnection(to, at, timeout=self.patience.connect)
        else:
            if not proxy and self.settings.may_be_plain(host) and host not in self._encrypted:
                self._must_speak_tls(host, name, port)
            connection = HTTPSConnection(to, at, timeout=self.patience.connect, context=self._context(host))
            if proxy:
                connection.set_tunnel(name, port, _proxy_headers(proxy))
        try:
            connection.connect()
        except (OSError, HTTPException, ValueError) as error:
            connection.close()
            raise self._unreachable(error, host, f" (by way of the proxy {to}:{at})" if proxy else "") from None
        assert connection.sock is not None
        with self._lock:
            self._sockets.add(connection.sock)
        if self._ended.is_set():
            self._drop(connection, connection.sock)
            raise Trouble(host, "given up")
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def _must_speak_tls(self, host: str, name: str, port: int) -> None:
        """Whether it does at all, where it need not: nothing is sent, so nobody is believed, and the CAs of this host, which take
        longer to load than all the rest of a request, are not looked at.  Raises Trouble."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        try:
            with socket.create_connection((name, port), self.patience.connect) as sock, context.wrap_socket(sock):
                self._encrypted.add(host)
        except (OSError, ValueError) as error:
            raise self._unreachable(error, host, "") from None

    def _context(self, host: str) -> ssl.SSLContext:
        authorities, own = self.settings.certificates(host)
        key = repr((authorities, own, self.settings.verified(host)))
        with self._lock:
            if key not in self._contexts:
                self._contexts[key] = self._make_context(host, authorities, own)
            return self._contexts[key]

    def _make_context(self, host: str, authorities: "list[str]", own: "list[tuple[str, str]]") -> ssl.SSLContext:
        context = ssl.create_default_context()
        if not self.settings.verified(host):
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        for path in authorities:
            try:
                context.load_verify_locations(path)
            except OSError as error:
                raise Trouble(host, f"the CA `{path}` cannot be read: {error.strerror or error}") from None
        for certificate, key in own:
            try:
                context.load_cert_chain(certificate, key, password=lambda: "")
            except OSError as error:
                raise Trouble(host, f"the certificate `{certificate}` cannot be used: {error.strerror or error}") from None
        return context

    def _unreachable(self, error: Exception, host: str, way: str) -> Trouble:
        if isinstance(error, (ssl.SSLEOFError, ConnectionResetError)) and self.settings.may_be_plain(host):
            return NoTLS(host)
        if isinstance(error, ssl.SSLError):
            return NoTLS(host) if error.reason in OTHER_THAN_TLS else of_certificate(error, host)
        found = explained(error, host)
        return Trouble(host, found.problem + way, hint=found.hint, again=found.again)

    def speak_plainly(self, host: str) -> bool:
        """After NoTLS: whether it is to be tried without."""
        if not self.settings.may_be_plain(host):
            return False
        self._plain.add(host)
        return True


def join(url: str, target: str) -> str:
    """Where a server's `target` leads from `url`; empty where that is no address on the web, or has a password in it."""
    try:
        found = urljoin(url, target)
        parts = urlsplit(found)
        fine = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and len(found) <= MOST_URL
    except ValueError:
        return ""
    if not fine or not found.isascii() or not found.isprintable() or " " in found or "@" in parts.netloc:
        return ""
    return found


def origin(url: str) -> "tuple[str, str]":
    """Scheme and HOST:PORT: to whom a secret belongs."""
    parts = urlsplit(url)
    return parts.scheme, f"{parts.hostname}:{parts.port or (80 if parts.scheme == 'http' else 443)}"


def host_of(url: str) -> str:
    """HOST[:PORT] of a URL."""
    return urlsplit(url).netloc.rpartition("@")[2].lower()


def _proxy(scheme: str, name: str) -> "SplitResult | None":
    """As `http_proxy`, `https_proxy` and `no_proxy` have it."""
    def variable(which: str) -> str:
        return os.environ.get(which) or os.environ.get(which.upper()) or ""

    for each in variable("no_proxy").split(","):
        each = each.strip().lstrip(".").lower()
        if each and (each == "*" or name == each or name.endswith(f".{each}")):
            return None
    url = variable(f"{scheme}_proxy")
    return urlsplit(url if "://" in url else f"http://{url}") if url else None


def _proxy_headers(proxy: SplitResult) -> "dict[str, str]":
    if not proxy.username:
        return {}
    from base64 import b64encode
    from urllib.parse import unquote

    secret = b64encode(f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {secret}"}
