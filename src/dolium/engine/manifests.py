"""Manifests, indexes and configs of images, OCI and Docker schema 2: read strictly, for they come from strangers.

    index ── manifests ──► manifest ── layers ──► tar archives
                              └─────── config ──► how to run it, and the digests of the unpacked layers

Nothing is looked up here: bytes in, values out.  image-spec 1.1, docs/decisions/0024-images-on-disk.md.
"""

import os

from dolium.core import document
from dolium.engine import blobs
from dolium.errors import ImageError, SpecError
from dolium.plan.quantities import quoted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

OCI, DOCKER = "application/vnd.oci.image.", "application/vnd.docker."
OCI_INDEX, OCI_MANIFEST, OCI_CONFIG = f"{OCI}index.v1+json", f"{OCI}manifest.v1+json", f"{OCI}config.v1+json"
DOCKER_LIST = f"{DOCKER}distribution.manifest.list.v2+json"
DOCKER_MANIFEST = f"{DOCKER}distribution.manifest.v2+json"
DOCKER_CONFIG = f"{DOCKER}container.image.v1+json"
INDEXES = (OCI_INDEX, DOCKER_LIST)
MANIFESTS = (OCI_MANIFEST, DOCKER_MANIFEST)
CONFIGS = (OCI_CONFIG, DOCKER_CONFIG)
SCHEMA_1 = (f"{DOCKER}distribution.manifest.v1+json", f"{DOCKER}distribution.manifest.v1+prettyjws")
LAYERS = {
    f"{OCI}layer.v1.tar": "",
    f"{OCI}layer.v1.tar+gzip": "gzip",
    f"{OCI}layer.v1.tar+zstd": "zstd",
    f"{OCI}layer.nondistributable.v1.tar": "",
    f"{OCI}layer.nondistributable.v1.tar+gzip": "gzip",
    f"{OCI}layer.nondistributable.v1.tar+zstd": "zstd",
    f"{DOCKER}image.rootfs.diff.tar": "",
    f"{DOCKER}image.rootfs.diff.tar.gzip": "gzip",
    f"{DOCKER}image.rootfs.diff.tar.zstd": "zstd",
    f"{DOCKER}image.rootfs.foreign.diff.tar.gzip": "gzip",
}
"""Media type of a layer -> how it is said to be compressed; what it is shows in its first bytes."""
ACCEPT = (*MANIFESTS, *INDEXES)
"""What a registry may be asked for."""

MOST_MANIFEST, MOST_CONFIG = 4 << 20, 8 << 20
"""Bytes of an index or a manifest, and of a config; registries take 4 MiB."""
MOST_LAYERS = 500
"""OVL_MAX_STACK, the most that overlayfs stacks."""
MOST_OF_INDEX = 5000
DEEPEST = 4
"""Indexes in indexes: with it a reader of a hostile one ends."""
MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm/v7", "armv6l": "arm/v6", "i686": "386", "ppc64le": "ppc64le",
            "s390x": "s390x", "riscv64": "riscv64"}  # fmt: skip
"""uname(2)'s names -> GOARCH, with the variant where there is one."""


class Frozen:
    """A value: made once, equal to what has the same fields."""

    __slots__: "tuple[str, ...]" = ()

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def _set(self, **fields: object) -> None:
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def _fields(self) -> "dict[str, Any]":
        return {name: getattr(self, name) for name in self.__slots__}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Frozen) and type(self) is type(other) and self._fields() == other._fields()

    __hash__: "None" = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self._fields().items())})"


class Platform(Frozen):
    """For which machines an image is: `os` and `architecture` as Go names them, `variant` such as `v8`, or empty."""

    __slots__ = ("os", "architecture", "variant")
    os: str
    architecture: str
    variant: str

    def __init__(self, os: str, architecture: str, variant: str = "") -> None:
        self._set(os=os, architecture=architecture, variant=variant)

    def __str__(self) -> str:
        return "/".join(each for each in (self.os, self.architecture, self.variant) if each)


class Descriptor(Frozen):
    """Says of a blob what it is, its digest and its bytes; of a manifest in an index also for which platform."""

    __slots__ = ("media_type", "digest", "size", "urls", "platform", "annotations")
    media_type: str
    digest: str
    size: int
    urls: "tuple[str, ...]"
    platform: "Platform | None"
    annotations: "dict[str, str]"

    def __init__(self, media_type: str, digest: str, size: int, urls: "tuple[str, ...]" = (), platform: "Platform | None" = None,
                 annotations: "dict[str, str] | None" = None) -> None:  # fmt: skip
        self._set(media_type=media_type, digest=digest, size=size, urls=urls, platform=platform, annotations=annotations or {})


