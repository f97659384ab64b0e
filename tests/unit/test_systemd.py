"""linux.cgroupsPath of the cgroup driver `systemd`; the examples are runc's and systemd.slice(5)'s."""

from __future__ import annotations

import pytest

from dolium.errors import SpecError
from dolium.plan import systemd


@pytest.mark.parametrize(("text", "name", "path"), [
    ("system.slice:docker:1234", "docker-1234.scope", "/system.slice/docker-1234.scope"),
    ("machine.slice:libpod:abc", "libpod-abc.scope", "/machine.slice/libpod-abc.scope"),
    ("kubepods-burstable-pod1.slice:cri-containerd:x", "cri-containerd-x.scope",
     "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-x.scope"),
    (":runc:x", "runc-x.scope", "/system.slice/runc-x.scope"), ("a.slice::x", "x.scope", "/a.slice/x.scope"),
    ("-.slice:p:x", "p-x.scope", "/p-x.scope"), ("a.slice:p:a-b.slice", "a-b.slice", "/a.slice/a-b.slice"),
    ("", "dolium-me.scope", "/system.slice/dolium-me.scope"),
])  # fmt: skip
def test_units(text: str, name: str, path: str) -> None:
    found = systemd.unit(text, identity="me")
    assert (found.name, found.path) == (name, path)


def test_a_plain_users() -> None:
    assert systemd.unit(":p:x", user=True).path == "/user.slice/p-x.scope"


@pytest.mark.parametrize("text", ["/a/b", "a.slice:b", "a.slice:b:c:d", "a:b:c", "a.slice:b:", "../a.slice:b:c", "a/b.slice:p:x", "a.slice:p:x/y",
                                  "a--b.slice:p:x", "-a.slice:p:x", "a-.slice:p:x", ".slice:p:x", "a.slice:p:" + "x" * 300, "a.slice:p:é"])
def test_what_is_no_unit(text: str) -> None:
    with pytest.raises(SpecError, match=r"linux\.cgroupsPath"):
        systemd.unit(text)
