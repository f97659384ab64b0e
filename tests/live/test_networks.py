"""Containers on the bridge: they reach each other, the host and what is beyond, and nothing of it outlives them."""

from __future__ import annotations

import os
import re
import shutil
import signal

import pytest
from containers import SYSTEM_PYTHON, TOP, Dolium, end, keeper, wait_for
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


def test_another_containers_network(site: Site, alpine: str) -> None:
    """Addresses, devices and ports of the other, from a container with users of its own."""
    serve = "ip -4 -o addr show eth0 | grep -o '10[.0-9]*/' ; exec nc -l -p 80 -e echo from the other"
    with site.start("run", "--name", "shared-network", alpine, "sh", "-c", serve) as other:
        assert other.stdout
        address = other.stdout.readline().decode().strip("/\n")
        look = "ip -4 -o addr show eth0; ls /sys/class/net; touch /sys/x 2>&1; cat /etc/resolv.conf"
        text = site.run("--network", "container:shared-network", alpine, "sh", "-c", look)
        assert f"inet {address}/16" in text and "Read-only file system" in text and "# no network" not in text
        assert "eth0\nlo\n" in text.replace("ifb0\nifb1\n", "")
        read = wait_for(lambda: site("run", "--network", "container:shared-network", alpine, "nc", "-w", "2", "127.0.0.1", "80").stdout)
        assert read == "from the other\n"
        other.communicate()
    wait_for(lambda: site.links() == {"dolium0"})
    ended = site("run", "--network", "container:shared-network", alpine, "true")
    assert ended.code == 125 and "no container `shared-network`" in ended.stderr


def test_a_low_port_of_the_other_can_be_served(site: Site, alpine: str) -> None:
    with site.start("run", "--name", "shared-ports", alpine, "sh", "-c", "echo; exec sleep 60") as other:
        assert other.stdout
        other.stdout.readline()
        words = ("--network", "container:shared-ports", alpine, "sh", "-c", "nc -l -p 80 -e echo served & sleep 0.2; nc -w 2 127.0.0.1 80")
        assert site.run(*words) == "served\n"
        end(other)


def test_a_network_out_of_a_file(site: Site, alpine: str) -> None:
    site.sh("ip link add outer type bridge")
    assert "outer" in site.run("--network", f"ns:{site.path}", alpine, "ls", "/sys/class/net")
    assert site.links() == {"outer"}, "no bridge is made for it"
    refused = site("run", "--network", f"ns:{alpine}/etc/passwd", alpine, "true")
    assert refused.code == 125 and "no network namespace" in refused.stderr
    assert "No such file" in site("run", "--network", "ns:/none", alpine, "true").stderr


def test_pools_avoid_the_hosts_subnets(site: Site, alpine: str) -> None:
    site.sh("ip addr add 10.66.7.1/30 dev lo; ip link add outer type bridge; ip link set outer up; ip route add 10.67.0.0/20 dev outer")
    assert "inet 10.68." in site.run(alpine, "ip", "-4", "addr", "show", "eth0")
    site.sh("ip link del dolium0; ip route add 10.0.0.0/8 dev outer")
    assert "inet 172.16." in site.run(alpine, "ip", "-4", "addr", "show", "eth0")
    site.sh("ip link del dolium0; ip route add 172.16.0.0/12 dev outer; ip route add 192.168.0.0/16 dev outer")
    ended = site("run", alpine, "true")
    assert ended.code == 125 and "no room for containers' addresses" in ended.stderr
    assert site.links() == {"outer"}


def test_the_way_outs_packet_size_is_the_containers(site: Site, alpine: str) -> None:
    site.uplink()
    site.sh("ip link set out mtu 1400")
    assert site.run(alpine, "cat", "/sys/class/net/eth0/mtu") == "1400\n"


def test_somebody_elses_device_of_that_name(site: Site, alpine: str) -> None:
    site.sh("ip link add dolium0 type veth peer name outer")
    ended = site("run", alpine, "true")
    assert ended.code == 125 and "network device `dolium0` exists already" in ended.stderr
    assert "outer" in site.links()


@pytest.mark.parametrize("after", [1, 2, 3, 4, 5, 6, 7, 8, 9, 10])
def test_a_kill_while_the_bridge_is_made(site: Site, alpine: str, after: int) -> None:
    """At any of the messages to the kernel; the next start completes it."""
    strace = shutil.which("strace")
    if not strace:
        pytest.skip("no strace")
    inject = f"inject=sendto:signal=KILL:when={after}"
    argv = [strace, "-qq", "-o", "/dev/null", "-e", "trace=sendto", "-e", inject, *site.command]
    site("run", alpine, "true", argv=argv)
    ended = site("run", alpine, "ping", "-c1", "-W2", "10.66.0.1")
    assert "1 packets received" in ended.stdout, ended
    alias = re.search(r"alias (dolium .*)", site.sh("ip link show dolium0"))
    assert alias and "forwarding=0" in alias[1] and "rules=" in alias[1]
    wait_for(lambda: site.links() == {"dolium0"})


