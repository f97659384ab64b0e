"""registries.toml: what can be said there, and that what cannot is refused."""

from __future__ import annotations

import os

import pytest
from registry_servers import nobody

from dolium.engine import registries
from dolium.errors import SpecError

__all__ = ["nobody"]
WHOLE = """
short = "registry.lan:5000/base"
[registry."docker.io"]
mirrors = ["https://mirror.test/hub/", "http://[::1]:5001"]
[registry."registry.lan:5000"]
plain-http = true
[registry."self.test"]
tls-verify = false
ca = "/etc/ssl/ca.pem"
"""


def write(home: str, text: str) -> None:
    os.makedirs(f"{home}/.config/dolium", exist_ok=True)
    with open(f"{home}/.config/dolium/registries.toml", "w") as file:
        file.write(text)


def test_nothing(nobody: str) -> None:
    found = registries.load()
    assert found.short == "docker.io/library"
    assert [each.url for each in found.endpoints("docker.io")] == ["https://registry-1.docker.io/v2/"]
    assert found.verified("quay.io") and not found.plain("quay.io") and not found.may_be_plain("quay.io") and found.may_be_plain("localhost:5000")


def test_all_that_can_be_said(nobody: str) -> None:
    write(nobody, WHOLE)
    found = registries.load()
    assert found.short == "registry.lan:5000/base"
    assert [each.url for each in found.endpoints("docker.io")] == [
        "https://mirror.test/v2/hub/", "http://[::1]:5001/v2/", "https://registry-1.docker.io/v2/"]  # fmt: skip
    assert [each.name for each in found.endpoints("docker.io")] == ["mirror.test", "[::1]:5001", "docker.io"]
    assert len(found.endpoints("docker.io", mirrors=False)) == 1
    assert found.plain("registry.lan:5000") and not found.plain("registry.lan") and found.plain("[::1]:5001")
    assert not found.verified("self.test") and found.may_be_plain("self.test") and found.certificates("self.test") == (["/etc/ssl/ca.pem"], [])


def test_flags_are_over_it(nobody: str) -> None:
    write(nobody, WHOLE)
    found = registries.load(verify=True, plain=False)
    assert found.verified("self.test") and not found.plain("registry.lan:5000") and not found.may_be_plain("localhost")
    found = registries.load(verify=False, plain=True)
    assert not found.verified("quay.io") and found.plain("quay.io")


def test_the_users_is_over_the_hosts(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(f"{nobody}/system.toml", "w") as file:
        file.write('short = "a.test"\n[registry."r.test"]\ntls-verify = false\nmirrors = ["https://m.test"]\n')
    monkeypatch.setattr(registries, "SYSTEM", f"{nobody}/system.toml")
    assert registries.load().short == "a.test" and not registries.load().verified("r.test")
    write(nobody, '[registry."r.test"]\ntls-verify = true\n')
    found = registries.load()
    assert found.short == "a.test" and found.verified("r.test") and len(found.endpoints("r.test")) == 2


@pytest.mark.parametrize("text, says", [
    ("short =", "is no TOML"), ("\xff", "is no TOML"), ("mirror = 1", "there is no `mirror`"), ("short = 1", "is no text"), ("short = 'A b'", "a b"),
    ("registry = 1", "is no table"), ("[registry]\n'a b' = {}", "a b"), ("[registry.'r.test']\ninsecure = true", "there is no `insecure`"),
    ("[registry.'r.test']\ntls-verify = 'no'", "is no true or false"), ("[registry.'r.test']\nmirrors = 'x'", "is no list"),
    ("[registry.'r.test']\nmirrors = ['m.test']", "is no mirror"), ("[registry.'r.test']\nmirrors = ['ftp://m.test']", "is no mirror"),
    ("[registry.'r.test']\nmirrors = ['https://m.test/A']", "lower case"), ("[registry.'r.test']\nca = 1", "is no text"), ("registry.x = 1", "there is no"),
])
def test_malformed(nobody: str, text: str, says: str) -> None:
    write(nobody, "")
    with open(f"{nobody}/.config/dolium/registries.toml", "wb") as file:
        file.write(text.encode("latin-1"))
    with pytest.raises(SpecError) as caught:
        registries.load()
    assert says in str(caught.value) and "registries.toml" in str(caught.value)
    found = registries.known()
    assert found.short == "docker.io/library", "who needs no registry goes on"
    with pytest.raises(SpecError, match=r"registries\.toml"):
        found.endpoints("docker.io")


def test_certificates_of_docker_and_podman(nobody: str) -> None:
    where = f"{nobody}/.config/containers/certs.d/r.test:5000"
    os.makedirs(where)
    for name in ("a.crt", "b.crt", "client.cert", "client.key", "readme"):
        open(f"{where}/{name}", "w").close()
    found = registries.load()
    assert found.certificates("r.test:5000") == ([f"{where}/a.crt", f"{where}/b.crt"], [(f"{where}/client.cert", f"{where}/client.key")])
    assert found.certificates("r.test") == ([], [])
    os.unlink(f"{where}/client.key")
    with pytest.raises(SpecError, match=r"client\.cert: there is no `client\.key`"):
        found.certificates("r.test:5000")


@pytest.mark.parametrize("host, here", [("localhost", True), ("localhost:5000", True), ("127.0.0.1", True), ("127.1.2.3:5000", True), ("[::1]", True),
                                        ("[::1]:5000", True), ("127.evil.test", False), ("localhost.evil.test", False), ("[::2]:1", False),
                                        ("128.0.0.1", False), ("127.0.0.1.evil.test:80", False)])
def test_what_is_this_machine(host: str, here: bool) -> None:
    assert registries.is_loopback(host) == here