class Manifest(Frozen):
    """An image for one platform: descriptors of its config and of its layers, the lowest first."""

    __slots__ = ("media_type", "config", "layers", "annotations")
    media_type: str
    config: Descriptor
    layers: "tuple[Descriptor, ...]"
    annotations: "dict[str, str]"

    def __init__(self, media_type: str, config: Descriptor, layers: "tuple[Descriptor, ...]",
                 annotations: "dict[str, str] | None" = None) -> None:  # fmt: skip
        self._set(media_type=media_type, config=config, layers=layers, annotations=annotations or {})


class Index(Frozen):
    """Descriptors of manifests, or of further indexes, in the order of preference."""

    __slots__ = ("media_type", "manifests", "annotations")
    media_type: str
    manifests: "tuple[Descriptor, ...]"
    annotations: "dict[str, str]"

    def __init__(self, media_type: str, manifests: "tuple[Descriptor, ...]", annotations: "dict[str, str] | None" = None) -> None:
        self._set(media_type=media_type, manifests=manifests, annotations=annotations or {})


class Config(Frozen):
    """How to run an image, image-spec config.md.

    env           `NAME=VALUE`, as written;  exposed_ports, volumes  keys such as `80/tcp`, `/data`
    entrypoint, cmd   None: not given;  user, working_dir, stop_signal, created  empty: not given
    diff_ids      digests of the uncompressed layers, the lowest first;  history  one for each, and more for what made no layer
    """

    __slots__ = ("platform", "created", "author", "user", "exposed_ports", "env", "entrypoint", "cmd", "volumes", "working_dir",
                 "labels", "stop_signal", "shell", "healthcheck", "diff_ids", "history")  # fmt: skip
    platform: Platform
    created: str
    author: str
    user: str
    exposed_ports: "tuple[str, ...]"
    env: "tuple[str, ...]"
    entrypoint: "tuple[str, ...] | None"
    cmd: "tuple[str, ...] | None"
    volumes: "tuple[str, ...]"
    working_dir: str
    labels: "dict[str, str]"
    stop_signal: str
    shell: "tuple[str, ...] | None"
    healthcheck: "dict[str, Any] | None"
    diff_ids: "tuple[str, ...]"
    history: "tuple[dict[str, Any], ...]"

    def __init__(self, **fields: object) -> None:
        self._set(**fields)


# ---- reading


class _Reader:
    """Takes fields out of a document, and says which of them is wrong."""

    def __init__(self, what: str, data: bytes, most: int) -> None:
        self.what = what
        if len(data) > most:
            self.refuse(f"it has {len(data)} bytes, and {most} are the most")
        try:
            found = document.read(data.decode(), what)
        except UnicodeDecodeError:
            self.refuse("it is not UTF-8")
        except SpecError as error:
            self.refuse(error.problem)
        if not isinstance(found, dict):
            self.refuse("it is no JSON object")
        self.found: dict[str, Any] = found

    def refuse(self, problem: str, hint: str = "") -> "NoReturn":
        raise ImageError(self.what, problem, action="read", hint=hint) from None

    def text(self, holder: "dict[str, Any]", key: str, where: str = "") -> str:
        found = holder.get(key)
        if found is None:
            return ""
        if not isinstance(found, str) or "\0" in found:
            self.refuse(f"{where}{key} is {quoted(found)}, which is no text")
        return found

    def mapping(self, holder: "dict[str, Any]", key: str, where: str = "") -> "dict[str, Any]":
        found = holder.get(key)
        if found is None:
            return {}
        if not isinstance(found, dict):
            self.refuse(f"{where}{key} is no object")
        return found

    def texts(self, holder: "dict[str, Any]", key: str, where: str = "") -> "dict[str, str]":
        found = self.mapping(holder, key, where)
        return {name: self.text(found, name, f"{where}{key}.") for name in found}

    def objects(self, holder: "dict[str, Any]", key: str, most: int) -> "list[dict[str, Any]]":
        found = holder.get(key)
        found = [] if found is None else found
        if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
            self.refuse(f"{key} is no list of objects")
        if len(found) > most:
            self.refuse(f"{key} has {len(found)} entries, and {most} are the most")
        return found

    def words(self, holder: "dict[str, Any]", key: str, where: str = "") -> "tuple[str, ...] | None":
        found = holder.get(key)
        if found is None:
            return None
        if isinstance(found, str) or not isinstance(found, list) or not all(isinstance(e, str) and "\0" not in e for e in found):
            self.refuse(f"{where}{key} is no list of words")
        return tuple(found)

    def platform(self, holder: "dict[str, Any]", where: str = "") -> Platform:
        system, machine = self.text(holder, "os", where), self.text(holder, "architecture", where)
        return Platform(system, machine, self.text(holder, "variant", where))

    def descriptor(self, found: "dict[str, Any]", where: str) -> Descriptor:
        digest, size = self.text(found, "digest", where), found.get("size")
        try:
            blobs.parts(digest)
        except ImageError as error:
            self.refuse(f"{where}digest is {quoted(digest)}: {error.problem}")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= blobs.MOST_SIZE:
            self.refuse(f"{where}size is {quoted(size)}")
        platform = self.mapping(found, "platform", where)
        return Descriptor(
            self.text(found, "mediaType", where), digest, size, self.words(found, "urls", where) or (),
            self.platform(platform, f"{where}platform.") if platform else None, self.texts(found, "annotations", where),
        )  # fmt: skip


