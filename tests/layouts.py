"""Small images for tests, put into the store or written as an OCI image layout, with every digest as it must be."""

import gzip
import hashlib
import json
import os
from typing import Any

import pytest
from archives import archive, entry

from dolium.engine import blobs, images, manifests
from dolium.runtime import places

CREATED = "2023-11-14T22:13:20Z"


@pytest.fixture
def store(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data directory of the test's own; its path."""
    path = f"{tmp_path}/data"
    monkeypatch.setattr(places, "data_path", lambda: path)
    return path


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data), **more}


def layer(*names: str) -> bytes:
    """A layer, not compressed, with files of those names."""
    return archive(*(entry(name, data=name.encode()) for name in names))


class Made:
    """An image: `blobs` by digest, and the digests of its manifest and its config."""

    def __init__(self, layers: list[bytes], config: dict[str, Any] | None = None, compress: Any = gzip.compress, docker: bool = False,
                 architecture: str = "amd64", **fields: Any) -> None:  # fmt: skip
        packed = [compress(each) for each in layers]
        kind = f"{manifests.DOCKER}image.rootfs.diff.tar.gzip" if docker else f"{manifests.OCI}layer.v1.tar+gzip"
        if not docker and compress is bytes:
            kind = f"{manifests.OCI}layer.v1.tar"
        about = {"architecture": architecture, "os": "linux", "created": CREATED, "config": config or {},
                 "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
                 "history": [{"created": CREATED, "created_by": f"layer {at}"} for at in range(len(layers))], **fields}  # fmt: skip
        written = json.dumps(about).encode()
        body = {"schemaVersion": 2, "mediaType": manifests.DOCKER_MANIFEST if docker else manifests.OCI_MANIFEST,
                "config": descriptor(written, manifests.DOCKER_CONFIG if docker else manifests.OCI_CONFIG),
                "layers": [descriptor(each, kind) for each in packed]}  # fmt: skip
        self.manifest = json.dumps(body).encode()
        self.digest, self.id = digest(self.manifest), digest(written)
        self.blobs = {digest(each): each for each in (self.manifest, written, *packed)}

    def put(self, name: str = "") -> images.Image:
        """Into the store."""
        for each in self.blobs.values():
            blobs.put(each)
        return images.record(name, self.digest)


def write_layout(path: str, tags: dict[str, Made]) -> str:
    """An OCI image layout of them; its path."""
    for made in tags.values():
        for each, data in made.blobs.items():
            where = f"{path}/blobs/{each.replace(':', '/')}"
            os.makedirs(os.path.dirname(where), exist_ok=True)
            with open(where, "wb") as file:
                file.write(data)
    listed = [descriptor(made.manifest, manifests.OCI_MANIFEST, annotations={"org.opencontainers.image.ref.name": tag}) for tag, made in tags.items()]
    for name, body in (("index.json", {"schemaVersion": 2, "manifests": listed}), ("oci-layout", {"imageLayoutVersion": "1.0.0"})):
        with open(f"{path}/{name}", "w") as file:
            json.dump(body, file)
    return path