def test_many_at_once(site: Site, alpine: str) -> None:
    """The first of a boot, all at the same moment: one bridge, an address each."""
    started = [site.start("run", alpine, "sh", "-c", "ip -4 -o addr show eth0; ping -c1 -W2 10.66.0.1") for _ in range(8)]
    texts = [each.communicate()[0].decode() for each in started]
    assert [each.returncode for each in started] == [0] * 8
    assert len({text.split()[3] for text in texts}) == 8
    assert site.sh("nft list ruleset").count("masquerade") == 1


def test_names_and_resolvers(site: Site, alpine: str) -> None:
    flags = ("--add-host", "db:192.0.2.7", "--add-host", "me:host-gateway", "--dns", "192.0.2.53", "--dns-search", "example",
             "--dns-option", "ndots:2")  # fmt: skip
    text = site.run(*flags, alpine, "sh", "-c", "cat /etc/hosts /etc/resolv.conf; ping -c1 -W2 me")
    for line in ("192.0.2.7 db", "10.66.0.1 me", "nameserver 192.0.2.53", "search example", "options ndots:2"):
        assert f"{line}\n" in text
    assert text.count("nameserver") == 1 and "1 packets received" in text
    assert "use --network bridge" in site.refused("--network", "none", "--add-host", "me:host-gateway", alpine, "true")


def test_a_plain_user_has_no_bridge(plain: Dolium, own_alpine: str) -> None:
    plain.network = ""
    assert "eth0" not in plain.output(own_alpine, "ip", "addr")
    for word in ("bridge", "ns:/proc/self/ns/net"):
        assert "run dolium as root" in plain.refused("--network", word, own_alpine, "true")


def test_the_library_can_have_it(site: Site, alpine: str) -> None:
    code = (f"import sys; sys.path.insert(0, {f'{TOP}/src'!r}); import dolium; "
            f"print([dolium.run(['ping', '-c1', '-W2', '10.66.0.1'], image={alpine!r}, network='bridge').exit_code for _ in range(3)], "
            f"dolium.run(['ip', '-o', 'link'], image={alpine!r}, text=True).stdout.count('eth0'))")  # fmt: skip
    assert site.sh(f'{SYSTEM_PYTHON} -IS -c "{code}"') == "[0, 0, 0] 0\n"


def test_a_reset_leaves_nothing(lonely: Site, alpine: str) -> None:
    """And lists it before; without `--force` it touches nothing while a container runs."""
    lonely.sh("iptables -P FORWARD DROP")
    run = ("run", "--pids-limit", "-1")
    assert lonely(*run, alpine, "true").code == 0
    running = lonely(*run, "-d", alpine, "sleep", "100").stdout.strip()
    listed = lonely("system", "reset", "--dry-run").stdout
    for what in (f"container {running}", "(it runs)", "-D FORWARD -i dolium0", "nft table ip dolium", "ip_forward = 1, which was 0",
                 "device dolium0", "directory /run/dolium", "directory /var/lib/dolium"):  # fmt: skip
        assert what in listed
    refused = lonely("system", "reset")
    assert refused.code == 125 and running in refused.stderr and "--force" in refused.stderr and refused.stdout == ""
    assert lonely("system", "reset", "--dry-run").stdout == listed, "nothing has changed"
    ended = lonely("system", "reset", "--force")
    assert (ended.code, ended.stderr) == (0, "") and ended.stdout == listed.replace("would remove", "removed").replace(" (it runs)", "")
    assert lonely("system", "reset", "--dry-run").stdout == ""
    assert lonely.sh("cat /proc/sys/net/ipv4/ip_forward; ls -d /run/dolium /var/lib/dolium", check=False) == "0\n"
    assert lonely.links() == set() and "dolium" not in lonely.sh("nft list ruleset; iptables -S")


def test_a_reset_leaves_forwarding_to_whoever_set_it(lonely: Site, alpine: str) -> None:
    lonely.sh("echo 1 >/proc/sys/net/ipv4/ip_forward")
    assert FORWARDING not in lonely("run", "--pids-limit", "-1", alpine, "true").stderr
    assert "ip_forward" not in lonely("system", "reset").stdout
    assert lonely.sh("cat /proc/sys/net/ipv4/ip_forward") == "1\n"
