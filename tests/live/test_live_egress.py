"""Egress policies: a container reaches those who are listed, by name or by address, and nobody else."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator

import pytest
from containers import SHARED, SYSTEM_PYTHON, TESTS, TOP, Dolium, end, keeper, wait_for
from networks import Site
from test_howto import blocks

SERVER = "192.0.2.1"
ZONE = {
    "good.example": [["A", "198.51.100.1", 300]],
    "other.example": [["A", "198.51.100.2", 300]],
    "evil.example": [["A", "198.51.100.3", 300]],
    "www.good.example": [["CNAME", "cdn.example.net", 20]],
    "cdn.example.net": [["A", "198.51.100.4", 300]],
    "a.b.wild.example": [["A", "198.51.100.2", 300]],
    "wild.example": [["A", "198.51.100.2", 300]],
    "rebind.example": [["A", "10.66.0.1", 300], ["A", "127.0.0.1", 300], ["A", "169.254.169.254", 300], ["A", "192.0.2.2", 300]],
    "mixed.example": [["A", "10.66.0.1", 300], ["A", "198.51.100.2", 300]],
    "short.example": [["A", "198.51.100.2", 0]],
    "cut.example": [["A", "198.51.100.2", 300]],
    "silent.example": [["A", "198.51.100.2", 300]],
    "forged.example": [["A", "198.51.100.2", 300]],
    "many.example": [["A", f"198.51.100.{last}", 300] for last in range(1, 40)],
    "pypi.org": [["A", "198.51.100.1", 300]],
    "loop.example": [["CNAME", "loop.example", 300]],
}
SERVE = """import socket, threading
def serve(address):
    desk = socket.socket(); desk.setsockopt(1, 2, 1); desk.bind(address); desk.listen(16)
    while True:
        line, _ = desk.accept(); line.sendall(("from %s %d\\n" % address).encode()); line.close()
for last in (1, 2, 3, 4):
    for port in (80, 81, 443):
        threading.Thread(target=serve, args=(("198.51.100.%d" % last, port),)).start()
print("ready", flush=True)
"""


class Beyond(Site):
    """A site whose way out leads to a name server at 192.0.2.1 and servers at 198.51.100.1 to .4, ports 80, 81 and 443."""

    def __init__(self) -> None:
        super().__init__()
        self.servers: list[subprocess.Popen[str]] = []
        self.uplink()
        self.beyond("for each in 1 2 3 4; do ip addr add 198.51.100.$each/32 dev lo; done")
        self._serve(f"{TESTS}/nameserver.py", SERVER, json.dumps(ZONE))
        self._serve("-c", SERVE)

    def _serve(self, *words: str) -> None:
        enter = ["nsenter", f"--net=/proc/{self.router.pid}/ns/net", SYSTEM_PYTHON, *words]
        self.servers.append(subprocess.Popen(enter, stdout=subprocess.PIPE, text=True))
        output = self.servers[-1].stdout
        assert output and output.readline() == "ready\n"

    def questions(self) -> list[str]:
        """The names that the server has been asked for; it ends with that."""
        self.servers[0].kill()
        output = self.servers[0].stdout
        assert output
        return [line.split()[0] for line in output.read().splitlines()]

    def close(self) -> None:
        for each in self.servers:
            each.kill()
            each.wait()
            assert each.stdout
            each.stdout.close()
        super().close()

    def allowed(self, rules: str, image: str, line: str, *more: str) -> str:
        """What a shell's line prints in a container with that policy; each of its commands may fail."""
        return self.run("--dns", SERVER, "--network", f"allow={rules}", *more, image, "sh", "-c", line)


@pytest.fixture
def beyond(root: None) -> Iterator[Beyond]:
    found = Beyond()
    yield found
    found.close()


def call(*places: str) -> str:
    """A line that says for each HOST PORT what is heard there."""
    return "; ".join(f"echo {each}: $(nc -w 3 {each} </dev/null 2>&1 || echo refused)" for each in places)


def test_a_listed_name_and_nobody_else(beyond: Beyond, alpine: str) -> None:
    places = ("good.example 443", "good.example 80", "evil.example 443", "198.51.100.3 443", "192.0.2.1 53", "10.66.0.1 22")
    text = beyond.allowed("good.example:443", alpine, call(*places))
    assert "good.example 443: from 198.51.100.1 443\n" in text
    for each in places[1:]:
        line = next(line for line in text.splitlines() if line.startswith(each))
        assert line.endswith("refused") and "from" not in line, text
    assert {*beyond.questions()} == {"good.example"}, "a name that is not allowed is asked of nobody"


