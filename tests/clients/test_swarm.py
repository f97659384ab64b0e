"""A Docker swarm of one node on `dolium-oci`: services cannot choose a runtime, they take the daemon's default."""

from __future__ import annotations

from lab import Lab
from test_docker import NEEDS, machine

__all__ = ["NEEDS", "machine"]
SERVER = "while :; do printf \"HTTP/1.0 200 OK\\r\\n\\r\\n$(hostname)\\n\" | nc -l -p 80 >/dev/null; done"
UNTIL = "replicas() { until docker service ls --format '{{.Name}} {{.Replicas}}' | grep \"^$1 $2\"; do sleep 0.2; done; }; "


def test_a_swarm(machine: Lab) -> None:
    """Replicas, one that is lost and made again, more of them, other settings one by one, names, the logs."""
    begun = machine.sh("docker swarm init --advertise-addr 127.0.0.1 >/dev/null && docker network create -d overlay --attachable over >/dev/null")
    assert begun.code == 0, begun
    said = machine.sh(
        UNTIL + f"""exec 2>/dev/null
        docker service create -q --detach --name web --replicas 3 --restart-delay 1s --stop-grace-period 1s --network over --endpoint-mode dnsrr alpine sh -c '{SERVER}' >/dev/null
        replicas web 3/3
        lost=$(docker ps -q | head -1); docker rm -f $lost >/dev/null; replicas web 2/3; replicas web 3/3
        docker service scale -d web=5 >/dev/null; replicas web 5/5
        docker run --rm --network over alpine sh -c 'nslookup tasks.web 2>/dev/null | grep -c ^Address; wget -qO- http://web/ | wc -l'
        docker service scale -d web=2 >/dev/null; replicas web 2/2
        docker service update -q --detach --env-add A=b --update-delay 0s web >/dev/null
        until [ "$(for each in $(docker ps -q --filter label=com.docker.swarm.service.name=web); do docker exec $each printenv A; done | tr -d '\\n')" = bb ]; do sleep 0.2; done; echo updated
        dolium-oci --root /run/docker/runtime-runc/moby list -q | wc -l
        docker service create -q --detach --name said --restart-condition none alpine echo from a service >/dev/null
        until docker service logs --raw said | grep 'from a service'; do sleep 0.2; done
        docker service rm web said; until [ -z "$(docker ps -aq)" ]; do sleep 0.2; done""",
        seconds=200,
    )
    ended = machine.sh("docker swarm leave --force; docker network rm docker_gwbridge")
    lines = said.stdout.splitlines()
    assert lines[0] == "web 3/3" and lines[1:4] == ["web 2/3", "web 3/3", "web 5/5"], said
    assert int(lines[4]) >= 5 and lines[5:] == ["1", "web 2/2", "updated", "2", "from a service", "web", "said"], said
    assert ended.code == 0, ended
    left = [each for each in machine.left() if not each.startswith("mount /run/docker/netns/")]
    assert not left
