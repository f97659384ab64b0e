"""Containers on the bridge: they reach each other, the host and what is beyond, and nothing of it outlives them."""

from __future__ import annotations

import os
import re
import signal

from containers import end, keeper, wait_for
from networks import Site

ALONE = "this host has no route out"
FORWARDING = "net.ipv4.ip_forward was 0 and is 1 now"


def test_the_first_packet_arrives(site: Site, alpine: str) -> None:
    """From the first instruction on: nothing is lost while a new port learns that it has a cable."""
    for _ in range(10):
        assert "1 packets received" in site.run(alpine, "ping", "-c1", "-W1", "10.66.0.1")


def test_an_address_and_a_route(site: Site, alpine: str) -> None:
    text = site.run("--hostname", "amphora", alpine, "sh", "-c", "ip -4 -o addr show eth0; ip route; cat /etc/hosts; cat /sys/class/net/eth0/mtu")
    address = re.search(r"inet (10\.66\.\d+\.\d+)/16", text)
    assert address and "default via 10.66.0.1 dev eth0" in text
    assert f"{address[1]} amphora\n" in text and text.endswith("1500\n")


def test_no_ipv6_is_asked_for(site: Site, alpine: str) -> None:
    assert "inet6" not in site.run(alpine, "ip", "addr", "show", "eth0")


def test_two_containers_and_the_host_reach_each_other(site: Site, alpine: str) -> None:
    serve = "ip -4 -o addr show eth0 | grep -o '10[.0-9]*/' ; exec nc -l -p 80 -e echo from the first"
    with site.start("run", alpine, "sh", "-c", serve) as first:
        assert first.stdout
        address = first.stdout.readline().decode().strip("/\n")
        text = wait_for(lambda: site("run", alpine, "nc", "-w", "2", address, "80").stdout)
        assert text == "from the first\n"
        first.communicate()
    with site.start("run", alpine, "sh", "-c", "ip -4 -o addr show eth0 | grep -o '10[.0-9]*/'; sleep 60") as second:
        assert second.stdout
        address = second.stdout.readline().decode().strip("/\n")
        assert "1 received" in site.sh(f"ping -c1 -W2 {address}")
        end(second)


def test_a_host_without_a_route_out_says_so(site: Site, alpine: str) -> None:
    first, second = site("run", alpine, "true"), site("run", alpine, "true")
    assert (first.code, second.code) == (0, 0)
    assert FORWARDING in first.stderr and FORWARDING not in second.stderr
    assert ALONE in first.stderr and ALONE in second.stderr


def test_beyond_the_host_by_the_hosts_address(site: Site, alpine: str) -> None:
    site.uplink()
    ended = site("run", alpine, "ping", "-c1", "-W2", "192.0.2.1")
    assert "1 packets received" in ended.stdout, ended
    assert ALONE not in ended.stderr
    assert "dolium" in site.sh("nft list tables")


def test_the_cable_goes_with_the_container(site: Site, alpine: str) -> None:
    with site.start("run", alpine, "sh", "-c", "echo; sleep 60") as process:
        assert process.stdout
        process.stdout.readline()
        assert len(site.links()) == 2
        end(process)
    wait_for(lambda: site.links() == {"dolium0"})


def test_the_cable_goes_after_a_kill_of_everything(site: Site, alpine: str) -> None:
    with site.start("run", alpine, "sh", "-c", "echo; sleep 60") as process:
        assert process.stdout
        process.stdout.readline()
        watcher = keeper(process)
        for pid in (process.pid, watcher):
            os.kill(pid, signal.SIGKILL)
        process.communicate()
    wait_for(lambda: site.links() == {"dolium0"})
    assert site("run", alpine, "true").code == 0
