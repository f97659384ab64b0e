"""images.py ROOTFS.tar.gz NAME FILE [COMMAND...]: an image of one layer, as `docker load` and `ctr image import` take it."""

import gzip
import hashlib
import io
import json
import sys
import tarfile


def main(rootfs: str, name: str, file: str, *command: str) -> None:
    with gzip.open(rootfs) as packed:
        layer = packed.read()
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": command or ["/bin/sh"], "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]}, "history": [{"created_by": "a test"}],
    }).encode()  # fmt: skip
    called = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": called, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(file, "w") as archive:
        for each, data in ((called, config), ("layer.tar", layer), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(each)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    main(*sys.argv[1:])
