"""What this host says of registries: `/etc/dolium/registries.toml`, and over it the user's `~/.config/dolium/registries.toml`.

    short = "docker.io/library"             # where `alpine` is, and with it every name of one word

    [registry."docker.io"]
    mirrors = ["https://mirror.example"]    # asked first, in this order; then the registry itself

    [registry."registry.lan:5000"]
    plain-http = true                       # it speaks no TLS
    tls-verify = false                      # whatever its certificate is
    ca = "/etc/ssl/our-ca.pem"              # who signs it, beside those whom the host trusts anyway

Certificates that docker and podman have for a registry count too: `*.crt` (who signs it), and `*.cert` with `*.key` (who we are)
in `/etc/docker/certs.d/HOST:PORT`, `/etc/containers/certs.d/HOST:PORT`, and `~/.config/containers/certs.d/HOST:PORT`.
"""

import os

from dolium.engine import references
from dolium.errors import SpecError
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

SYSTEM = "/etc/dolium/registries.toml"
CERTIFICATES = ("/etc/docker/certs.d", "/etc/containers/certs.d")
KEYS = {"mirrors": list, "plain-http": bool, "tls-verify": bool, "ca": str}
KINDS = {list: "list", bool: "true or false", str: "text"}
HOSTS = {references.HUB: "registry-1.docker.io"}
"""Where a registry answers, if not under its name."""
LOOPBACK = ("localhost", "127.", "[::1]")


class Endpoint:
    """Where a registry, or a mirror of it, is reached.

    host    HOST[:PORT] to connect to;  prefix  of repositories there, empty or ending with `/`
    plain   without TLS;  name  of the registry whose credentials and certificates count
    mirror  it is not the registry itself
    """

    __slots__ = ("host", "prefix", "plain", "name", "mirror")

    def __init__(self, host: str, plain: bool, name: str, prefix: str = "", mirror: bool = False) -> None:
        self.host = host
        self.prefix = prefix
        self.plain = plain
        self.name = name
        self.mirror = mirror

    @property
    def url(self) -> str:
        """SCHEME://HOST[:PORT]/v2/PREFIX"""
        return f"{'http' if self.plain else 'https'}://{self.host}/v2/{self.prefix}"


class Registries:
    """The settings of this host, and `--tls-verify`, `--plain-http` of one command over them (None: not asked).

    problem  what is malformed in them, where no registry may be asked for that
    """

    def __init__(self, found: "dict[str, Any] | None" = None, verify: "bool | None" = None, plain: "bool | None" = None,
                 problem: "SpecError | None" = None) -> None:  # fmt: skip
        self.problem = problem
        self._found: dict[str, Any] = found or {}
        self._verify = verify
        self._plain = plain
        self.short: str = self._found.get("short", references.SHORT)

    def _of(self, host: str) -> "dict[str, Any]":
        about: dict[str, Any] = self._found.get("registry", {}).get(host, {})
        return about

    def endpoints(self, registry: str, mirrors: bool = True) -> "list[Endpoint]":
        """Where to ask, in order: mirrors, where they are wanted, then the registry itself.  Raises SpecError: `problem`."""
        if self.problem:
            raise self.problem
        found = []
        for url in self._of(registry).get("mirrors", []) if mirrors else []:
            scheme, _, rest = url.partition("://")
            host, _, prefix = rest.rstrip("/").partition("/")
            found.append(Endpoint(host, scheme == "http", host, f"{prefix}/" if prefix else "", mirror=True))
        return [*found, Endpoint(HOSTS.get(registry, registry), self.plain(registry), registry)]

    def plain(self, host: str) -> bool:
        """Whether it speaks no TLS, as somebody has said."""
        if self._plain is not None:
            return self._plain
        mirrors = [url for about in self._found.get("registry", {}).values() for url in about.get("mirrors", [])]
        return bool(self._of(host).get("plain-http")) or any(f"{url}/".startswith(f"http://{host}/") for url in mirrors)

    def verified(self, host: str) -> bool:
        """Whether its certificate is looked at."""
        return self._of(host).get("tls-verify", True) is not False if self._verify is None else self._verify

    def may_be_plain(self, host: str) -> bool:
        """Whether plain HTTP is tried where TLS is not spoken: on this machine's own addresses, and with --tls-verify=false."""
        return self._plain is not False and (is_loopback(host) or not self.verified(host))

    def certificates(self, host: str) -> "tuple[list[str], list[tuple[str, str]]]":
        """Files of who may sign its certificate, and pairs of our own certificate and key.  Raises SpecError."""
        authorities, own = [self._of(host)["ca"]] if "ca" in self._of(host) else [], []
        for top in (*CERTIFICATES, f"{_settings()}/containers/certs.d"):
            where = f"{top}/{host}"
            for name in sorted(os.listdir(where)) if os.path.isdir(where) else []:
                stem, dot, ending = name.rpartition(".")
                if dot and ending == "crt":
                    authorities.append(f"{where}/{name}")
                elif dot and ending == "cert":
                    if not os.path.exists(f"{where}/{stem}.key"):
                        raise SpecError(f"{where}/{name}", f"there is no `{stem}.key` beside it")
                    own.append((f"{where}/{name}", f"{where}/{stem}.key"))
        return authorities, own


