"""The files in /etc that no image can know, by network and flags."""

from __future__ import annotations

from pathlib import Path

import invent
import pytest

from dolium.engine import etc
from dolium.engine.networks import Attachment
from dolium.errors import SpecError

ON_BRIDGE = Attachment(cable={**invent.CABLE})


@pytest.fixture
def resolvers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The host's two files."""
    first, second = tmp_path / "resolv.conf", tmp_path / "behind"
    first.write_text("# by hand\nnameserver 192.0.2.53\nsearch example\n; old\noptions edns0\n")
    monkeypatch.setattr(etc, "RESOLVERS", (str(first), str(second)))
    return first, second


def read(attachment: Attachment | None, **fields: object) -> tuple[dict[str, str], str]:
    files, note = etc.files("box", invent.options(**fields), attachment)
    return dict(files), note


def test_without_a_network() -> None:
    files, note = read(None)
    assert files == {"/etc/hosts": "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 box\n", "/etc/hostname": "box\n",
                     "/etc/resolv.conf": "# no network\n"} and not note  # fmt: skip
    assert read(None, dns=["192.0.2.9"])[0]["/etc/resolv.conf"] == "nameserver 192.0.2.9\n"


def test_on_the_bridge(resolvers: tuple[Path, Path]) -> None:
    files, note = read(ON_BRIDGE)
    assert files["/etc/hosts"].endswith("10.66.1.2 box\n") and not note
    assert files["/etc/resolv.conf"] == "nameserver 192.0.2.53\nsearch example\noptions edns0\n"


@pytest.mark.parametrize("near", ["127.0.0.53", "127.0.0.1", "::1", "fe80::1%eth0", "0.0.0.0"])
def test_what_only_the_host_reaches_is_left_out(resolvers: tuple[Path, Path], near: str) -> None:
    resolvers[0].write_text(f"nameserver {near}\nnameserver 192.0.2.53\n")
    assert read(ON_BRIDGE)[0]["/etc/resolv.conf"] == "nameserver 192.0.2.53\n"
    resolvers[0].write_text(f"nameserver {near}\n")
    files, note = read(ON_BRIDGE)
    assert files["/etc/resolv.conf"] == "# no name server\n" and "--dns" in note
    assert not read(ON_BRIDGE, dns=["192.0.2.9"])[1]
    resolvers[1].write_text("nameserver 192.0.2.54\n")
    files, note = read(ON_BRIDGE)
    assert files["/etc/resolv.conf"] == "nameserver 192.0.2.54\n" and not note


def test_the_hosts_own_is_taken_as_it_is(resolvers: tuple[Path, Path]) -> None:
    resolvers[0].write_text("# x\nnameserver 127.0.0.53\n")
    assert read(None, network="host")[0]["/etc/resolv.conf"] == "# x\nnameserver 127.0.0.53\n"
    assert read(None, network="host", dns_options=["ndots:2"])[0]["/etc/resolv.conf"] == "nameserver 127.0.0.53\noptions ndots:2\n"


def test_flags_replace_the_hosts_lines(resolvers: tuple[Path, Path]) -> None:
    text = read(ON_BRIDGE, dns=["192.0.2.9", "192.0.2.10"], dns_search=["a", "b"], dns_options=["x"])[0]["/etc/resolv.conf"]
    assert text == "nameserver 192.0.2.9\nnameserver 192.0.2.10\nsearch a b\noptions x\n"


def test_further_names(resolvers: tuple[Path, Path]) -> None:
    hosts = read(ON_BRIDGE, add_hosts=[("db", "192.0.2.7"), ("me", "host-gateway")])[0]["/etc/hosts"]
    assert hosts.endswith("10.66.1.2 box\n192.0.2.7 db\n10.66.0.1 me\n")
    assert read(None, network="host", add_hosts=[("me", "host-gateway")])[0]["/etc/hosts"].endswith("127.0.0.1 me\n")
    with pytest.raises(SpecError, match="host-gateway"):
        read(None, add_hosts=[("me", "host-gateway")])


@pytest.mark.parametrize(("text", "pair"), [("a:192.0.2.1", ("a", "192.0.2.1")), ("a=192.0.2.1", ("a", "192.0.2.1")),
    ("a:2001:DB8::1", ("a", "2001:db8::1")), ("a:[::1]", ("a", "::1")), ("a:host-gateway", ("a", "host-gateway"))])  # fmt: skip
def test_names_are_read(text: str, pair: tuple[str, str]) -> None:
    assert etc.host(text, "--add-host") == pair


@pytest.mark.parametrize("text", ["", "a", "a:", ":192.0.2.1", "a b:192.0.2.1", "a:192.0.2", "a:x", "a\n:::1", "#:192.0.2.1", "a:::1\n"])
def test_malformed_names(text: str) -> None:
    with pytest.raises(SpecError, match="--add-host"):
        etc.host(text, "--add-host")