def test_refused_at_once(beyond: Beyond, alpine: str) -> None:
    code = ("import socket, time; began = time.time()\n"
            "for place in (('198.51.100.3', 443), ('10.66.0.1', 22)):\n"
            "    try: socket.create_connection(place, 5)\n    except OSError as error: print(error.errno)\n"
            "udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); udp.connect(('198.51.100.3', 53)); udp.settimeout(5)\n"
            "try: udp.send(b'x'); udp.recv(1)\nexcept OSError as error: print(error.errno)\n"
            "print(time.time() - began < 1)")  # fmt: skip
    text = beyond.run("--dns", SERVER, "--network", "allow=good.example:443", "@host", SYSTEM_PYTHON, "-c", code)
    assert text.splitlines()[:2] == ["111", "111"] and text.endswith("True\n"), text


def test_ports_and_subnets(beyond: Beyond, alpine: str) -> None:
    places = ("198.51.100.1 80", "198.51.100.1 81", "198.51.100.1 443", "198.51.100.2 81", "198.51.100.4 443")
    text = beyond.allowed("198.51.100.0/31:80-81,198.51.100.2:*", alpine, call(*places, "198.51.100.2 443"))
    heard = [line.rpartition(": ")[2].split()[0] for line in text.splitlines()]
    assert heard == ["from", "from", "refused", "from", "refused", "from"], text


def test_a_wide_subnet_does_not_mean_this_host(beyond: Beyond, alpine: str) -> None:
    code = "import socket; d = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); d.connect(('10.66.0.1', 9)); d.send(b'x')"
    for rules, refused in (("0.0.0.0/0:*", True), ("10.66.0.1:9", False), ("10.66.0.0/16:*,0.0.0.0/0:*", False)):
        ended = beyond("run", "--network", f"allow={rules}", "@host", SYSTEM_PYTHON, "-c", code)
        assert ("Operation not permitted" in ended.stderr) == refused, ended


def test_names_below_a_name(beyond: Beyond, alpine: str) -> None:
    text = beyond.allowed("*.wild.example:80", alpine, call("a.b.wild.example 80", "wild.example 80"))
    assert "a.b.wild.example 80: from 198.51.100.2 80\n" in text and re.search("\nwild.example 80: .*refused", text)


def test_case_and_a_dot_at_the_end(beyond: Beyond, alpine: str) -> None:
    text = beyond.allowed("Good.Example.:443", alpine, call("GOOD.example 443", "good.EXAMPLE. 443", "evil.example. 443"))
    assert text.count("from 198.51.100.1 443\n") == 2 and text.count("refused") == 1


def test_a_chain_of_names(beyond: Beyond, alpine: str) -> None:
    """An alias leads where its owner says; that the target is not listed changes nothing, nor does listing the target allow the alias."""
    assert "from 198.51.100.4 80\n" in beyond.allowed("www.good.example:80", alpine, call("www.good.example 80"))
    text = beyond.allowed("cdn.example.net:80", alpine, call("www.good.example 80", "cdn.example.net 80"))
    assert "from 198.51.100.4 80\n" in text and text.count("refused") == 1
    assert "refused" in beyond.allowed("loop.example:80", alpine, call("loop.example 80"))


def test_a_name_leads_to_nobody_near(beyond: Beyond, alpine: str) -> None:
    """DNS rebinding, also to this host's own addresses beyond; a subnet that is listed is another matter."""
    beyond.sh("ip route add local 198.51.100.4 dev lo")
    look = "nslookup -type=a rebind.example; nslookup -type=a mixed.example; nslookup -type=a cdn.example.net"
    text = beyond.allowed("rebind.example:80,mixed.example:80,cdn.example.net:80", alpine, look)
    assert re.findall(r"Address: (\S+)\n", text) == ["198.51.100.2"], text
    text = beyond.allowed("rebind.example:80,10.66.0.0/16:81", alpine, "nslookup -type=a rebind.example; " + call("10.66.0.1 80"))
    assert re.findall(r"Address: (\S+)\n", text) == ["10.66.0.1"] and "refused" in text


def test_other_name_servers_are_out_of_reach(beyond: Beyond, alpine: str) -> None:
    for port in ("good.example:53", "good.example:*"):
        text = beyond.allowed(port, alpine, f"nslookup evil.example {SERVER} 2>&1; echo; nslookup evil.example 2>&1; true")
        assert "198.51.100.3" not in text and "NXDOMAIN" in text
    assert "evil.example" not in beyond.questions()