def is_loopback(host: str) -> bool:
    """Whether that HOST[:PORT] is this machine itself."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    return name in LOOPBACK or (name.startswith("127.") and name.replace(".", "").isdigit())


def _settings() -> str:
    return os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")


def files() -> "list[str]":
    """Where settings may be; what a later one says holds."""
    return [SYSTEM, f"{_settings()}/dolium/registries.toml"]


def load(verify: "bool | None" = None, plain: "bool | None" = None) -> Registries:
    """Read the files that there are.  Raises SpecError for what is malformed in them."""
    found: dict[str, Any] = {}
    for path in files():
        read = _read(path)
        for host, about in read.pop("registry", {}).items():
            found.setdefault("registry", {}).setdefault(host, {}).update(about)
        found |= read
    return Registries(found, verify, plain)


def known() -> Registries:
    """The same for who may need no registry at all: what is malformed is no error before one is asked."""
    try:
        return load()
    except SpecError as problem:
        return Registries(problem=problem)


def trouble() -> "tuple[str, str, bool]":
    """For the doctor: (file, what is wrong with it or empty, whether it can be read)."""
    for path in files():
        try:
            _read(path)
        except SpecError as error:
            said = str(error).removeprefix(path).removeprefix(": ")
            return path, said, os.access(path, os.R_OK)
    return "", "", True


def _read(path: str) -> "dict[str, Any]":
    try:
        with open(path, "rb") as file:
            data = file.read(1 << 20)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise SpecError(path, error.strerror or str(error)) from None
    from tomllib import TOMLDecodeError, loads

    try:
        found = loads(data.decode())
    except (TOMLDecodeError, UnicodeDecodeError) as error:
        raise SpecError(path, f"is no TOML: {error}") from None
    _check(found, path)
    return found


def _check(found: "dict[str, Any]", path: str) -> None:
    """Fail closed: a word that is not known may have been meant to forbid something."""
    for key, value in found.items():
        if key not in ("short", "registry"):
            raise SpecError(path, f"there is no {quoted(key)}", hint='there are `short` and `[registry."HOST"]`')
        if not isinstance(value, str if key == "short" else dict):
            raise SpecError(path, f"`{key}` is {'no text' if key == 'short' else 'no table'}")
    if "short" in found:
        references.parse("alpine", f"{path}: short", found["short"])
    for host, about in found.get("registry", {}).items():
        where = f'{path}: registry."{host}"'
        references.parse(f"{host}/x", where)
        for key, value in about.items() if isinstance(about, dict) else [("", about)]:
            if key not in KEYS:
                raise SpecError(where, f"there is no {quoted(key)}", hint=f"there are {', '.join(KEYS)}")
            if not isinstance(value, KEYS[key]):
                raise SpecError(where, f"`{key}` is no {KINDS[KEYS[key]]}")
        for url in about.get("mirrors", []):
            if not isinstance(url, str) or url.partition("://")[0] not in ("http", "https"):
                raise SpecError(where, f"{quoted(url)} is no mirror", hint="write https://HOST[:PORT][/PREFIX]")
            references.parse(url.partition("://")[2].rstrip("/") + "/x", where)
