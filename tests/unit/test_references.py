"""The names of images: what each means, and what none can be."""

import pytest

from dolium.engine import references
from dolium.errors import SpecError

HEX = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize("text, canonical, familiar", [
    ("alpine", "docker.io/library/alpine:latest", "alpine:latest"),
    ("alpine:3.20", "docker.io/library/alpine:3.20", "alpine:3.20"),
    ("org/app", "docker.io/org/app:latest", "org/app:latest"),
    ("docker.io/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
    ("index.docker.io/library/alpine", "docker.io/library/alpine:latest", "alpine:latest"),
    ("docker://quay.io/a/b:1", "quay.io/a/b:1", "quay.io/a/b:1"),
    ("localhost/x", "localhost/x:latest", "localhost/x:latest"),
    ("localhost:5000/x/y/z:t", "localhost:5000/x/y/z:t", "localhost:5000/x/y/z:t"),
    ("Registry.Example:0443/x", "registry.example:443/x:latest", "registry.example:443/x:latest"),
    ("[::1]:5000/x", "[::1]:5000/x:latest", "[::1]:5000/x:latest"),
    ("[fe80::1]/x", "[fe80::1]/x:latest", "[fe80::1]/x:latest"),
    (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
    (f"alpine:3@{DIGEST}", f"docker.io/library/alpine:3@{DIGEST}", f"alpine:3@{DIGEST}"),
    ("a.b/c__d/e---f", "a.b/c__d/e---f:latest", "a.b/c__d/e---f:latest"),
    ("oci:/tmp/a dir", "oci:/tmp/a dir", "oci:/tmp/a dir"),
    ("oci:./dir:v1", "oci:./dir:v1", "oci:./dir:v1"),
    ("oci:/a:b/c", "oci:/a:b/c", "oci:/a:b/c"),
    ("oci-archive:f.tar:v1", "oci-archive:f.tar:v1", "oci-archive:f.tar:v1"),
    ("docker-archive:f.tar", "docker-archive:f.tar", "docker-archive:f.tar"),
    ("docker-archive:f.tar:alpine", "docker-archive:f.tar:docker.io/library/alpine:latest",
     "docker-archive:f.tar:docker.io/library/alpine:latest"),
    ("dir", "docker.io/library/dir:latest", "dir:latest"),
    ("http:8080", "docker.io/library/http:8080", "http:8080"),
])
def test_what_a_name_means(text: str, canonical: str, familiar: str) -> None:
    found = references.parse(text)
    assert str(found) == canonical
    assert found.familiar() == familiar
    assert references.parse(canonical) == found == references.parse(familiar)


@pytest.mark.parametrize("short, text, canonical", [
    ("registry.lan:5000", "app", "registry.lan:5000/app:latest"),
    ("registry.lan:5000/base", "app:1", "registry.lan:5000/base/app:1"),
    ("registry.lan:5000/library", "org/app", "registry.lan:5000/org/app:latest"),
    ("registry.lan:5000/base", "org/app", "docker.io/org/app:latest"),
])
def test_short_names_can_be_others(short: str, text: str, canonical: str) -> None:
    found = references.parse(text, short=short)
    assert str(found) == canonical
    assert references.parse(found.familiar(short), short=short) == found


@pytest.mark.parametrize("text, says", [
    ("", "is empty"), ("Alpine", "lower case"), ("quay.io/Org/app", "lower case"), ("a//b", "is empty"), ("a/", "is empty"),
    ("a..b", "a..b"), ("a.b/_x", "_x"), ("a___b", "a___b"), ("a._b", "a._b"), ("-a", "-a"), ("a:", "no tag"), ("a:.x", "no tag"),
    ("a:" + "x" * 129, "no tag"), ("a:t t", "no tag"), ("a@", "no digest"), ("a@sha256:12", "64 hexadecimal"),
    (f"a@sha256:{HEX.upper()}", "lower case"), ("a@md5:12", "no digest"), ("h.x:99999/a", "no port"), ("h.x:p/a", "no port"),
    ("h.x:/a", "no port"), ("-h.x/a", "no host"), ("[x]:1/a", "no host"), (HEX, "could be an id"), ("scratch", "no image at all"),
    ("x.y/" + "a" * 252, "255"), ("oci:", "no path"), ("oci:dir:-x", "no tag"), ("https://quay.io/a", "nothing that dolium reads"),
    ("containers-storage:a", "nothing that dolium reads"), ("docker-daemon:a:b", "nothing that dolium reads"), ("a\nb", "part of a name"),
    ("é", "part of a name"), ("a:١", "no tag"), ("h.x:١/a", "no port"),
])
def test_what_no_image_is_called(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=r"^image ") as caught:
        references.parse(text)
    assert says in str(caught.value) + caught.value.hint
    assert "\n" not in str(caught.value)