def test_names_over_tcp(beyond: Beyond) -> None:
    """From the container, several on one line; and from the server, where its datagram is cut short."""
    code = ("import socket, struct\n"
            "def query(name, number): return struct.pack('>HHHHHH', number, 256, 1, 0, 0, 0) + b''.join(bytes([len(x)]) + x.encode() for x in name.split('.')) + b'\\0\\0\\1\\0\\1'\n"
            "line = socket.create_connection(('127.0.0.11', 53), 5); sent = b''\n"
            "for number, name in enumerate(('good.example', 'evil.example', 'cut.example')): sent += len(query(name, 0)).to_bytes(2, 'big') + query(name, number)\n"
            "line.sendall(sent); file = line.makefile('rb'); found = {}\n"
            "for _ in range(3):\n    data = file.read(int.from_bytes(file.read(2), 'big')); found[data[1]] = (data[3] & 15, data[7])\n"
            "print(sorted(found.items())); print(socket.gethostbyname('cut.example'))")  # fmt: skip
    text = beyond.run("--dns", SERVER, "--network", "allow=good.example:80,cut.example:80", "@host", SYSTEM_PYTHON, "-c", code)
    assert text == "[(0, (0, 1)), (1, (3, 0)), (2, (0, 1))]\n198.51.100.2\n"


def test_a_silent_server_and_a_forged_answer(beyond: Beyond, alpine: str) -> None:
    ended = beyond.allowed("silent.example:80,forged.example:80", alpine, "nslookup -type=a forged.example; " + call("forged.example 80"),
                           "--dns", "192.0.2.77")  # fmt: skip
    assert "203.0.113" not in ended and "from 198.51.100.2 80" in ended


def test_the_next_server_is_asked(beyond: Beyond, alpine: str) -> None:
    """192.0.2.77 is nobody."""
    text = beyond.run("--dns", "192.0.2.77", "--dns", SERVER, "--network", "allow=good.example:80", alpine, "sh", "-c", call("good.example 80"))
    assert "from 198.51.100.1 80" in text


