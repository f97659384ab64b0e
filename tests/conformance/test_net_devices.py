"""linux.netDevices: runtime-spec, config-linux.md "Network Devices"; each test is named after its rule.  The host is a network
namespace of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
from bundles import Bundle, Verb, config, script, wait_for
from containers import program
from networks import Site


def run(site: Site, bundle: Bundle, spec: Any) -> Verb:
    bundle.write(spec)
    ended = subprocess.run([*site.enter, bundle.runtime, "--root", bundle.root, "run", "-b", bundle.directory, bundle.id], capture_output=True,
                           text=True, env=bundle.environment, check=False)
    return Verb(ended.returncode, ended.stdout, ended.stderr)


def cable(site: Site, name: str = "one") -> None:
    site.sh(f"ip link add {name} mtu 1400 address 02:00:00:00:00:17 type veth peer name {name}-far && ip link set {name} up && ip link set {name}-far up")


def links(text: str) -> dict[str, str]:
    """Of `ip -o link`: name -> its line."""
    return {line.split(": ")[1].partition("@")[0]: line for line in text.splitlines()}


@pytest.mark.parametrize(("about", "name"), [({}, "one"), ({"name": "eth7"}, "eth7"), ({"name": "net%d"}, "net0")])
def test_a_device_is_moved(site: Site, bundle: Bundle, about: dict[str, str], name: str) -> None:
    """It is there under its name, up, as it was, and the host has it no longer."""
    cable(site)
    ended = run(site, bundle, script("ip -o link", linux__netDevices={"one": about}))
    assert ended.code == 0, ended
    line = links(ended.out)[name]
    assert "mtu 1400" in line and "02:00:00:00:00:17" in line and "UP" in line
    assert "one" not in links(site.sh("ip -o link")), "it has ended with the namespace and is not moved back"


def test_permanent_global_addresses_are_kept(site: Site, bundle: Bundle) -> None:
    cable(site)
    site.sh("ip addr add 192.0.2.7/24 brd + dev one; ip addr add 192.0.2.8/32 dev one; ip addr add 2001:db8::7/64 nodad dev one;"
            "ip addr add 192.0.2.9/24 dev one valid_lft 1000 preferred_lft 1000; ip addr add 169.254.1.1/16 scope link dev one")
    ended = run(site, bundle, script("ip -o addr show dev eth7", linux__netDevices={"one": {"name": "eth7"}}))
    found = {line.split()[3]: line for line in ended.out.splitlines()}
    assert {each for each in found if not each.startswith("fe80")} == {"192.0.2.7/24", "192.0.2.8/32", "2001:db8::7/64"}, ended
    assert "brd 192.0.2.255" in found["192.0.2.7/24"] and "scope global" in found["2001:db8::7/64"]


def test_the_container_can_use_it(site: Site, bundle: Bundle) -> None:
    cable(site)
    site.sh("ip addr add 192.0.2.7/24 dev one; ip addr add 192.0.2.1/24 dev one-far")
    spec = script("ping -c1 -W5 192.0.2.1 >/dev/null && echo reached", linux__netDevices={"one": {}})
    for each in ("bounding", "effective", "permitted"):
        spec["process"]["capabilities"][each].append("CAP_NET_RAW")
    assert run(site, bundle, spec).out == "reached\n"


def test_an_index_that_is_taken_is_changed(site: Site, bundle: Bundle) -> None:
    """Of a namespace that is another's, where the device's number is somebody else's."""
    cable(site)
    index = site.sh("ip -o link show one").partition(":")[0]
    with subprocess.Popen(["unshare", "-n", "sleep", "1000"]) as holder:
        try:
            wait_for(lambda: program(holder.pid) == "sleep")  # before that it is in ours
            enter = ["nsenter", f"--net=/proc/{holder.pid}/ns/net"]
            subprocess.run([*enter, "ip", "link", "add", "taken", "index", index, "type", "veth", "peer", "name", "far"], check=True)
            spaces = [{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": f"/proc/{holder.pid}/ns/net"}]
            ended = run(site, bundle, script("ip -o link", linux__namespaces=spaces, linux__netDevices={"one": {"name": "net%d"}}))
            assert {"lo", "taken", "far", "net0"} <= {*links(ended.out)}, ended
            again = run(site, bundle, script("ip -o link", linux__namespaces=spaces, linux__netDevices={"one-far": {"name": "net0"}}))
            assert again.code == 1 and "linux.netDevices.one-far: the container's network has a device `net0` already" in again.err
            assert "one-far" in links(site.sh("ip -o link"))
        finally:
            holder.kill()


ADDRESSES = "192.0.2.7/24", "2001:db8::7/64"


@pytest.mark.parametrize("joined", [False, True], ids=["own", "joined"])
@pytest.mark.parametrize("up", ["up", "down"])
@pytest.mark.parametrize("way", ["program", "hook"])
def test_it_is_the_hosts_again_where_create_fails_later(site: Site, bundle: Bundle, joined: bool, up: str, way: str) -> None:
    """Under its name and number, with its addresses, and up where it was."""
    cable(site)
    site.sh(f"ip addr add {ADDRESSES[0]} dev one; ip addr add {ADDRESSES[1]} nodad dev one; ip link set one {up}")
    before = links(site.sh("ip -o link"))["one"]
    spec = config(linux__netDevices={"one": {"name": "eth7"}, "one-far": {}})
    if way == "program":
        spec["process"]["args"] = ["/nope"]
    else:
        spec["hooks"] = {"createContainer": [{"path": "/bin/false"}]}
    with subprocess.Popen(["unshare", "-n", "sleep", "1000"]) as holder:
        try:
            if joined:
                wait_for(lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
                spec["linux"]["namespaces"] = [{"type": "mount"}, {"type": "pid"}, {"type": "network", "path": f"/proc/{holder.pid}/ns/net"}]
            ended = run(site, bundle, spec)
            assert ended.code == 1 and ("/nope" in ended.err or "hooks.createContainer[0]" in ended.err), ended
        finally:
            holder.kill()
    found = links(site.sh("ip -o link"))
    assert "one-far" in found and found["one"].split(" qdisc")[0].replace(",LOWER_UP", "").replace("NO-CARRIER,", "") == \
        before.split(" qdisc")[0].replace(",LOWER_UP", "").replace("NO-CARRIER,", "")  # fmt: skip
    if up == "up":
        assert {*ADDRESSES} <= {line.split()[3] for line in site.sh("ip -o addr show dev one").splitlines()}
    else:
        assert ADDRESSES[0] in site.sh("ip -o addr show dev one")  # those of IPv6 go when a device does
    assert bundle.status() == "gone"


def test_a_device_that_is_not_there(site: Site, bundle: Bundle) -> None:
    ended = run(site, bundle, config(linux__netDevices={"nope": {}}))
    assert ended.code == 1 and ended.err == "error: linux.netDevices.nope: this host has no network device `nope`\n"
    assert bundle.status() == "gone"


def test_a_device_that_cannot_be_moved(site: Site, bundle: Bundle) -> None:
    ended = run(site, bundle, config(linux__netDevices={"lo": {"name": "other"}}))
    assert ended.code == 1 and "cannot move lo into the container" in ended.err, ended


def test_a_users_namespace_of_its_own(site: Site, bundle: Bundle) -> None:
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    bundle.give(100000)
    cable(site)
    spaces = [{"type": each} for each in ("pid", "network", "mount", "user")]
    ended = run(site, bundle, script("ip -o link", linux__namespaces=spaces, linux__uidMappings=mapping, linux__gidMappings=mapping,
                                     linux__netDevices={"one": {}}))
    assert "one" in links(ended.out), ended


@pytest.mark.parametrize(("devices", "words"), [
    ({"": {}}, "'' is no name"), ({"a/b": {}}, "'a/b' is no name"), ({"x" * 16: {}}, "is no name"), ({"a": {"name": "a b"}}, "'a b' is no name"),
    ({"a%d": {}}, "'a%d' is no name"), ({"a": {"name": "%d"}}, "'%d' is no name"), ({"a": {"name": "b"}, "c": {"name": "b"}}, "there are two devices `b`"),
    ({"a": {"name": 5}}, "expected a string"),
])  # fmt: skip
def test_names_that_are_none(bundle: Bundle, devices: dict[str, Any], words: str) -> None:
    assert words in bundle.refused(config(linux__netDevices=devices))


def test_a_network_namespace_is_needed(bundle: Bundle) -> None:
    spec = config(linux__netDevices={"a": {}})
    spec["linux"]["namespaces"] = [each for each in spec["linux"]["namespaces"] if each["type"] != "network"]
    assert "needs a network namespace" in bundle.refused(spec)


def test_features_say_so(bundle: Bundle) -> None:
    assert json.loads(bundle.verb("features").out)["linux"]["netDevices"] == {"enabled": True}
