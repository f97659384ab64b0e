"""Egress policies: the grammar of their rules, what names and addresses they mean, and the rules of nftables they come to."""

from __future__ import annotations

import shutil
import subprocess

import invent
import pytest

from dolium import allow
from dolium.engine import config
from dolium.errors import SpecError, Unsupported
from dolium.plan import egress, nfnetlink, quantities, rtnetlink

GOOD = {
    "pypi.org:443": "pypi.org:443", "*.pythonhosted.org:443": "*.pythonhosted.org:443", "10.0.0.0/8:*": "10.0.0.0/8:*",
    "[2001:db8::1]:443": "[2001:db8::1]:443", "PyPI.org.:80-90": "pypi.org:80-90", "db:5432": "db:5432", "1.2.3.4:1-65535": "1.2.3.4:1-65535",
    "1.2.3.4/32:5": "1.2.3.4:5", "[2001:db8::/32]:*": "[2001:db8::/32]:*", "[64:ff9b::1.2.3.4]:1": "[64:ff9b::102:304]:1", "[::]:1": "[::]:1",
    "_a._tcp.example:1": "_a._tcp.example:1", "0.0.0.0/0:443": "0.0.0.0/0:443", "[1:0:0:2::]:1": "[1:0:0:2::]:1",
}  # fmt: skip
BAD = {
    "pypi.org": "the port is missing", "pypi.org:": "the port is missing", ":443": "the host is missing", "": "the port is missing",
    "pypi.org:0": "is no port", "pypi.org:65536": "is no port", "pypi.org:http": "is no port", "pypi.org:9-8": "goes downwards",
    "pypi.org:-1": "is no port", "pypi.org:1-": "is no port", "*:443": "names no host", "https://pypi.org:443": "is an URL",
    "pypi.org:443/simple": "is an URL", "::1:443": "too many colons", "[::1:443": "the port is missing", "[::1]443": "the port is missing",
    "10.1.2.3/8:*": "inside of a subnet", "10.0.0.0/33:*": "is no length", "10.0.0.0/:*": "is no length", "256.1.1.1:1": "is no address",
    "010.0.0.1:1": "is no address", "1.2.3:1": "is no address", "0x7f.1:1": "is no host name|is no address", "[::ffff:1.2.3.4]:1": "in disguise",
    "a..b:1": "is no host name", "-a.b:1": "is no host name", "a b:1": "is no host name", "a*.b:1": "stands for no whole name",
    "*.*.b:1": "stands for no whole name", "ä.example:1": "not written in ASCII", f"{'a' * 64}.b:1": "is no host name",
    "*.:1": "is no host name", ".:1": "is no host name", "[g::1]:1": "is no address", "[1:2:3:4:5:6:7:8:9]:1": "is no address",
    "[1::2::3]:1": "is no address", "example/24:1": "is no address", "a\nb:1": "is no host name", "a;b:1": "is no host name", 'a"b:1': "is no host name",
}  # fmt: skip


@pytest.mark.parametrize("text", GOOD)
def test_what_a_rule_says(text: str) -> None:
    found = egress.rule(text, "--network")
    assert egress.shown(found) == GOOD[text]
    assert egress.shown(egress.rule(GOOD[text], "--network")) == GOOD[text]
    assert quantities.network(f"allow={text}", "--network") == allow(text) == f"allow={text}"


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_rule(text: str) -> None:
    for read in (lambda: egress.rule(text, "--network"), lambda: allow("a.example:1", text), lambda: quantities.network(f"allow={text}", "--network")):
        with pytest.raises(SpecError) as caught:
            read()
        assert any(each in str(caught.value) for each in BAD[text].split("|")) and caught.value.hint
        assert "\n" not in str(caught.value)


def test_there_is_an_end_of_them() -> None:
    with pytest.raises(SpecError, match="257 rules"):
        allow(*(f"a{number}.example:1" for number in range(257)))
    with pytest.raises(SpecError, match="nothing is allowed"):
        allow()
    with pytest.raises(SpecError):
        allow(443)  # type: ignore[arg-type]


def test_which_names_a_rule_means() -> None:
    exact, below = egress.rule("a.example:1", ""), egress.rule("*.a.example:1", "")
    assert [exact.means(each) for each in ("a.example", "b.a.example", "xa.example", "")] == [True, False, False, False]
    assert [below.means(each) for each in ("a.example", "b.a.example", "c.b.a.example", "xa.example")] == [False, True, True, False]
    assert not egress.rule("1.2.3.4:1", "").means("") and not egress.rule("1.2.3.4:1", "").means("1.2.3.4")


def test_which_addresses_a_rule_holds() -> None:
    subnet = egress.rule("10.64.0.0/10:1", "")
    assert subnet.holds(bytes((10, 127, 255, 255))) and not subnet.holds(bytes((10, 128, 0, 0))) and not subnet.holds(bytes(16))
    assert egress.rule("0.0.0.0/0:1", "").holds(bytes((9, 9, 9, 9))) and not egress.rule("a.example:1", "").holds(bytes(4))


@pytest.mark.parametrize("address", ["0.0.0.0", "10.66.0.1", "100.64.0.1", "127.0.0.1", "169.254.169.254", "172.31.0.1", "192.168.1.1", "224.0.0.1",
                                     "255.255.255.255", "198.19.0.1"])  # fmt: skip
