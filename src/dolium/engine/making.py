"""Make an image: a layer out of a tar archive, a config, a manifest over both (image-spec), and record it.

The same content gives the same digests: layers are compressed by zlib at one level, without a name and a time (engine/packing.py).
"""

import os
from hashlib import sha256

from dolium.core import document
from dolium.engine import blobs, images, manifests, packing
from dolium.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from dolium.engine.archive import Buffer
    from dolium.engine.manifests import Descriptor

OURS = {
    f"{manifests.DOCKER}image.rootfs.diff.tar": f"{manifests.OCI}layer.v1.tar",
    f"{manifests.DOCKER}image.rootfs.diff.tar.gzip": f"{manifests.OCI}layer.v1.tar+gzip",
    f"{manifests.DOCKER}image.rootfs.diff.tar.zstd": f"{manifests.OCI}layer.v1.tar+zstd",
    f"{manifests.DOCKER}image.rootfs.foreign.diff.tar.gzip": f"{manifests.OCI}layer.nondistributable.v1.tar+gzip",
}
"""Docker's names of layers -> those of image-spec, for an OCI manifest has no others."""


class Layer:
    """Takes the bytes of a tar archive; used with `with`.  After `commit`: `diff_id` of them, and the `descriptor` of the blob that
    they have become."""

    def __init__(self) -> None:
        self.diff_id = ""
        self.size = 0
        self._blob = blobs.Fresh()
        self._sum = sha256()
        self._packer = packing.Packer(self._blob.write)

    def write(self, data: "Buffer") -> None:
        """Add bytes.  Raises OSError."""
        self._sum.update(data)
        self.size += len(data)
        self._packer.add(data)

    def finish(self) -> int:
        """All has been written: a descriptor to read it all, compressed, before `commit`; close it.  Raises OSError."""
        self._packer.finish()
        self.diff_id = f"sha256:{self._sum.hexdigest()}"
        return self._blob.reader()

    def commit(self) -> None:
        """Put it in its place.  Raises OSError."""
        if not self.diff_id:
            os.close(self.finish())
        self._blob.commit()

    @property
    def descriptor(self) -> "dict[str, Any]":
        """As a manifest has it."""
        return {"mediaType": f"{manifests.OCI}layer.v1.tar+gzip", "digest": self._blob.digest, "size": self._blob.size}

    def __enter__(self) -> "Layer":
        return self

    def __exit__(self, *_: object) -> None:
        self._packer.close()
        self._blob.__exit__()


def described(layer: "Descriptor") -> "dict[str, Any]":
    """A layer of an image that is there, as an OCI manifest has it."""
    found: dict[str, Any] = {"mediaType": OURS.get(layer.media_type, layer.media_type), "digest": layer.digest, "size": layer.size}
    if layer.urls:
        found["urls"] = [*layer.urls]
    if layer.annotations:
        found["annotations"] = layer.annotations
    return found


def run_of(parent: "images.Image") -> "dict[str, Any]":
    """How an image is run, as its config says it: its part `config`.  Raises ImageError."""
    data = blobs.read(parent.id, manifests.MOST_CONFIG)
    found: dict[str, Any] = document.read(data.decode(), f"config {parent.id}").get("config") or {}
    return found


def image(name: str, config: "dict[str, Any]", layers: "list[dict[str, Any]]") -> "images.Image":
    """Record the image of a config and the descriptors of its layers, all of which are there, under a whole reference, or without
    a name.  Call it while holding (images.hold).  Raises ImageError, OSError and DoliumError."""
    written = document.write(config).encode()
    about = blobs.put(written)
    manifest = {"schemaVersion": 2, "mediaType": manifests.OCI_MANIFEST,
                "config": {"mediaType": manifests.OCI_CONFIG, "digest": about, "size": len(written)}, "layers": layers}  # fmt: skip
    return images.record(name, blobs.put(document.write(manifest).encode()))


def config(platform: "manifests.Platform", run: "dict[str, Any]", diff_ids: "Iterable[str]", history: "Iterable[dict[str, Any]]",
           author: str = "") -> "dict[str, Any]":  # fmt: skip
    """A config (image-spec config.md) of now; `run` is its part `config`."""
    found: dict[str, Any] = {"created": now()}
    if author:
        found["author"] = author
    found |= {"architecture": platform.architecture, "os": platform.os}
    if platform.variant:
        found["variant"] = platform.variant
    return found | {"config": run, "rootfs": {"type": "layers", "diff_ids": [*diff_ids]}, "history": [*history]}


def event(by: str, *, author: str = "", comment: str = "") -> "dict[str, Any]":
    """A line of an image's history, of now."""
    found = {"created": now(), "created_by": by, "author": author, "comment": comment}
    return {name: text for name, text in found.items() if text}


def now() -> str:
    """As RFC 3339 has it; SOURCE_DATE_EPOCH says when that is, for builds that are to be reproduced.  Raises SpecError."""
    from time import gmtime, strftime, time

    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given and not (given.isascii() and given.isdecimal() and len(given) < 12):
        raise SpecError("SOURCE_DATE_EPOCH", f"`{given}` is no number of seconds since 1970")
    return strftime("%Y-%m-%dT%H:%M:%SZ", gmtime(int(given) if given else time()))
