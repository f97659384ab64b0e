"""Who we are at a registry: the files and helpers that docker and podman have, so that one login counts for all.

Looked at in this order: `$REGISTRY_AUTH_FILE`; docker's `config.json` (`$DOCKER_CONFIG`, or `~/.docker`), where `dolium login`
writes; podman's `auth.json` (`$XDG_RUNTIME_DIR/containers`, or `/run/containers/UID`; then `~/.config/containers`).  In each a
helper of the registry's own (`credHelpers`), what is written (`auths`, where the longest `HOST/PATH` wins), the helper for all
(`credsStore`).  A helper is a program, `docker-credential-NAME`, that is asked by `get` and answers in JSON.
"""

import os

from dolium.core import document
from dolium.engine import references
from dolium.errors import DoliumError, SpecError
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HUB_KEY = "https://index.docker.io/v1/"
"""Under which docker keeps those of Docker Hub."""
PATIENCE = 60.0
"""Seconds for a helper, which may ask its user something."""
TOKEN = "<token>"
"""The user's name that a helper gives with an identity token."""


class Credentials:
    """A user's name and password, or an identity token, which is exchanged for others; `source` the file or helper it is from."""

    __slots__ = ("user", "password", "token", "source")

    def __init__(self, user: str = "", password: str = "", token: str = "", source: str = "") -> None:
        self.user = user
        self.password = password
        self.token = token
        self.source = source

    def __repr__(self) -> str:  # a password has no place in a traceback
        return f"Credentials(user={self.user!r}, source={self.source!r})"