def parse(data: bytes, name: str, media_type: str = "") -> "Manifest | Index":
    """A manifest, or an index.  `media_type` is what a registry, or an index, says that it is; it must not say otherwise itself
    (CVE-2021-41190).  `name` is for errors.  Raises ImageError."""
    reader = _Reader(name, data, MOST_MANIFEST)
    found, media_type = reader.found, media_type.partition(";")[0].strip()
    inner = reader.text(found, "mediaType")
    if found.get("schemaVersion") == 1 or media_type in SCHEMA_1 or inner in SCHEMA_1:
        reader.refuse("it is a Docker schema 1 manifest, a form given up in 2017", hint=SCHEMA_1_HINT)
    if found.get("schemaVersion") != 2:
        reader.refuse(f"schemaVersion is {quoted(found.get('schemaVersion'))}, and 2 is known")
    if "manifests" in found and ("layers" in found or "config" in found):
        reader.refuse("it is both an index (`manifests`) and a manifest (`layers`, `config`)")
    if "fsLayers" in found or "history" in found:
        reader.refuse("it has fields of Docker schema 1 beside those of schema 2")
    if inner and media_type in ACCEPT and inner != media_type:
        reader.refuse(f"it says that it is {quoted(inner)}, and was given as {quoted(media_type)}")
    kind = inner or media_type
    if "manifests" in found:
        if (kind or OCI_INDEX) not in INDEXES:
            reader.refuse(f"it has `manifests`, and is said to be {quoted(kind)}")
        return _index(reader, kind or OCI_INDEX)
    if (kind or OCI_MANIFEST) not in MANIFESTS:
        reader.refuse(f"its type, {quoted(kind)}, is none of an image")
    return _manifest(reader, kind or OCI_MANIFEST)


def _index(reader: _Reader, kind: str) -> Index:
    found = reader.objects(reader.found, "manifests", MOST_OF_INDEX)
    listed = tuple(reader.descriptor(each, f"manifests[{at}].") for at, each in enumerate(found))
    return Index(kind, listed, reader.texts(reader.found, "annotations"))


def _manifest(reader: _Reader, kind: str) -> Manifest:
    config = reader.mapping(reader.found, "config")
    if not config or "layers" not in reader.found:
        reader.refuse("it has no config or no layers")
    about = reader.descriptor(config, "config.")
    if about.media_type not in CONFIGS:
        reader.refuse(f"its config is {quoted(about.media_type)}: it is no container image, but an artifact of another kind")
    if about.size > MOST_CONFIG:
        reader.refuse(f"config.size is {about.size}, and {MOST_CONFIG} is the most")
    found = reader.objects(reader.found, "layers", MOST_LAYERS)
    layers = tuple(reader.descriptor(each, f"layers[{at}].") for at, each in enumerate(found))
    for at, each in enumerate(layers):
        if each.media_type not in LAYERS:
            reader.refuse(f"layers[{at}].mediaType is {quoted(each.media_type)}, which is no layer that can be unpacked")
    return Manifest(kind, about, layers, reader.texts(reader.found, "annotations"))


