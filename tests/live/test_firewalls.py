"""Others' firewalls and containers on the bridge: where rules drop what is forwarded there is a door, or an error that mends it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers import end
from networks import Site

FAR = "192.0.2.1"
RECEIVED = "1 packets received"


@pytest.fixture
def guarded(site: Site) -> Iterator[Site]:
    """A site with a way out."""
    site.uplink()
    yield site


def reaches(site: Site, alpine: str, address: str = FAR) -> bool:
    ended = site("run", alpine, "ping", "-c1", "-W2", address)
    assert ended.code in (0, 1), ended
    return RECEIVED in ended.stdout


def iptables(tool: str = "iptables") -> str:
    if not shutil.which(tool, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"):
        pytest.skip(f"no {tool} here")
    return tool


DOCKER = "{0} -P FORWARD DROP && {0} -N DOCKER-USER && {0} -A FORWARD -j DOCKER-USER && {0} -A DOCKER-USER -j RETURN"
UFW = ("{0} -P FORWARD DROP && {0} -P INPUT DROP && {0} -N ufw-before-forward && {0} -A FORWARD -j ufw-before-forward &&"
       "{0} -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT && {0} -N ufw-reject-forward &&"
       "{0} -A FORWARD -j ufw-reject-forward")  # fmt: skip
REJECT = "{0} -A FORWARD -j REJECT --reject-with icmp-host-prohibited"


@pytest.mark.parametrize("tool", ["iptables", "iptables-legacy"])
@pytest.mark.parametrize("rules", [DOCKER, UFW, REJECT], ids=["docker", "ufw", "reject"])
def test_rules_of_iptables_get_a_door(guarded: Site, alpine: str, rules: str, tool: str) -> None:
    guarded.sh(rules.format(iptables(tool)))
    assert reaches(guarded, alpine)
    chain = "DOCKER-USER" if rules == DOCKER else "FORWARD"
    assert guarded.sh(f"{tool} -S {chain}").count("dolium0") == 2
    assert reaches(guarded, alpine)
    assert guarded.sh(f"{tool} -S").count("dolium0") == 2, "once is enough"


def test_rules_that_come_later_get_a_door_too(guarded: Site, alpine: str) -> None:
    assert reaches(guarded, alpine)
    guarded.sh(DOCKER.format(iptables()))
    assert reaches(guarded, alpine)
    guarded.sh("iptables -F DOCKER-USER")
    assert reaches(guarded, alpine)


def test_rules_that_have_gone_are_made_again(guarded: Site, alpine: str) -> None:
    assert reaches(guarded, alpine)
    guarded.sh("nft flush ruleset")
    assert reaches(guarded, alpine)
    guarded.sh("echo 0 >/proc/sys/net/ipv4/ip_forward")
    assert reaches(guarded, alpine)


@pytest.mark.parametrize("rules", [
    "table inet filter { chain forward { type filter hook forward priority 0; policy drop; }; }",
    "table inet mine { chain through { type filter hook forward priority 10; policy accept; ct state established accept; reject; }; }",
    "table ip other { chain last { type filter hook forward priority 5; policy accept; counter drop; }; }"])  # fmt: skip
def test_other_rules_are_an_error_with_the_line_that_mends_it(guarded: Site, alpine: str, rules: str) -> None:
    guarded.sh(f"nft '{rules}'")
    ended = guarded("run", alpine, "true")
    assert ended.code == 125 and "drops what containers send" in ended.stderr.splitlines()[0], ended
    line = ended.stderr.partition("hint: ")[2]
    guarded.sh(line)
    assert reaches(guarded, alpine)


FIREWALLD = """table inet firewalld {
  chain filter_FORWARD { type filter hook forward priority 10; policy accept;
    ct state { established, related } accept
    jump filter_FORWARD_ZONES
    reject with icmpx admin-prohibited
  }
  chain filter_FORWARD_ZONES { }
}"""


def test_firewalld_without_its_command(guarded: Site, alpine: str) -> None:
    if shutil.which("firewall-cmd"):
        pytest.skip("firewalld is installed here")
    guarded.sh(f"nft '{FIREWALLD}'")
    ended = guarded("run", alpine, "true")
    assert ended.code == 125 and "hint: firewall-cmd --zone=trusted --add-interface=dolium0\n" in ended.stderr, ended


def test_firewalld_is_asked(guarded: Site, alpine: str, folder: str) -> None:
    """A firewall-cmd that does to the rules what the real one does."""
    guarded.sh(f"nft '{FIREWALLD}'")
    command = Path(folder, "firewall-cmd")
    command.write_text("#!/bin/sh\n[ \"$*\" = '--zone=trusted --add-interface=dolium0' ] || exit 1\n"
                       "exec nft add rule inet firewalld filter_FORWARD_ZONES iifname dolium0 accept\n")  # fmt: skip
    command.chmod(0o755)
    guarded.environment["PATH"] = f"{folder}:/usr/sbin:{guarded.environment['PATH']}"
    assert reaches(guarded, alpine)


def test_without_nft(site: Site, alpine: str, folder: str) -> None:
    """Covered by an empty file in a mount namespace of its own."""
    places = [each for each in ("/usr/sbin/nft", "/sbin/nft", "/usr/bin/nft", "/usr/local/sbin/nft") if os.path.exists(each)]
    Path(folder, "none").touch(mode=0o644)
    cover = "; ".join(f"mount --bind {folder}/none {os.path.realpath(each)}" for each in places[:1])
    command = site.command
    ended = site("run", alpine, "true", argv=["unshare", "-m", "sh", "-c", f'{cover}; exec "$@"', "sh", *command])
    assert ended.code == 125 and "nft(8)" in ended.stderr and "hint: apt install nftables" in ended.stderr, ended
    assert site.links() == set()


def test_nobody_outside_begins_a_conversation(guarded: Site, alpine: str) -> None:
    guarded.beyond("ip route add 10.66.0.0/16 via 192.0.2.2")
    with guarded.start("run", alpine, "sh", "-c", "ip -4 -o addr show eth0 | grep -o '10[.0-9]*/'; exec sleep 60") as process:
        assert process.stdout
        address = process.stdout.readline().decode().strip("/\n")
        assert "1 received" in guarded.sh(f"ping -c1 -W2 {address}"), "from the host"
        assert "0 received" in guarded.beyond(f"ping -c1 -W1 {address} || true"), "from outside"
        end(process)


def test_the_host_does_not_become_a_router_for_others(guarded: Site, alpine: str) -> None:
    """It forwards for its containers, not for whoever sends it packets; unless it did so before."""
    guarded.sh("ip link add lan type bridge; ip addr add 198.51.100.1/24 dev lan; ip link set lan up")
    seen = "nft 'table ip test { chain out { type filter hook postrouting priority 0; ip saddr 192.0.2.1 oifname lan counter; }; }'"
    guarded.beyond("ip route add 198.51.100.0/24 via 192.0.2.2")
    assert reaches(guarded, alpine)
    guarded.sh(seen)
    assert reaches(guarded, alpine)
    guarded.beyond("ping -c1 -W1 198.51.100.9 || true")
    assert "packets 0" in guarded.sh("nft list table ip test")
    guarded.sh("ip link del dolium0; echo 1 >/proc/sys/net/ipv4/ip_forward")
    assert reaches(guarded, alpine)
    guarded.beyond("ping -c1 -W1 198.51.100.9 || true")
    assert "packets 0" not in guarded.sh("nft list table ip test")
