"""What is said of images: read strictly, and the right one chosen for a machine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from layouts import Made, layer

from dolium.engine import manifests
from dolium.errors import ImageError, SpecError

MADE = Made([layer("a"), layer("b")], {"Env": ["A=1", "B="], "Cmd": ["sh"], "Labels": {"x": "y"}, "ExposedPorts": {"80/tcp": {}}})
BODY = json.loads(MADE.manifest)
CONFIG = json.loads(MADE.blobs[MADE.id])
ONE = BODY["layers"][0]


def parse(body: Any, media_type: str = "") -> Any:
    return manifests.parse(json.dumps(body).encode(), "manifest x", media_type)


def config(**changes: Any) -> manifests.Config:
    return manifests.parse_config(json.dumps({**CONFIG, **changes}).encode(), "config x", 2)


def test_a_manifest() -> None:
    found = parse(BODY)
    assert isinstance(found, manifests.Manifest) and found.media_type == manifests.OCI_MANIFEST
    assert found.config.digest == MADE.id and [each.size for each in found.layers] == [each["size"] for each in BODY["layers"]]
    docker = json.loads(Made([layer("a")], docker=True).manifest)
    assert parse(docker).media_type == manifests.DOCKER_MANIFEST
    assert parse({key: value for key, value in BODY.items() if key != "mediaType"}) == found
    assert parse(BODY, f"{manifests.OCI_MANIFEST}; charset=utf-8") == found
    assert parse(BODY, "application/octet-stream") == found, "of a file server, which says nothing"
    assert repr(found.layers[0]).startswith("Descriptor(media_type='application/vnd.oci.image.layer.v1.tar+gzip', digest='sha256:")
    with pytest.raises(AttributeError, match="Manifest is frozen"):
        found.layers = ()  # type: ignore[misc]


@pytest.mark.parametrize("change, problem", [
    ({"manifests": []}, "both an index"),
    ({"schemaVersion": 1}, "schema 1 manifest"),
    ({"mediaType": manifests.SCHEMA_1[1]}, "schema 1 manifest"),
    ({"fsLayers": []}, "fields of Docker schema 1"),
    ({"schemaVersion": 3}, "schemaVersion is `3`"),
    ({"schemaVersion": None}, "schemaVersion is `None`"),
    ({"mediaType": manifests.OCI_INDEX}, "none of an image"),
    ({"mediaType": "application/json"}, "none of an image"),
    ({"mediaType": 7}, "is no text"),
    ({"layers": None, "config": None}, "no config or no layers"),
    ({"config": []}, "config is no object"),
    ({"config": {**BODY["config"], "mediaType": "application/vnd.cncf.helm.config.v1+json"}}, "an artifact of another kind"),
    ({"config": {**BODY["config"], "size": 9 << 20}}, "config.size is"),
    ({"layers": {}}, "layers is no list"),
    ({"layers": [1]}, "layers is no list"),
    ({"layers": [ONE] * 501}, "layers has 501 entries"),
    ({"layers": [{**ONE, "digest": "sha256:../../etc/passwd"}]}, "layers[0].digest is"),
    ({"layers": [{**ONE, "digest": "md5:" + "0" * 32}]}, "no sha256 or sha512"),
    ({"layers": [{**ONE, "size": -1}]}, "layers[0].size is"),
    ({"layers": [{**ONE, "size": True}]}, "layers[0].size is"),
    ({"layers": [{**ONE, "size": "5"}]}, "layers[0].size is"),
    ({"layers": [{**ONE, "size": 1 << 41}]}, "layers[0].size is"),
    ({"layers": [{**ONE, "mediaType": "application/x-evil"}]}, "no layer that can be unpacked"),
    ({"layers": [{**ONE, "urls": "http://x"}]}, "layers[0].urls is no list of words"),
])  # fmt: skip
def test_what_is_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ImageError) as caught:
        parse({**BODY, **change})
    assert problem in str(caught.value) and str(caught.value).startswith("cannot read manifest x: "), caught.value


@pytest.mark.parametrize("data, problem", [(b"\xff", "not UTF-8"), (b"[]", "no JSON object"), (b"{", "not JSON"), (b" " * (5 << 20), "4194304 are the most"),
                                           (b'{"a":' * 300 + b"1" + b"}" * 300, "nested too deep")])  # fmt: skip
def test_what_is_no_document(data: bytes, problem: str) -> None:
    with pytest.raises(ImageError, match=problem):
        manifests.parse(data, "manifest x")


def test_cve_2021_41190_a_document_is_one_thing() -> None:
    """What the registry says that it is, what it says itself, and what is in it."""
    index = {"schemaVersion": 2, "manifests": [ONE]}
    for body, said in ((BODY, manifests.OCI_INDEX), (BODY, manifests.DOCKER_MANIFEST), ({**index, "mediaType": manifests.DOCKER_LIST}, manifests.OCI_INDEX)):
        with pytest.raises(ImageError, match="and was given as"):
            parse(body, said)
    for body in ({**index, "layers": []}, {**index, "config": {}}, {**BODY, "manifests": None}):
        with pytest.raises(ImageError, match="both an index"):
            parse(body)
    for body, said in ((index, manifests.OCI_MANIFEST), ({k: v for k, v in BODY.items() if k != "mediaType"}, manifests.OCI_INDEX)):
        with pytest.raises(ImageError, match=r"is said to be|none of an image"):
            parse(body, said)


def index(*platforms: str) -> manifests.Index:
    listed = [{"mediaType": manifests.OCI_MANIFEST, "digest": f"sha256:{at:064x}", "size": 1,
               **({"platform": dict(zip(("os", "architecture", "variant"), each.split("/"), strict=False))} if each else {})}
              for at, each in enumerate(platforms)]  # fmt: skip
    found = parse({"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": listed})
    assert isinstance(found, manifests.Index)
    return found


@pytest.mark.parametrize("wanted, there, chosen", [
    ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
    ("linux/amd64", ["", "linux/amd64"], 1),
    ("linux/amd64", ["windows/amd64", ""], 1),
    ("amd64", ["linux/amd64/v2", "linux/amd64", "linux/amd64"], 1),
    ("x86_64", ["linux/386", "linux/amd64/v1"], 1),
    ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
    ("linux/arm64", ["linux/arm/v7", "linux/arm64/v8"], 1),
    ("linux/arm64/v8", ["linux/arm64"], 0),
    ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm64/v8"], 0),
    ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v6"], 1),
    ("linux/arm", ["linux/arm/v7"], 0),
])  # fmt: skip
def test_the_platform(wanted: str, there: list[str], chosen: int) -> None:
    assert manifests.choose(index(*there), manifests.platform(wanted), "x").digest == f"sha256:{chosen:064x}"


def test_no_such_platform() -> None:
    with pytest.raises(ImageError, match="nothing for linux/s390x") as caught:
        manifests.choose(index("linux/amd64", "linux/arm64/v8", "unknown/unknown"), manifests.platform("linux/s390x"), "x")
    assert caught.value.hint == "it is for linux/amd64, linux/arm64/v8; --platform chooses"
    for text in ("", "linux/", "a/b/c/d", "linux/../x", "li nux/amd64"):
        with pytest.raises(SpecError, match="--platform"):
            manifests.platform(text)
    assert str(manifests.this_platform()).startswith("linux/")


def test_a_config() -> None:
    found = config()
    assert (found.env, found.cmd, found.entrypoint, found.labels, found.exposed_ports) == (("A=1", "B="), ("sh",), None, {"x": "y"}, ("80/tcp",))
    assert str(found.platform) == "linux/amd64" and len(found.diff_ids) == len(found.history) == 2 and found.stop_signal == ""
    assert config(config=None).env == () and config(history=None).history == ()


@pytest.mark.parametrize("change, problem", [
    ({"rootfs": {"type": "layers", "diff_ids": CONFIG["rootfs"]["diff_ids"][:1]}}, "rootfs.diff_ids has 1 entries, and the manifest 2 layers"),
    ({"rootfs": None}, "has 0 entries"),
    ({"rootfs": {"type": "layers", "diff_ids": ["x", "y"]}}, "rootfs.diff_ids[0] is `x`"),
    ({"rootfs": {**CONFIG["rootfs"], "type": "squash"}}, "rootfs.type is `squash`"),
    ({"config": []}, "config is no object"),
    ({"config": {"Env": ["=x"]}}, "which has no name"),
    ({"config": {"Env": "A=1"}}, "config.Env is no list of words"),
    ({"config": {"Cmd": "sh"}}, "config.Cmd is no list of words"),
    ({"config": {"Cmd": ["a\0b"]}}, "config.Cmd is no list of words"),
    ({"config": {"User": 0}}, "config.User is `0`"),
    ({"config": {"Labels": {"a": 1}}}, "config.Labels.a is `1`"),
    ({"config": {"Volumes": ["/x"]}}, "config.Volumes is no object"),
])  # fmt: skip
def test_configs_that_are_refused(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ImageError) as caught:
        config(**change)
    assert problem in str(caught.value), caught.value
