"""Who we are: the files and helpers of docker and podman, which of them counts, and what is kept of them when ours are changed."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import pytest
from registry_servers import know, nobody

from dolium.engine import credentials
from dolium.engine.credentials import Credentials
from dolium.errors import DoliumError, SpecError

__all__ = ["nobody"]


def written(path: str, about: Any) -> str:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        file.write(about if isinstance(about, str) else json.dumps(about))
    return path


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def found(registry: str, repository: str = "") -> tuple[str, str, str] | None:
    known = credentials.find(registry, repository)
    return known and (known.user, known.password, known.token)


def test_none(nobody: str) -> None:
    assert found("quay.io") is None
    written(f"{nobody}/.docker/config.json", "")
    assert found("quay.io") is None


@pytest.mark.parametrize("key", ["docker.io", "https://index.docker.io/v1/", "index.docker.io", "https://docker.io", "https://registry-1.docker.io/v2/"])
def test_the_names_of_docker_hub(nobody: str, key: str) -> None:
    know(nobody, **{key: "me:word"})
    assert found("docker.io") == ("me", "word", "") and found("quay.io") is None


@pytest.mark.parametrize("key", ["r.test:5000", "https://r.test:5000", "http://r.test:5000/v2/", "r.test:5000/"])
def test_the_names_of_others(nobody: str, key: str) -> None:
    know(nobody, **{key: "me:a:b"})
    assert found("r.test:5000") == ("me", "a:b", "") and found("r.test") is None and found("r.test:500") is None


def test_the_longest_path_counts(nobody: str) -> None:
    know(nobody, **{"r.test": "all:1", "r.test/org": "org:2", "r.test/org/app": "app:3"})
    assert [found("r.test", each) for each in ("x", "org/x", "org/app", "organ", "org/app/y")] == [
        ("all", "1", ""), ("org", "2", ""), ("app", "3", ""), ("all", "1", ""), ("app", "3", "")]  # fmt: skip


def test_the_order_of_files(nobody: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where = credentials.files()
    assert where == [f"{nobody}/.docker/config.json", f"{nobody}/run/containers/auth.json", f"{nobody}/.config/containers/auth.json"]
    for number, path in enumerate(reversed(where)):
        written(path, {"auths": {"r.test": auth(f"me:{number}")}})
        assert found("r.test") == ("me", str(number), "")
    monkeypatch.setenv("DOCKER_CONFIG", f"{nobody}/elsewhere")
    written(f"{nobody}/elsewhere/config.json", {"auths": {"r.test": auth("me:docker")}})
    assert found("r.test") == ("me", "docker", "")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", written(f"{nobody}/given", {"auths": {"r.test": {"username": "me", "password": "given"}}}))
    assert found("r.test") == ("me", "given", "")


@pytest.mark.parametrize("text, says", [
    ("{", "is not JSON"), ("[]", "no JSON object"), ('{"auths": []}', "no object"), ('{"auths": {"r.test": {"auth": "!"}}}', "base 64"),
    ('{"auths": {"r.test": {"auth": "bWU="}}}', "base 64"), ('{"credHelpers": {"r.test": "../evil"}}', "no name of a credential helper"),
    ('{"credsStore": "a b"}', "no name of a credential helper"),
])
def test_malformed(nobody: str, text: str, says: str) -> None:
    written(f"{nobody}/.docker/config.json", text)
    with pytest.raises(SpecError, match=f"{nobody}/.docker/config.json") as caught:
        credentials.find("r.test")
    assert says in str(caught.value)


def test_a_password_is_in_no_traceback() -> None:
    assert "secret" not in repr(Credentials("me", "secret", "secret"))


# ---- helpers

HELPER = """#!/bin/sh
read -r input
echo "$1 $input" >>"$HOME/asked"
case "$1/$input" in
get/r.test) echo '{"ServerURL":"r.test","Username":"me","Secret":"s"}' ;;
get/t.test) echo '{"ServerURL":"t.test","Username":"<token>","Secret":"refresh"}' ;;
get/bad.test) echo 'nonsense' ;;
get/fail.test) echo 'the keychain is locked'; exit 1 ;;
get/*) echo 'credentials not found in native keychain'; exit 1 ;;
esac
"""


@pytest.fixture
def helper(nobody: str, monkeypatch: pytest.MonkeyPatch) -> str:
    path = written(f"{nobody}/bin/docker-credential-test", HELPER)
    os.chmod(path, 0o755)
    monkeypatch.setenv("PATH", f"{nobody}/bin:{os.environ['PATH']}")
    return f"{nobody}/asked"


def test_a_helper_for_all(nobody: str, helper: str) -> None:
    written(f"{nobody}/.docker/config.json", {"credsStore": "test", "auths": {"r.test": {}}})
    assert found("r.test") == ("me", "s", "") and found("t.test") == ("", "", "refresh") and found("docker.io") is None
    with open(helper) as file:
        assert file.read().splitlines() == ["get r.test", "get t.test", "get https://index.docker.io/v1/"]


def test_a_helper_for_one(nobody: str, helper: str) -> None:
    written(f"{nobody}/.docker/config.json", {"credHelpers": {"r.test": "test"}, "auths": {"x.test": auth("x:y")}})
    assert found("r.test") == ("me", "s", "") and found("x.test") == ("x", "y", "")
    with open(helper) as file:
        assert file.read() == "get r.test\n"


@pytest.mark.usefixtures("helper")
def test_a_helper_that_fails(nobody: str) -> None:
    written(f"{nobody}/.docker/config.json", {"credsStore": "test"})
    with pytest.raises(DoliumError, match="docker-credential-test: the keychain is locked") as caught:
        credentials.find("fail.test")
    assert ".docker/config.json` says to ask it" in caught.value.hint
    with pytest.raises(SpecError, match="is not JSON"):
        credentials.find("bad.test")
    written(f"{nobody}/.docker/config.json", {"credsStore": "absent"})
    with pytest.raises(DoliumError, match="cannot run `docker-credential-absent`"):
        credentials.find("r.test")


def test_login_by_a_helper(nobody: str, helper: str) -> None:
    path = written(f"{nobody}/.docker/config.json", {"credsStore": "test"})
    assert credentials.store("r.test", Credentials("me", "s3cret")) == "docker-credential-test"
    assert credentials.erase("r.test")
    with open(helper) as file:
        asked = file.read().splitlines()
    assert json.loads(asked[0].partition(" ")[2]) == {"ServerURL": "r.test", "Username": "me", "Secret": "s3cret"}
    assert asked[1] == "erase r.test"
    with open(path) as file:
        assert "s3cret" not in file.read()


# ---- changing the file


def test_what_is_kept_of_a_file(nobody: str) -> None:
    path = written(f"{nobody}/real.json", {"detachKeys": "x", "auths": {"old.test": auth("a:b")}, "HttpHeaders": {"A": "b"}})
    os.makedirs(f"{nobody}/.docker")
    os.symlink(path, f"{nobody}/.docker/config.json")
    assert credentials.store("docker.io", Credentials("me", "word")) == path
    with open(path) as file:
        about = json.load(file)
    assert about == {"detachKeys": "x", "HttpHeaders": {"A": "b"},
                     "auths": {"old.test": auth("a:b"), "https://index.docker.io/v1/": auth("me:word")}}  # fmt: skip
    assert os.stat(path).st_mode & 0o777 == 0o600 and os.path.islink(f"{nobody}/.docker/config.json")
    assert found("docker.io") == ("me", "word", "")
    assert credentials.erase("docker.io") and not credentials.erase("docker.io") and found("docker.io") is None
    assert sorted(os.listdir(nobody)) == [".docker", "real.json"], "nothing else is left"


def test_a_file_that_cannot_be_read_is_not_written_over(nobody: str) -> None:
    path = written(f"{nobody}/.docker/config.json", "{broken")
    with pytest.raises(SpecError):
        credentials.store("r.test", Credentials("me", "word"))
    with open(path) as file:
        assert file.read() == "{broken"
    assert os.listdir(f"{nobody}/.docker") == ["config.json"]


def test_an_identity_token_is_kept_as_docker_does(nobody: str) -> None:
    credentials.store("r.test", Credentials("me", "", "refresh"))
    with open(f"{nobody}/.docker/config.json") as file:
        assert json.load(file) == {"auths": {"r.test": {"auth": "bWU6", "identitytoken": "refresh"}}}
    assert found("r.test") == ("me", "", "refresh")


def test_two_logins_at_once(nobody: str) -> None:
    pids = []
    for at in range(8):
        pid = os.fork()
        if pid == 0:
            credentials.store(f"r{at}.test", Credentials("me", str(at)))
            os._exit(0)
        pids.append(pid)
    assert all(os.waitpid(pid, 0)[1] == 0 for pid in pids)
    assert [found(f"r{at}.test") for at in range(8)] == [("me", str(at), "") for at in range(8)]