def parse_config(data: bytes, name: str, layers: "int | None" = None) -> Config:
    """The config of an image that has so many layers.  Raises ImageError."""
    reader = _Reader(name, data, MOST_CONFIG)
    found = reader.found
    run, rootfs = reader.mapping(found, "config"), reader.mapping(found, "rootfs")
    diff_ids = reader.words(rootfs, "diff_ids", "rootfs.") or ()
    for at, each in enumerate(diff_ids):
        try:
            blobs.parts(each)
        except ImageError as error:
            reader.refuse(f"rootfs.diff_ids[{at}] is {quoted(each)}: {error.problem}")
    if layers is not None and len(diff_ids) != layers:
        reader.refuse(f"rootfs.diff_ids has {len(diff_ids)} entries, and the manifest {layers} layers")
    if (kind := reader.text(rootfs, "type", "rootfs.")) not in ("", "layers"):
        reader.refuse(f"rootfs.type is {quoted(kind)}, and `layers` is known")
    env = reader.words(run, "Env", "config.") or ()
    for each in env:
        if not each.partition("=")[0]:
            reader.refuse(f"config.Env has {quoted(each)}, which has no name")
    return Config(
        platform=reader.platform(found), created=reader.text(found, "created"), author=reader.text(found, "author"),
        user=reader.text(run, "User", "config."), exposed_ports=tuple(sorted(reader.mapping(run, "ExposedPorts", "config."))),
        env=env, entrypoint=reader.words(run, "Entrypoint", "config."), cmd=reader.words(run, "Cmd", "config."),
        volumes=tuple(sorted(reader.mapping(run, "Volumes", "config."))), working_dir=reader.text(run, "WorkingDir", "config."),
        labels=reader.texts(run, "Labels", "config."), stop_signal=reader.text(run, "StopSignal", "config."),
        shell=reader.words(run, "Shell", "config."), healthcheck=reader.mapping(run, "Healthcheck", "config.") or None,
        diff_ids=diff_ids, history=tuple(reader.objects(found, "history", MOST_OF_INDEX)),
    )  # fmt: skip


# ---- which of an index


def this_platform() -> Platform:
    """What this machine runs."""
    machine = os.uname().machine
    return platform(f"linux/{MACHINES.get(machine, machine)}")


def platform(text: str) -> Platform:
    """`OS/ARCHITECTURE[/VARIANT]`, or the architecture alone, as `--platform` has it.  Raises SpecError."""
    words = text.lower().split("/")
    if len(words) == 1:
        words.insert(0, "linux")
    if not 2 <= len(words) <= 3 or not all(word.replace("_", "").replace(".", "").replace("-", "").isalnum() for word in words):
        raise SpecError("--platform", f"{quoted(text)} is not OS/ARCHITECTURE[/VARIANT]", hint="such as linux/arm64/v8")
    words[1] = {"x86_64": "amd64", "aarch64": "arm64", "i386": "386"}.get(words[1], words[1])
    return Platform(*words)


def choose(index: Index, wanted: Platform, name: str) -> Descriptor:
    """The manifest, or the index inside, for a platform: the first that fits best.  Raises ImageError."""
    best: tuple[int, Descriptor] | None = None
    for each in index.manifests:
        rank = _rank(each, wanted)
        if rank and (best is None or rank > best[0]):
            best = rank, each
    if best is None:
        there = [str(each.platform) for each in index.manifests if each.platform and each.platform.os not in ("", "unknown")]
        found = ", ".join(dict.fromkeys(there[:12])) or "nothing at all"
        raise ImageError(name, f"it has nothing for {wanted}", action="use", hint=f"it is for {found}; --platform chooses")
    return best[1]


def _rank(each: Descriptor, wanted: Platform) -> int:
    """How well it fits; 0: not at all.  An index without a platform may hold anything; a manifest without one is taken last."""
    if each.media_type not in ACCEPT:
        return 0
    if each.platform is None:
        return 1
    if (each.platform.os, each.platform.architecture) != (wanted.os, wanted.architecture):
        return 0
    mine, its = _variant(wanted), _variant(each.platform)
    if mine == its:
        return 4
    if wanted.architecture in ("arm", "amd64") and its < mine:  # an older one runs on a newer machine
        return 3 if its else 2
    return 0


def _variant(each: Platform) -> str:
    """Without what says nothing: every arm64 is v8, every amd64 v1; an arm of no variant is v7, as docker has it."""
    if each.variant:
        return "" if (each.architecture, each.variant) in (("arm64", "v8"), ("amd64", "v1")) else each.variant
    return "v7" if each.architecture == "arm" else ""


SCHEMA_1_HINT = "whoever published it has to push it anew, with any tool of the last years"