def test_an_address_is_allowed_for_a_time(beyond: Beyond, alpine: str) -> None:
    with beyond.start("run", "--dns", SERVER, "--network", "allow=good.example:80,short.example:81,many.example:443", alpine, "sh", "-c",
                      f"{call('good.example 80', 'short.example 81', 'many.example 443')}; sleep 60") as process:  # fmt: skip
        assert process.stdout
        for _ in range(3):
            process.stdout.readline()
        inner = wait_for(lambda: subprocess.run(["pgrep", "-P", str(keeper(process))], capture_output=True, text=True).stdout.split())[0]
        rules = subprocess.run(["nsenter", "-t", inner, "-n", "nft", "-j", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
        sets = {each["set"]["name"]: each["set"].get("elem", []) for each in json.loads(rules)["nftables"] if "set" in each}
        assert [each["elem"]["val"] for each in sets["names0"]] == ["198.51.100.1"]
        assert 355 <= sets["names0"][0]["elem"]["expires"] <= 360 == sets["names0"][0]["elem"]["timeout"]
        assert [(each["elem"]["val"], each["elem"]["timeout"]) for each in sets["names1"]] == [("198.51.100.2", 65)]
        assert len(sets["names2"]) == 14, "as many as an answer tells"
        end(process)


def test_asked_again_it_is_allowed_for_longer(beyond: Beyond, alpine: str) -> None:
    with beyond.start("run", "--dns", SERVER, "--network", "allow=short.example:80", alpine, "sh", "-c",
                      "nslookup -type=a short.example >/dev/null; sleep 2; nslookup -type=a short.example >/dev/null; echo; sleep 60") as process:  # fmt: skip
        assert process.stdout
        process.stdout.readline()
        inner = wait_for(lambda: subprocess.run(["pgrep", "-P", str(keeper(process))], capture_output=True, text=True).stdout.split())[0]
        rules = subprocess.run(["nsenter", "-t", inner, "-n", "nft", "-j", "list", "set", "inet", "dolium", "names0"], capture_output=True, text=True, check=True).stdout
        found = json.loads(rules)["nftables"][1]["set"]["elem"][0]["elem"]
        assert found["timeout"] == 65 and found["expires"] >= 64
        end(process)


def test_nobody_calls_the_container(beyond: Beyond, alpine: str) -> None:
    serve = "ip -4 -o addr show eth0 | grep -o '10[.0-9]*/' ; nc -l -p 80 -e echo secret"
    with beyond.start("run", "--network", "allow=good.example:80", alpine, "sh", "-c", serve) as process:
        assert process.stdout
        address = process.stdout.readline().decode().strip("/\n")
        assert "secret" not in beyond.sh(f"nc -w 1 {address} 80 </dev/null", check=False)
        assert "secret" not in beyond("run", "--network", "bridge", alpine, "nc", "-w", "1", address, "80").stdout
        end(process)


def test_no_capability_reaches_the_rules(beyond: Beyond, alpine: str) -> None:
    for name in ("ALL", "NET_ADMIN", "NET_RAW", "SYS_ADMIN"):
        assert "nobody in the container may rule its network" in beyond.refused("--network", "allow=a.example:80", "--cap-add", name, alpine, "true")
    look = "grep CapBnd /proc/self/status; ip link set eth0 down; ip route del default; ip link set lo down; ip addr add 10.66.9.9/16 dev eth0"
    for users in ("auto", "host"):
        text = beyond.run("--userns", users, "--network", "allow=192.0.2.1:1", alpine, "sh", "-c", f"({look}; ping -c1 192.0.2.1) 2>&1; true")
        bound = re.search(r"CapBnd:\s+(\w+)", text)
        assert bound and not int(bound[1], 16) >> 13 & 1, "CAP_NET_RAW"
        assert text.count("Operation not permitted") == 4 and "ermission denied" in text, text


@pytest.mark.parametrize("users", ["auto", "host"])
def test_raw_sockets_and_disguised_addresses(beyond: Beyond, users: str) -> None:
    code = ("import socket\n"
            "for what in ((socket.AF_PACKET, socket.SOCK_RAW, 3), (socket.AF_INET, socket.SOCK_RAW, 255), (socket.AF_NETLINK, socket.SOCK_RAW, 12)):\n"
            "    try: print(what[0], socket.socket(*what).fileno() > 0)\n    except OSError as error: print(what[0], error.errno)\n"
            "for place in ('::ffff:198.51.100.3', '::ffff:198.51.100.1', '2001:db8::1'):\n"
            "    try: print(socket.create_connection((place, 80), 3).recv(99))\n    except OSError as error: print(error.errno)\n")  # fmt: skip
    text = beyond.run("--userns", users, "--network", "allow=198.51.100.1:80", "@host", SYSTEM_PYTHON, "-c", code)
    lines = text.splitlines()
    assert lines[0] == "17 1" and lines[1] == "2 1", text
    assert lines[3:] == ["111", "b'from 198.51.100.1 80\\n'", "101"], text


def test_it_lasts_as_long_as_the_container(beyond: Beyond, alpine: str) -> None:
    with beyond.start("run", "--network", "allow=good.example:80", alpine, "sh", "-c", "echo; sleep 60") as process:
        assert process.stdout
        process.stdout.readline()
        for pid in (process.pid, keeper(process)):
            os.kill(pid, signal.SIGKILL)
        process.communicate()
    wait_for(lambda: beyond.links() == {"dolium0", "out"})
    beyond.run(alpine, "true")  # which removes what the dead have left


def test_not_for_whom_nobody_waits(beyond: Beyond, alpine: str) -> None:
    assert "detached container" in beyond.refused("-d", "--network", "allow=good.example:80", alpine, "true")


def test_what_is_said(beyond: Beyond, alpine: str) -> None:
    ended = beyond("run", "--dns", SERVER, "--network", "allow=[2001:db8::1]:443", alpine, "true")
    assert ended.code == 0 and "the bridge has no IPv6: [2001:db8::1]:443 cannot be reached" in ended.stderr
    assert "the port is missing in `pypi.org`" in beyond.refused("--network", "allow=pypi.org", alpine, "true")
    text = beyond("explain", "--network", "allow=good.example:80", "--dns", SERVER, alpine, "true").stdout
    for each in ("good.example:80", "nft: 1 rule, else refused", "resolver at 127.0.0.11"):
        assert each in text
    assert beyond.links() >= {"out"}


def test_without_nft_nothing_runs(beyond: Beyond, alpine: str) -> None:
    beyond.run("--network", "bridge", alpine, "true")  # what is ready asks for no nft any more
    ended = beyond("run", "--network", "allow=good.example:80", alpine, "true",
                   argv=["unshare", "--mount", "sh", "-c", "for each in $(which -a nft) /usr/sbin/nft; do mount --bind /dev/null $each; done; exec \"$@\"", "-", *beyond.command])  # fmt: skip
    assert ended.code == 125 and "there is no nft(8)" in ended.stderr, ended
    wait_for(lambda: beyond.links() == {"dolium0", "out"})


def test_a_plain_user_has_none(plain: Dolium, own_alpine: str) -> None:
    assert "run dolium as root" in plain.refused("--network", "allow=good.example:80", own_alpine, "true")


def test_a_flood_of_questions(beyond: Beyond) -> None:
    """It is slowed down, and still answers afterwards; what is malformed gets no further."""
    code = ("import os, socket, time\ndoor = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); door.connect(('127.0.0.11', 53))\n"
            "for _ in range(20000):\n    door.send(os.urandom(40))\n"
            "lines = [socket.create_connection(('127.0.0.11', 53)) for _ in range(40)]\n"
            "time.sleep(1.5); print(socket.gethostbyname('good.example'))")  # fmt: skip
    text = beyond.run("--dns", SERVER, "--network", "allow=good.example:80", "@host", SYSTEM_PYTHON, "-c", code)
    assert text == "198.51.100.1\n"
    assert {*beyond.questions()} <= {"good.example"}


def test_the_page(beyond: Beyond, folder: str) -> None:
    """docs/howto/egress.md, where pypi.org is one of our servers."""
    hosts = f"{folder}/resolv.conf"
    with open(hosts, "w") as file:
        file.write(f"nameserver {SERVER}\n")
    enter = ["unshare", "--mount", "sh", "-c", f"mount --bind {hosts} /etc/resolv.conf; export PATH={TOP}/bin:$PATH; exec sh -c \"$1\"", "-"]
    steps = blocks("egress.md")
    assert len(steps) > 5
    beyond.run("@host", "true")  # the bridge is there, which is said once
    for command, wanted in steps:
        done = subprocess.run([*beyond.enter, *enter, command], capture_output=True, text=True, timeout=60, env=beyond.environment)
        said = "".join(f"{line}\n" for line in (done.stdout + done.stderr).splitlines() if line.strip() and not line.startswith(SHARED))
        assert said == wanted, command
    assert {*beyond.questions()} == {"pypi.org"}

def test_every_other_way_to_say_something(beyond: Beyond) -> None:
    """With one port of one host allowed: other ports and protocols of that very host, echoes, groups, everybody at once, and a name for none."""
    code = ("import socket\n"
            "def tell(what, *place, option=None):\n"
            "    try:\n"
            "        with socket.socket(*what) as made:\n"
            "            made.settimeout(3)\n"
            "            if option: made.setsockopt(*option)\n"
            "            made.connect(place)\n"
            "            if what[1] == socket.SOCK_DGRAM: made.send(b'\\x08\\0\\xf7\\xff\\0\\0\\0\\0'); made.send(b'x')\n"
            "            print(repr(made.recv(99)))\n"
            "    except OSError as error: print(type(error).__name__, error.errno)\n"
            "udp, tcp = (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_INET, socket.SOCK_STREAM)\n"
            "tell(udp, '198.51.100.1', 53); tell(tcp, '198.51.100.1', 81)\n"
            "tell((socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP), '198.51.100.1', 0)\n"
            "tell((socket.AF_INET, socket.SOCK_DGRAM, 136), '198.51.100.1', 80); tell((socket.AF_INET, socket.SOCK_STREAM, 132), '198.51.100.1', 80)\n"
            "tell(udp, '224.0.0.251', 5353); tell(udp, '255.255.255.255', 80, option=(socket.SOL_SOCKET, socket.SO_BROADCAST, 1))\n"
            "tell(udp, '10.66.255.255', 80, option=(socket.SOL_SOCKET, socket.SO_BROADCAST, 1))\n"
            "tell((socket.AF_INET6, socket.SOCK_DGRAM), 'fe80::1%eth0', 53); tell((socket.AF_INET6, socket.SOCK_DGRAM), 'ff02::1%eth0', 53)\n"
            "tell((40, socket.SOCK_STREAM), 2, 1024); tell((socket.AF_BLUETOOTH, socket.SOCK_RAW, 1), 0)\n"
            "tell(tcp, '198.51.100.1', 80)")  # fmt: skip
    text = beyond.run("--network", "allow=198.51.100.1:80", "@host", SYSTEM_PYTHON, "-c", code)
    said = text.splitlines()
    assert len(said) == 13 and said[-1].startswith("b'from 198.51.100.1 80"), text
    assert all(re.match(r"\w*Error \d+", each) for each in said[:-1]), text  # none was heard, none waited until its time was over
