"""Registries for tests: one in Python that can be told to misbehave, and Debian's docker-registry."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from layouts import Made, digest, layer

from dolium.engine import connections, references
from dolium.engine.registries import Registries
from dolium.engine.registry import Client

QUICK = connections.Patience(connect=5, answer=1.5, window=1.0, least=4096, pause=0.01)
"""For servers that are slow on purpose."""
MADE = Made([layer("base"), layer("more")])


class Request(BaseHTTPRequestHandler):
    """One request: first whatever the test has hung into it, then what an honest registry says."""

    protocol_version = "HTTP/1.1"
    server: "Hostile"  # type: ignore[assignment]
    wbufsize = -1

    def log_message(self, *_: object) -> None:
        pass

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except (ConnectionError, TimeoutError, ValueError):
            self.close_connection = True

    def do(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.seen.append((self.command, self.path, dict(self.headers)))
        for trick in [*self.server.tricks]:
            if trick(self):
                return
        self.server.serve(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = do

    def reply(self, status: int, body: bytes = b"", length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def hang_up(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Hostile(ThreadingHTTPServer):
    """Serves one image as `image:latest`, until a trick has it otherwise."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, made: Made = MADE, address: str = "127.0.0.1") -> None:
        super().__init__((address, 0), Request)
        self.made = made
        self.blobs = dict(made.blobs)
        self.tags = {"latest": made.digest}
        self.types: dict[str, str] = {}
        self.uploads: dict[str, bytes] = {}
        self.tricks: list[Callable[[Request], bool]] = []
        self.seen: list[tuple[str, str, dict[str, str]]] = []
        self.name = f"{address}:{self.server_address[1]}"
        self.url = f"http://{self.name}"
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def handle_error(self, *_: object) -> None:
        pass

    def close(self) -> None:
        self.shutdown()
        self.server_close()

    def serve(self, request: Request) -> None:
        parts = urlsplit(request.path)
        words = parts.path.strip("/").split("/")
        if words == ["v2"]:
            request.reply(200)
        elif words[-2] == "manifests" and request.command in ("GET", "HEAD"):
            name = self.tags.get(words[-1], words[-1])
            if name not in self.blobs:
                return request.reply(404, b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}')
            data = self.blobs[name]
            kind = self.types.get(name) or json.loads(data).get("mediaType", "application/json")
            request.reply(200, data, Content_Type=kind, Docker_Content_Digest=name)
        elif words[-2] == "manifests":
            name = digest(request.body)
            self.blobs[name], self.tags[words[-1]] = request.body, name
            self.types[name] = request.headers["Content-Type"]
            request.reply(201, Docker_Content_Digest=name, Location=request.path)
        elif words[-2] == "blobs" and words[-1] != "uploads":
            self.blob(request, words[-1])
        elif "uploads" in words:
            self.upload(request, words, parse_qs(parts.query))
        else:
            request.reply(404, b"404 page not found")

    def blob(self, request: Request, name: str) -> None:
        data = self.blobs.get(name)
        if data is None:
            return request.reply(404)
        begin = request.headers.get("Range", "").removeprefix("bytes=").partition("-")[0]
        if begin:
            request.reply(206, data[int(begin) :], Content_Range=f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            request.reply(200, data, Docker_Content_Digest=name)

    def upload(self, request: Request, words: list[str], query: dict[str, list[str]]) -> None:
        if request.command == "POST":
            if query.get("mount", [""])[0] in self.blobs:
                return request.reply(201)
            session = str(len(self.uploads))
            self.uploads[session] = b""
            return request.reply(202, Location=f"{request.path.partition('?')[0].rstrip('/')}/{session}?state=a", Range="0-0")
        session = words[-1]
        had = self.uploads[session]
        if request.command == "DELETE":
            del self.uploads[session]
            return request.reply(204)
        if request.command == "GET":
            return request.reply(204, Range=f"0-{max(len(had) - 1, 0)}", Location=request.path)
        if request.command == "PATCH":
            begin = int(request.headers["Content-Range"].partition("-")[0])
            if begin != len(had):
                return request.reply(416, Range=f"0-{len(had) - 1}", Location=request.path)
            self.uploads[session] += request.body
            return request.reply(202, Range=f"0-{len(self.uploads[session]) - 1}", Location=request.path)
        data, name = had + request.body, query["digest"][0]
        if digest(data) != name:
            return request.reply(400, b'{"errors":[{"code":"DIGEST_INVALID","message":"provided digest did not match"}]}')
        self.blobs[name] = data
        request.reply(201, Docker_Content_Digest=name, Location=f"/v2/x/blobs/{name}")

    def asked(self, word: str) -> list[tuple[str, str, dict[str, str]]]:
        """The requests whose path has that in it."""
        return [each for each in self.seen if word in each[1]]

    def client(self, settings: Registries | None = None, push: bool = False, patience: connections.Patience = QUICK,
               path: str = "image") -> Client:
        reference = references.parse(f"{self.name}/{path}")
        return Client(reference, f"pull {path}", settings or Registries(), push=push, patience=patience)


@pytest.fixture
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    yield server
    server.close()


@pytest.fixture
def other() -> Iterator[Hostile]:
    """Another host: another address, and so another origin."""
    server = Hostile(address="127.0.0.2")
    yield server
    server.close()


@pytest.fixture
def nobody(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """No credentials and no settings but the test's own: the home directory."""
    home = f"{tmp_path}/home"
    os.makedirs(home)
    for name in ("REGISTRY_AUTH_FILE", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("XDG_RUNTIME_DIR", f"{home}/run")
    return home


def know(home: str, **who: str) -> None:
    """Write docker's config.json: HOST -> USER:PASSWORD."""
    os.makedirs(f"{home}/.docker", exist_ok=True)
    auths = {host: {"auth": base64.b64encode(text.encode()).decode()} for host, text in who.items()}
    with open(f"{home}/.docker/config.json", "w") as file:
        json.dump({"auths": auths}, file)


class Tokens:
    """A trick: only who has a token of ours is let in; `/token` gives them to whom it may concern."""

    def __init__(self, server: Hostile, user: str = "", realm: str = "", lasts: int | None = None) -> None:
        self.user = user
        self.realm = realm or f"{server.url}/token"
        self.lasts = lasts
        self.given: list[str] = []
        self.asked: list[tuple[str, dict[str, list[str]], str]] = []

    def __call__(self, request: Request) -> bool:
        parts = urlsplit(request.path)
        if parts.path == "/token":
            said = request.headers.get("Authorization", "")
            form = parse_qs(request.body.decode()) if request.command == "POST" else parse_qs(parts.query)
            self.asked.append((request.command, form, said))
            if self.user and base64.b64encode(self.user.encode()).decode() != said.removeprefix("Basic ") and form.get("refresh_token") != ["refresh-me"]:
                request.reply(401, b'{"errors":[{"code":"UNAUTHORIZED"}]}')
                return True
            self.given.append(f"token-{len(self.given)}")
            body: dict[str, Any] = {"token": self.given[-1]}
            if self.lasts is not None:
                body["expires_in"] = self.lasts
            request.reply(200, json.dumps(body).encode(), Content_Type="application/json")
            return True
        if self.given and request.headers.get("Authorization") == f"Bearer {self.given[-1]}":
            return False
        about = f'Bearer realm="{self.realm}",service="registry.test",scope="repository:image:pull"'
        request.reply(401, b'{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}', WWW_Authenticate=about)
        return True


def failing(status: int, times: int, **headers: str) -> Callable[[Request], bool]:
    """A trick: so many requests are answered so."""
    left = [times]

    def fail(request: Request) -> bool:
        left[0] -= 1
        return left[0] >= 0 and (request.reply(status, **headers) or True)
    return fail


# ---- Debian's


def program(name: str) -> str:
    """Its path; the one that make/setup.sh has taken out of the package first."""
    top = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found = f"{top}/.build/registry/usr/bin/{name}"
    return found if os.access(found, os.X_OK) else shutil.which(name) or ""


class Debian:
    """docker-registry on a port of its own; `ca` who has signed its certificate, where it speaks TLS."""

    def __init__(self, folder: str, tls: bool = False, user: str = "") -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.name = f"localhost:{probe.getsockname()[1]}" if tls else f"127.0.0.1:{probe.getsockname()[1]}"
        port = self.name.rpartition(":")[2]
        self.ca = f"{folder}/ca.crt"
        lines = ["version: 0.1", "log: {level: error, accesslog: {disabled: true}}",
                 f"storage: {{filesystem: {{rootdirectory: {folder}/blobs}}, delete: {{enabled: true}}}}",
                 f"http: {{addr: '127.0.0.1:{port}'{tls_words(folder) if tls else ''}}}"]  # fmt: skip
        if user:
            name, _, password = user.partition(":")
            with open(f"{folder}/htpasswd", "w") as file:
                file.write(subprocess.run(["htpasswd", "-nbB", name, password], capture_output=True, text=True, check=True).stdout)
            lines.append(f"auth: {{htpasswd: {{realm: test, path: {folder}/htpasswd}}}}")
        with open(f"{folder}/config.yml", "w") as file:
            file.write("\n".join(lines) + "\n")
        self.process = subprocess.Popen([program("docker-registry"), "serve", f"{folder}/config.yml"],
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", int(port)), 1).close()
                return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < end, "docker-registry does not start"
                time.sleep(0.05)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def tls_words(folder: str) -> str:
    """Make a CA and a certificate for localhost; what the registry's configuration says of them."""
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)

    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "ca.key", "-out", "ca.crt",
            "-days", "30000", "-subj", "/CN=Dolium's tests", "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "tls.key", "-out", "tls.csr", "-subj", "/CN=localhost")
    with open(f"{folder}/names", "w") as file:
        file.write("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "tls.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "30000", "-out", "tls.crt", "-extfile", "names")
    return f", tls: {{certificate: {folder}/tls.crt, key: {folder}/tls.key}}"


@contextmanager
def hostile_by_tls(folder: str, address: str = "127.0.0.1", *, asks: bool = False) -> Iterator[Hostile]:
    """One that speaks TLS, with a certificate for localhost of a CA of the test's; `asks`: and wants one of the caller's by it."""
    need("openssl")
    tls_words(folder)
    server = Hostile(MADE, address)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{folder}/tls.crt", f"{folder}/tls.key")
    if asks:
        context.load_verify_locations(f"{folder}/ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
    server.socket = context.wrap_socket(server.socket, server_side=True)
    try:
        yield server
    finally:
        server.close()


def need(*programs: str) -> None:
    """Skip the test where one of them is absent."""
    for each in programs:
        if not program(each):
            pytest.skip(f"no {each} here (make/setup.sh test installs it for root)")


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