def test_near(address: str) -> None:
    assert egress.near(bytes(map(int, address.split("."))))


@pytest.mark.parametrize("address", ["1.1.1.1", "100.128.0.1", "172.32.0.1", "192.169.0.1", "198.51.100.1", "223.255.255.255", "11.0.0.0"])
def test_far(address: str) -> None:
    assert not egress.near(bytes(map(int, address.split("."))))


def test_the_table() -> None:
    text = egress.ruleset(egress.rules("allow=a.example:443,*.b.example:443,c.example:80-90,10.0.0.0/8:*,10.66.0.1:80,[2001:db8::1]:1", ""), "10.66.0.1", 16)
    assert text.count("policy drop;") == 3 and text.count("set names") == 2
    for line in ("ip daddr @names1 meta l4proto { tcp, udp } th dport 443 accept", "ip daddr @names0 meta l4proto { tcp, udp } th dport 80-90 accept",
                 "ip daddr 10.0.0.0/8 accept", "ip6 daddr 2001:db8::1/128 meta l4proto { tcp, udp } th dport 1 accept"):  # fmt: skip
        assert f"    {line}\n" in text
    assert "example" not in text, "names are the resolver's"
    lines = [line.strip() for line in text.splitlines()]
    own = lines.index("ip daddr 10.66.0.1/32 meta l4proto { tcp, udp } th dport 80 accept")
    rest = lines.index("ip daddr 10.66.0.1/16 jump refuse")
    assert own < rest < lines.index("ip daddr 10.0.0.0/8 accept"), "a wider subnet does not mean this host"
    narrow = egress.ruleset(egress.rules("allow=10.66.0.0/16:*,192.168.0.0/16:*", ""), "10.66.0.1", 16)
    assert "/16 jump" not in narrow


def test_messages_to_sets() -> None:
    data = nfnetlink.remember("dolium", ["names0", "names1"], [bytes((192, 0, 2, 1))], 60)
    found = list(rtnetlink.messages(data))
    assert [kind for kind, _, _ in found] == [0x10, *[0xA0C, 0xA0E, 0xA0C] * 2, 0x11] and len(data) % 4 == 0
    assert b"\0\0\0\0\0\0\xea\x60" in found[1][2] and b"\0\0\0\0\0\0\xea\x60" not in found[2][2], "milliseconds, when it is added"
    flags = [rtnetlink.HEADER.unpack_from(data, sum(16 + len(content) for _, _, content in found[:index]))[2] for index in range(8)]
    assert [each & rtnetlink.ACK for each in flags] == [0, 0, 0, 0, 0, 0, 4, 0]


@pytest.mark.parametrize("name", ["ALL", "CAP_NET_ADMIN", "CAP_NET_RAW"])
def test_no_capability_over_the_network(name: str) -> None:
    with pytest.raises(Unsupported, match="nobody in the container may rule its network"):
        invent.plan(network="allow=a.example:1", cap_add=[name])
    spec = invent.spec(invent.facts(), invent.options(network="allow=a.example:1", cap_add=["CAP_SYS_TIME"]))
    assert "CAP_NET_RAW" not in spec["process"]["capabilities"]["bounding"] and "CAP_SYS_TIME" in spec["process"]["capabilities"]["bounding"]


def test_the_plan() -> None:
    steps = invent.plan(network="allow=a.example:1", dns=["192.0.2.53"])
    order = [step.op for step in steps]
    assert order.index("make_net") < order.index("nft") < order.index("resolver") < order.index("netlink") < order.index("enter_net") < order.index("clone")
    assert not [step for step in steps if step.op == "loopback" or step.why == "network" and step.op in ("sync", "open_ns")]
    unshared = next(step for step in steps if step.op == "unshare" and step.actor == 2)
    assert not unshared.n1 & 0x40000000, "CLONE_NEWNET"
    assert not [step for step in steps if "ip_unprivileged_port_start" in step.path]
    assert next(step for step in steps if step.op == "resolver").path2 == "192.0.2.53"


def test_the_resolver_is_what_the_container_asks() -> None:
    options = invent.options(network="allow=a.example:1", dns=["192.0.2.53"], dns_search=["corp.example"])
    from dolium.engine import etc
    from dolium.engine.networks import Attachment

    files, _ = etc.files("box", options, Attachment(cable={**invent.CABLE}, policy=options.network))
    text = dict(files)["/etc/resolv.conf"]
    assert text.count("nameserver") == 1 and "nameserver 127.0.0.11\n" in text and "search corp.example\n" in text
    assert etc.servers(options) == ["192.0.2.53"]


def test_nothing_of_it_for_another_process() -> None:
    spec = config.another(invent.NAME, invent.options(network="allow=a.example:1"), invent.rootfs("/srv/alpine"), invent.facts())
    assert "CAP_NET_RAW" not in spec["process"]["capabilities"]["bounding"]


@pytest.mark.needs_root
def test_nft_understands_it() -> None:
    """In a network namespace of its own."""
    nft = shutil.which("nft") or "/usr/sbin/nft"
    text = egress.ruleset(egress.rules("allow=" + ",".join(GOOD), ""), "10.66.0.1", 16)
    ended = subprocess.run(["unshare", "--net", nft, "-c", "-f", "-"], input=text, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
