"""What an image is called: `alpine`, `quay.io/org/app:1.2@sha256:...`, `oci:DIR:TAG`.

    [HOST[:PORT]/]PATH[:TAG][@DIGEST]   in a registry; without a host it is one of Docker Hub's (or of `short`)
    oci:DIR[:TAG]                       an image layout, image-spec
    oci-archive:FILE[:TAG]              the same in a tar archive
    docker-archive:FILE[:NAME]          what `docker save` writes

The grammar is the distribution-spec's (names, tags) and the image-spec's (digests).  Pure, and without `re`: `dolium run` reads
one on its way.
"""

from dolium.errors import SpecError
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

HUB = "docker.io"
SHORT = "docker.io/library"
"""Where a name of one word is, unless the host's settings say otherwise."""
TRANSPORTS = ("oci", "oci-archive", "docker-archive")
OTHERS = {
    "containers-storage": "podman's own storage is not read; `podman save --format oci-archive` writes a file that is",
    "dir": "write it as an image layout: `skopeo copy dir:DIR oci:DIR`",
    "docker-daemon": "there is no daemon to ask; `docker save` writes a file that `docker-archive:FILE` reads",
    "ostree": "copy it to a registry or an image layout with skopeo",
    "sif": "copy it to a registry or an image layout with skopeo",
    "http": "leave `http://` out; registries.toml or --plain-http says that one has no TLS",
    "https": "leave `https://` out: TLS is the default",
}
FILES = "a directory or a tarball is no image: `dolium run` takes it as it is, `dolium import` makes an image of a tarball"
LONGEST = 255
"""Characters of host and path together, distribution-spec."""
ALGORITHMS = {"sha256": 64, "sha512": 128}
"""Digits of each digest, image-spec."""
LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
WORD = LOWER | frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZ_")
HEX = frozenset("0123456789abcdef")


class Reference:
    """A name that has been read.

    transport   `registry`, or one of TRANSPORTS
    registry    HOST[:PORT] in lower case;  repository  the path there;  both empty for files
    tag         `latest` where neither tag nor digest was given; may be empty beside a digest, and for files
    digest      `sha256:HEX`, or empty
    path        of the directory or file, as typed; empty in a registry
    """

    __slots__ = ("transport", "registry", "repository", "tag", "digest", "path")

    def __init__(self, transport: str, *, registry: str = "", repository: str = "", tag: str = "", digest: str = "",
                 path: str = "") -> None:
        self.transport = transport
        self.registry = registry
        self.repository = repository
        self.tag = tag
        self.digest = digest
        self.path = path

    @property
    def name(self) -> str:
        """HOST/PATH, or TRANSPORT:PATH: without tag and digest."""
        return f"{self.transport}:{self.path}" if self.path else f"{self.registry}/{self.repository}"

    @property
    def wanted(self) -> str:
        """What to ask the registry for: the digest where there is one, else the tag."""
        return self.digest or self.tag

    def __str__(self) -> str:
        """The canonical form: with host and tag; `parse` of it gives the same again."""
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reference) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def familiar(self, short: str = SHORT) -> str:
        """As people write it: without the host and the path that are meant anyway."""
        text = str(self)
        for each in (short, HUB):
            if text.startswith(f"{each}/") and parse(text[len(each) + 1 :], short=short) == self:
                return text[len(each) + 1 :]
        return text


def parse(text: str, what: str = "image", short: str = SHORT) -> Reference:
    """The reference that is meant; `what` is to blame in errors, `short` HOST/PATH for names of one word.  Raises SpecError."""
    transport, colon, rest = text.partition(":")
    if transport in TRANSPORTS and colon:
        return _file(transport, rest, text, what)
    if transport == "docker" and rest.startswith("//"):  # as skopeo and podman write it
        text = rest[2:]
    elif transport in OTHERS and colon and (rest.startswith("//") or transport not in ("http", "https", "dir")):
        _refuse(what, text, f"`{transport}:` names nothing that dolium reads", OTHERS[transport])
    name, at, digest = text.partition("@")
    if at:
        must_be_digest(digest, what, text)
    tag = ""
    if ":" in name.rpartition("/")[2]:
        name, _, tag = name.rpartition(":")
        must_be_tag(tag, what, text)
    host, path = _split(name, short)
    host = _host(host, what, text)
    _must_be_path(path, what, text)
    if len(host) + 1 + len(path) > LONGEST:
        _refuse(what, text, f"the name is longer than {LONGEST} characters")
    return Reference("registry", registry=host, repository=path, tag=tag or ("" if digest else "latest"), digest=digest)