def files() -> "list[str]":
    """Where credentials may be, in the order of what counts."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    given = os.environ.get("REGISTRY_AUTH_FILE")
    settings = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    found = [given] if given else []
    return [*found, own(), f"{runtime}/containers/auth.json" if runtime else f"/run/containers/{os.getuid()}/auth.json",
            f"{settings}/containers/auth.json"]  # fmt: skip


def own() -> str:
    """The file that `dolium login` writes."""
    return f"{os.environ.get('DOCKER_CONFIG') or os.path.expanduser('~/.docker')}/config.json"


def find(registry: str, repository: str = "") -> "Credentials | None":
    """Those for a registry (HOST[:PORT]); None: there are none.  Raises SpecError for a file that is malformed, and DoliumError."""
    for path in files():
        about = _read(path)
        if helper := _mapping(about, "credHelpers", path).get(registry):
            return _ask(helper, registry, path)
        if found := _written(_mapping(about, "auths", path), registry, repository, path):
            return found
        if (helper := about.get("credsStore")) and (found := _ask(helper, registry, path)):
            return found
    return None


def trouble() -> "tuple[str, str]":
    """For the doctor: the first file that cannot be used, or names a helper that is not there, and why; no helper is run."""
    for path in files():
        try:
            about = _read(path)
            helpers = [*_mapping(about, "credHelpers", path).values(), *([about["credsStore"]] if about.get("credsStore") else [])]
            _mapping(about, "auths", path)
        except SpecError as error:
            return path, error.problem
        for each in helpers:
            if not isinstance(each, str) or not _is_there(f"docker-credential-{each}"):
                return path, f"there is no program docker-credential-{each}, which it says to ask"
    return "", ""


def _is_there(program: str) -> bool:
    from shutil import which

    return which(program) is not None


def _read(path: str) -> "dict[str, Any]":
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 20)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return {}
    if not data.strip():
        return {}
    try:
        found = document.read(data.decode(), path)
    except UnicodeDecodeError:
        raise SpecError(path, "is not UTF-8") from None
    if not isinstance(found, dict):
        raise SpecError(path, "is no JSON object")
    return found


def _mapping(holder: "dict[str, Any]", key: str, path: str) -> "dict[str, Any]":
    found = holder.get(key)
    found = {} if found is None else found
    if not isinstance(found, dict):
        raise SpecError(path, f"`{key}` is no object")
    return found


def _plain(key: str) -> str:
    """HOST[/PATH] of a key, which may be a URL of long ago."""
    key = key.partition("://")[2] or key
    host, _, rest = key.partition("/")
    if host in ("index.docker.io", "registry-1.docker.io"):
        host = references.HUB
    if rest.rstrip("/") in ("", "v1", "v2"):
        rest = ""
    return f"{host}/{rest}".rstrip("/")


def _written(auths: "dict[str, Any]", registry: str, repository: str, path: str) -> "Credentials | None":
    wanted = f"{registry}/{repository}/"
    for key in sorted(auths, key=lambda each: -len(_plain(each))):
        about = auths[key]
        if not wanted.startswith(f"{_plain(key)}/") or not isinstance(about, dict):
            continue
        token = about.get("identitytoken") or ""
        user, password = about.get("username") or "", about.get("password") or ""
        if packed := about.get("auth"):
            user, password = _unpack(packed, f"{path}: auths.{key}")
        if (user and password) or token:
            return Credentials(str(user), str(password), str(token), path)
    return None


def _unpack(packed: object, where: str) -> "tuple[str, str]":
    from base64 import b64decode

    try:
        user, colon, password = b64decode(str(packed).encode(), validate=True).decode().rstrip("\0").partition(":")
    except ValueError:
        colon = ""
    if not colon:
        raise SpecError(where, "`auth` is no USER:PASSWORD in base 64", hint="dolium login writes it anew")
    return user, password


# ---- helpers


def _ask(helper: object, registry: str, path: str) -> "Credentials | None":
    key = HUB_KEY if registry == references.HUB else registry
    code, said = _run(helper, "get", key, path)
    if code:
        if "credentials not found" in said:
            return None
        raise DoliumError(f"cannot get credentials for {registry}: docker-credential-{helper}: {said or f'it ended with {code}'}",
                          hint=f"`{path}` says to ask it")  # fmt: skip
    found = document.read(said, f"docker-credential-{helper}")
    user, secret = (found.get("Username"), found.get("Secret")) if isinstance(found, dict) else (None, None)
    if not isinstance(user, str) or not isinstance(secret, str):
        raise DoliumError(f"cannot get credentials for {registry}: docker-credential-{helper}: it gave no Username and Secret")
    source = f"docker-credential-{helper}"
    if not secret:
        return None
    return Credentials(token=secret, source=source) if user == TOKEN else Credentials(user, secret, source=source)


def _run(helper: object, verb: str, words: str, path: str) -> "tuple[int, str]":
    """Exit code and output of a helper.  Raises DoliumError."""
    import subprocess

    if not isinstance(helper, str) or not helper or not helper.replace("-", "").replace("_", "").replace(".", "").isalnum():
        raise SpecError(path, f"{quoted(helper)} is no name of a credential helper")
    program = f"docker-credential-{helper}"
    try:
        ended = subprocess.run([program, verb], input=words.encode(), stdout=subprocess.PIPE, timeout=PATIENCE, check=False)
    except subprocess.TimeoutExpired:
        raise DoliumError(f"`{program} {verb}` has not answered within {PATIENCE:g} seconds") from None
    except OSError as error:
        raise DoliumError(f"cannot run `{program}`: {error.strerror}", hint=f"`{path}` says to ask it for credentials") from None
    return ended.returncode, ended.stdout[: 1 << 20].decode("utf-8", "replace").strip()


# ---- login and logout


def store(registry: str, found: Credentials) -> str:
    """Keep them, as docker does: with the helper that config.json names, else in the file itself.  Where they are now.

    Raises SpecError, DoliumError and OSError.
    """
    key = HUB_KEY if registry == references.HUB else registry
    with _Change(own()) as change:
        auths = change.about.setdefault("auths", {})
        if helper := _helper(change.about, registry, change.path):
            secret = {"ServerURL": key, "Username": TOKEN if found.token else found.user, "Secret": found.token or found.password}
            code, said = _run(helper, "store", document.write(secret), change.path)
            if code:
                raise DoliumError(f"cannot keep the credentials: docker-credential-{helper}: {said or f'it ended with {code}'}")
            auths[key] = {}
            return f"docker-credential-{helper}"
        from base64 import b64encode

        auths[key] = {"auth": b64encode(f"{found.user}:{found.password}".encode()).decode()}
        if found.token:
            auths[key] = {"auth": b64encode(f"{found.user}:".encode()).decode(), "identitytoken": found.token}
        return change.path


def erase(registry: str) -> bool:
    """Forget what `store` keeps; whether there was any.  Raises SpecError, DoliumError and OSError."""
    key = HUB_KEY if registry == references.HUB else registry
    if not os.path.exists(own()):
        return False
    with _Change(own()) as change:
        auths = _mapping(change.about, "auths", change.path)
        gone = [each for each in auths if _plain(each) == registry]
        for each in gone:
            del auths[each]
        if helper := _helper(change.about, registry, change.path):
            code, _ = _run(helper, "erase", key, change.path)
            return bool(gone) or not code
        return bool(gone)


def _helper(about: "dict[str, Any]", registry: str, path: str) -> object:
    return _mapping(about, "credHelpers", path).get(registry) or about.get("credsStore")


class _Change:
    """config.json while it is changed: whatever else is in it stays, it is replaced at once (rename), and is its owner's alone."""

    def __init__(self, path: str) -> None:
        self.path = os.path.realpath(path)  # a link to somewhere stays one
        self.about: dict[str, Any] = {}
        self._lock = -1

    def __enter__(self) -> "_Change":
        from fcntl import LOCK_EX, flock

        directory = os.path.dirname(self.path)
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        flock(self._lock, LOCK_EX)
        try:
            self.about = _read(self.path)
            _mapping(self.about, "auths", self.path)
        except BaseException:
            os.close(self._lock)
            raise
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                new = f"{self.path}.{os.getpid()}.new"
                fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
                try:
                    with open(fd, "w") as file:
                        file.write(document.write(self.about, indent=4) + "\n")
                        file.flush()
                        os.fsync(fd)
                    os.rename(new, self.path)
                except BaseException:
                    os.unlink(new)
                    raise
        finally:
            os.close(self._lock)
