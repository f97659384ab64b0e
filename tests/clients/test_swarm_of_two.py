"""A Docker swarm of two nodes, each a dockerd in a network namespace of its own with a cable between them; with either runtime below."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from containers import wait_for
from lab import Lab
from pages import files
from test_docker import HERE, NEEDS
from test_swarm import SERVER, UNTIL

__all__ = ["NEEDS"]
NODES = ("one", "two")
CABLE = """
for each in one two; do ip netns add $each; ip -n $each link set lo up; nsenter --net=/run/netns/$each sysctl -qw net.ipv4.ip_forward=1; done
ip link add one0 netns one type veth peer name two0 netns two
ip -n one addr add 10.99.0.1/24 dev one0; ip -n one link set one0 up; ip -n one route add default via 10.99.0.2
ip -n two addr add 10.99.0.2/24 dev two0; ip -n two link set two0 up; ip -n two route add default via 10.99.0.1
"""
EITHER = "one() { command docker -H unix:///run/one/docker.sock \"$@\"; }; two() { command docker -H unix:///run/two/docker.sock \"$@\"; }; docker() { one \"$@\"; }; "


@pytest.fixture(params=["dolium", "runc"])
def nodes(lab: Lab, tarball: str, request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Services take the default runtime of the daemon that they come to run on."""
    lab.sh("rm -f /etc/docker/key.json")
    lab.write({"/etc/docker/nodes.json": files("docker.md")["/etc/docker/daemon.json"].replace('"default-runtime": "dolium"', f'"default-runtime": "{request.param}"')})
    made = lab.sh(CABLE)
    assert made.code == 0, made
    daemons = []
    try:
        for name in NODES:
            daemons.append(lab.start(
                f"unshare --uts sh -c 'hostname {name}; exec nsenter --net=/run/netns/{name} dockerd {HERE} --config-file /etc/docker/nodes.json "
                f"--data-root /var/lib/docker/{request.param}-{name} --exec-root /run/{name} --pidfile /run/{name}/pid -H unix:///run/{name}/docker.sock'",
                f"{lab.directory}/{name}.log"))  # fmt: skip
        wait_for(lambda: lab.sh(f"{EITHER} one version && two version").code == 0, 60)
        made = lab.sh(f"{EITHER} for each in one two; do $each import {tarball} alpine || exit 1; done")
        assert made.code == 0, made
        yield lab
    finally:
        for each in daemons:
            each.terminate()
            each.wait()
        lab.sh("ip netns del one; ip netns del two")


def test_replicas_on_both(nodes: Lab) -> None:
    begun = nodes.sh(EITHER + """one swarm init --advertise-addr 10.99.0.1 >/dev/null && two swarm join --token $(one swarm join-token -q worker) 10.99.0.1:2377 >/dev/null &&
        one network create -d overlay --attachable over >/dev/null""")  # fmt: skip
    assert begun.code == 0, begun
    said = nodes.sh(
        EITHER + UNTIL + f"""exec 2>/dev/null
        of_web() {{ $1 ps -q --filter label=com.docker.swarm.service.name=web; }}
        spread() {{ until [ "$(of_web one | wc -l) $(of_web two | wc -l)" = "$1" ]; do sleep 0.2; done; echo "on one and two: $1"; }}
        each() {{ for node in one two; do for task in $(of_web $node); do $node exec $task "$@"; done; done | tr -d '\\n'; }}
        one node ls --format '{{{{.Hostname}}}} {{{{.Status}}}}' | sort
        one service create -q --detach --name web --replicas 4 --restart-delay 1s --stop-grace-period 1s --network over --endpoint-mode dnsrr alpine sh -c '{SERVER}' >/dev/null
        replicas web 4/4; spread '2 2'
        two rm -f $(of_web two | head -1) >/dev/null; replicas web 3/4; replicas web 4/4; spread '2 2'
        one service scale -d web=6 >/dev/null; replicas web 6/6; spread '3 3'
        for node in one two; do
            $node run --rm --network over alpine sh -c 'found=$(nslookup tasks.web 2>/dev/null | grep -c "^Address.* 10\\."); echo $found names
            nslookup tasks.web 2>/dev/null | sed -n "s/^Address.* \\(10\\.\\)/\\1/p" | while read each; do wget -T 10 -qO- http://$each/; done | wc -l'
        done
        one service update -q --detach --env-add A=b --update-delay 0s --update-parallelism 3 web >/dev/null
        until [ "$(each printenv A)" = bbbbbb ]; do sleep 0.2; done; replicas web 6/6; echo updated
        one node update --availability drain two >/dev/null; spread '6 0'; replicas web 6/6
        one node update --availability active two >/dev/null
        dolium-oci --root /run/one/runtime-runc/moby list -q | wc -l
        one service rm web; until [ -z "$(one ps -aq)$(two ps -aq)" ]; do sleep 0.2; done; echo gone""",
        seconds=500,
    )
    ended = nodes.sh(EITHER + "two swarm leave; one swarm leave --force")
    assert said.stdout == """\
one Ready
two Ready
web 4/4
on one and two: 2 2
web 3/4
web 4/4
on one and two: 2 2
web 6/6
on one and two: 3 3
6 names
6
6 names
6
web 6/6
updated
on one and two: 6 0
web 6/6
6
web
gone
""", said
    assert ended.code == 0, ended