def _split(name: str, short: str) -> "tuple[str, str]":
    """Host and path: the first part is a host where it could not be a part of a path, or is `localhost`."""
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        if first.lower() in ("index.docker.io", "registry-1.docker.io"):
            first = HUB
        return first, rest if first.lower() != HUB or "/" in rest else f"library/{rest}"
    if slash:
        host, _, path = short.partition("/")
        return (host, name) if path == "library" else (HUB, name)
    host, _, path = short.partition("/")
    return host, f"{path}/{name}" if path else name


def _file(transport: str, rest: str, text: str, what: str) -> Reference:
    """The last colon ends the path, unless what follows is a part of one."""
    path, colon, tag = rest.partition(":") if transport == "docker-archive" else rest.rpartition(":")
    if not colon or (transport != "docker-archive" and "/" in tag):
        path, tag = rest, ""
    elif transport != "docker-archive":
        must_be_tag(tag, what, text)
    elif tag:
        tag = str(parse(tag, what))
    if not path or "\0" in path:
        _refuse(what, text, "there is no path in it", f"write {transport}:PATH")
    return Reference(transport, path=path, tag=tag)


def must_be_digest(digest: str, what: str, text: str = "") -> None:
    """Raises SpecError unless it is ALGORITHM:HEX, with an algorithm that can be verified here."""
    algorithm, _, digits = digest.partition(":")
    length = ALGORITHMS.get(algorithm)
    if length is None:
        if text in ("@host", "@venv"):
            _refuse(what, text, "it is no image", f"`dolium run {text}` runs this host's own files")
        _refuse(what, text or digest, f"no digest is called {quoted(algorithm)}", "there are sha256 and sha512")
    if len(digits) != length or not HEX.issuperset(digits):
        _refuse(what, text or digest, f"a digest of {algorithm} is {length} hexadecimal digits in lower case")


def must_be_tag(tag: str, what: str, text: str = "") -> None:
    """Raises SpecError unless it is one of the distribution-spec's."""
    if not tag or len(tag) > 128 or tag[0] not in WORD or not (WORD | {".", "-"}).issuperset(tag):
        _refuse(what, text or tag, f"{quoted(tag)} is no tag",
                "a tag is up to 128 letters, digits, `_`, `.` and `-`, and begins with neither of the last two")  # fmt: skip


def _host(host: str, what: str, text: str) -> str:
    """Checked, in lower case: DNS knows no other difference.  Raises SpecError."""
    name, colon, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    if not colon:
        name, port = host, ""
    elif not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        _refuse(what, text, f"{quoted(port)} is no port")
    name = name.lower()
    if name.startswith("[") and name.endswith("]"):
        fine = HEX.issuperset(name[1:-1].replace(":", "").replace(".", "")) and ":" in name
    else:
        labels = name.removesuffix(".").split(".")
        fine = all(each and len(each) < 64 and (LOWER | {"-", "_"}).issuperset(each) and each[0] != "-" != each[-1]
                   for each in labels)  # fmt: skip
    if not fine:
        _refuse(what, text, f"{quoted(name)} is no host", FILES if text.startswith((".", "/")) else "")
    return name + (f":{int(port)}" if port else "")


def _must_be_path(path: str, what: str, text: str) -> None:
    name = path.removeprefix("library/")
    if name != name.lower():
        _refuse(what, text, "names of images are in lower case", f"did you mean `{text.replace(name, name.lower())}`?")
    if path == "library/scratch":
        _refuse(what, text, "`scratch` means no image at all, and cannot be fetched")
    if len(path) == 64 + len("library/") and path.startswith("library/") and HEX.issuperset(path[8:]):
        _refuse(what, text, "64 hexadecimal digits alone could be an id as well as a name", "write NAME@sha256:DIGITS")
    for part in path.split("/"):
        if not part:
            _refuse(what, text, "a part of the name is empty")
        if not _is_part(part):
            _refuse(what, text, f"{quoted(part)} cannot be a part of a name",
                    "a part is lower-case letters and digits, with `.`, `_`, `__` or any number of `-` between them")  # fmt: skip


def _is_part(part: str) -> bool:
    """[a-z0-9]+((\\.|_|__|-+)[a-z0-9]+)*, without `re`."""
    if part[0] not in LOWER or part[-1] not in LOWER:
        return False
    between = ""
    for each in part:
        if each in LOWER:
            if between not in ("", ".", "_", "__") and between.strip("-"):
                return False
            between = ""
        elif each in "._-":
            between += each
        else:
            return False
    return True


def _refuse(what: str, text: str, problem: str, hint: str = "") -> "NoReturn":
    raise SpecError(f"{what} {quoted(text)}", problem, hint=hint)
