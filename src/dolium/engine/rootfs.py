"""What a container's `/` is made of: an image, a directory, a tarball, or this host's own programs (`@host`, `@venv`)."""

import os
import sys

from dolium.errors import NotFound
from dolium.plan.quantities import is_path
from dolium.runtime import places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from dolium.engine.pull import Progress
    from dolium.engine.trees import Use

OWN = ("@host", "@venv")
ETC = ("alternatives", "ssl/certs", "ssl/openssl.cnf", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
       "nsswitch.conf", "services", "protocols")  # fmt: skip
"""What /usr points into, and nothing that holds a secret."""
TOPS = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "libo32")
"""What lies in /usr too, or is a link into it, hier(7)."""
DIRECTORIES = (("/etc", 0o755), ("/root", 0o700), ("/home", 0o755), ("/tmp", 0o1777), ("/var", 0o755),
               ("/var/tmp", 0o1777), ("/run", 0o755))  # fmt: skip
PASSWD = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
GROUP = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"


class Rootfs:
    """A rootfs before it is one.

    kind         `overlay` over the directory `path`, or a `tmpfs` filled with what follows
    layers       of an image: the directories below `path` that the overlay is over, the lowest first
    short        a directory there in which they have short names (plan.mounts.short_name)
    above        of a snapshot: directories below `above_path` that come above all these, the lowest first
    mounts       bind mounts (OCI form)
    directories  (path, mode); links: (path, target); files: (path, text)
    path_first   directories that come first on PATH
    """

    __slots__ = ("name", "kind", "path", "layers", "short", "above_path", "above", "mounts", "directories", "links", "files",
                 "path_first")  # fmt: skip

    def __init__(self, name: str, kind: str, path: str) -> None:
        self.name: str = name
        self.kind: str = kind
        self.path: str = path
        self.layers: list[str] = []
        self.short: str = ""
        self.above_path: str = ""
        self.above: list[str] = []
        self.mounts: list[dict[str, Any]] = []
        self.directories: list[tuple[str, int]] = []
        self.links: list[tuple[str, str]] = []
        self.files: list[tuple[str, str]] = []
        self.path_first: list[str] = []

    def lowers(self) -> "list[str]":
        """The directories that an overlay is over, the uppermost first."""
        above = [f"{self.above_path}/{each}" for each in reversed(self.above)]
        return above + ([f"{self.path}/{each}" for each in reversed(self.layers)] if self.layers else [self.path])

    def sources(self) -> "list[str]":
        """The paths of the host that become visible."""
        return [path for path in (self.path, self.above_path) if path] + [each["source"] for each in self.mounts]


def is_image(name: str) -> bool:
    """Whether it is the name of an image, in the store, a registry, or an archive; and not the path of a directory or a tarball."""
    return not is_path(name) and not name.startswith("@")


def is_file(name: str) -> bool:
    """Whether it is the path of a file: then of a tarball, or of nothing that a container can be made of."""
    return is_path(name) and not os.path.isdir(name) and os.path.exists(name)


def provide(name: str, say: "Callable[[str], object] | None" = None, *, pull: str = "missing", platform: str = "",
            progress: "Callable[[], Progress] | None" = None) -> "Use | None":  # fmt: skip
    """Unpack a tarball, or the layers of an image, unless that is done; None where the name is of neither.  `pull` (always,
    missing, never), `platform` and `progress` are of images (sources.image).  Close it once a container is remembered that
    uses it, or has ended.

    Raises what tarballs.provide, sources.image and layers.provide do.
    """
    if is_image(name):
        from dolium.core.interrupts import Let
        from dolium.engine import layers, sources

        with Let():  # this may take long
            return layers.provide(sources.image(name, say, pull=pull, platform=platform, progress=progress), say)
    if not is_file(name):
        return None
    from dolium.core.interrupts import Let
    from dolium.engine import tarballs

    with Let():
        return tarballs.provide(os.path.abspath(name), say)


def unpacked(digest: str) -> str:
    """Where the files of the tarball with that digest (`sha256:HEX`) are."""
    return f"{places.data_path()}/rootfs/{digest.replace(':', '-')}/tree"


def find(name: str, digest: str = "") -> Rootfs:
    """The rootfs of that name: a path, `@host` or `@venv`; of a tarball or an image the one with the digest that `provide` gives.

    Raises NotFound for a directory or an unpacked copy that is not there, and for an unknown name.
    """
    if digest.startswith("layers:"):
        from dolium.engine import layers

        found = Rootfs(name, "overlay", layers.top_path())
        found.layers, found.short = layers.names(digest), layers.links(digest)
        return found
    if digest:
        return Rootfs(name, "overlay", unpacked(digest))
    if name in OWN:
        return _own(name)
    if name.startswith("@"):
        raise NotFound("rootfs", name, similar=OWN)
    if is_path(name):
        path = os.path.abspath(name)
        if not os.path.isdir(path):
            raise NotFound("rootfs", name, hint=_why_not(path))
        return Rootfs(name, "overlay", path)
    raise NotFound("unpacked copy of", name, hint="dolium run unpacks it")


def _why_not(path: str) -> str:
    try:
        os.stat(path)
    except FileNotFoundError:
        return f"`{path}` does not exist"
    except OSError as error:
        return f"`{path}`: {error.strerror}"
    return f"`{path}` is a file"


def _bind(source: str, destination: str) -> "dict[str, Any]":
    return {"destination": destination, "type": "bind", "source": source, "options": ["rbind", "ro", "nosuid", "nodev"]}


def _own(name: str) -> Rootfs:
    rootfs = Rootfs(name, "tmpfs", "")
    rootfs.directories += DIRECTORIES
    rootfs.mounts.append(_bind("/usr", "/usr"))
    for top in sorted(each for each in os.listdir("/") if each in TOPS):
        path = "/" + top
        if os.path.islink(path):
            rootfs.links.append((path, os.readlink(path)))
        elif os.path.isdir(path):
            rootfs.mounts.append(_bind(path, path))
    for each in ETC:
        path = f"/etc/{each}"
        if os.path.exists(path):
            rootfs.mounts.append(_bind(path, path))
    rootfs.files += [("/etc/passwd", PASSWD), ("/etc/group", GROUP)]
    if name == "@venv":
        _add_python(rootfs)
    return rootfs


def _add_python(rootfs: Rootfs) -> None:
    """The running Python and its environment, at the paths they have here."""
    prefixes = [_environment(), sys.base_prefix, os.path.realpath(sys.base_prefix)]
    for prefix in prefixes:
        if f"{prefix}/bin" not in rootfs.path_first:
            rootfs.path_first.append(f"{prefix}/bin")
    for prefix in sorted(prefixes, key=len):  # an environment may lie inside the installation that it is of
        shown = [each["destination"] for each in rootfs.mounts]
        if not any(prefix == each or prefix.startswith(each + "/") for each in shown):
            rootfs.mounts.append(_bind(prefix, prefix))


def _environment() -> str:
    """sys.prefix, also where `site`, which finds a virtual environment before Python 3.14, was not run (-S)."""
    if sys.prefix != sys.base_prefix or not sys.executable:
        return sys.prefix
    candidate = os.path.dirname(os.path.dirname(sys.executable))
    return candidate if os.path.exists(f"{candidate}/pyvenv.cfg") else sys.prefix
