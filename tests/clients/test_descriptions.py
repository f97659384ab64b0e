"""Containers that are described in a file: Podman's `play kube`, the units that it writes, docker-compose; with either runtime the same."""

from __future__ import annotations

import test_docker
import test_podman
from lab import Lab, Pair
from test_docker import docker, machine
from test_podman import podman

__all__ = ["docker", "machine", "podman"]
NEEDS = {**test_podman.NEEDS, **test_docker.NEEDS, "docker-compose": "docker-compose"}
POD = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: words}
data: {WORD: from a map}
---
apiVersion: v1
kind: Pod
metadata: {name: pp}
spec:
  hostname: named
  restartPolicy: Never
  volumes: [{name: shared, emptyDir: {}}]
  initContainers:
  - name: first
    image: localhost/alpine
    command: [/bin/sh, -c, "echo made by the first >/shared/file"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  containers:
  - name: one
    image: localhost/alpine
    command: [/bin/sh, -c, "cat /shared/file; echo $WORD; while :; do echo served | nc -l -p 8080 >/dev/null; done"]
    envFrom: [{configMapRef: {name: words}}]
    resources: {limits: {memory: 64Mi, cpu: 500m}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: two
    image: localhost/alpine
    command: [/bin/sh, -c, "exec 2>&1; id -u; hostname; touch /x; grep CapEff /proc/self/status; until nc 127.0.0.1 8080 </dev/null; do sleep 0.1; done"]
    securityContext: {runAsUser: 1000, readOnlyRootFilesystem: true, capabilities: {drop: [all]}}
"""
COMPOSE = """\
version: "2.4"
services:
  web:
    image: alpine
    runtime: ${RUNTIME}
    command: sh -c 'while :; do printf "HTTP/1.0 200 OK\\r\\n\\r\\n$$(hostname) $$WORD\\n" | nc -l -p 80 >/dev/null; done'
    environment: [WORD=served]
    hostname: web
    init: true
    mem_limit: 64m
    healthcheck: {test: "true", interval: 1s}
    networks: [inner]
    volumes: ["kept:/kept"]
  client:
    image: alpine
    runtime: ${RUNTIME}
    command: sh -c 'until wget -qO- http://web/; do sleep 0.1; done'
    depends_on: {web: {condition: service_healthy}}
    networks: [inner]
    read_only: true
networks: {inner: {}}
volumes: {kept: {}}
"""


def test_a_pod_of_a_file(podman: Pair) -> None:
    """runc finds no program by its name where an image has no PATH, as one that was imported; hence /bin/sh."""
    podman.lab.write({"/tmp/pod.yaml": POD})
    podman.same(
        """$podman play kube /tmp/pod.yaml >/dev/null 2>&1; $podman wait pp-two; $podman logs pp-one; $podman logs pp-two
        $podman inspect pp-one --format '{{.HostConfig.Memory}} {{.State.Status}}'; $podman play kube --down /tmp/pod.yaml >/dev/null; $podman ps -aq
        cd /sys/fs/cgroup; find */libpod_parent -mindepth 1 -maxdepth 1 -type d ! -name conmon -exec rmdir {} +""",
        "0\nmade by the first\nfrom a map\n1000\nnamed\ntouch: /x: Read-only file system\nCapEff:\t0000000000000000\nserved\n67108864 running\n",
    )


def test_a_unit(podman: Pair) -> None:
    """Its lines, as systemd carries them out."""
    podman.same(
        """$podman create --name c1 $I sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done' >/dev/null; $podman generate systemd --new --name c1 >/tmp/unit; $podman rm c1 >/dev/null
        carry_out() { sed ':all; /\\\\$/{N; s/\\\\\\n//; b all}' /tmp/unit | sed -n "s,^$1=,,p" | sed 's,%t,/run,g; s,%n,c1.service,g; s,--sdnotify=conmon,,' | sh >/dev/null; }
        carry_out ExecStartPre; carry_out ExecStart; $podman exec c1 echo in; grep -c . /run/c1.service.ctr-id
        carry_out ExecStop; carry_out ExecStopPost; $podman ps -aq""",
        "in\n1\n",
    )


def test_composed(machine: Lab) -> None:
    machine.write({"/tmp/composed/docker-compose.yml": COMPOSE})
    Pair(machine, {each: {"RUNTIME": each, "compose": "docker-compose --project-directory /tmp/composed -f /tmp/composed/docker-compose.yml"} for each in ("dolium", "runc")}).same(
        """$compose up -d >/dev/null 2>&1; docker wait composed_client_1; docker logs composed_client_1; $compose exec -T web hostname; $compose run --rm -T client echo once 2>/dev/null
        docker inspect composed_web_1 --format '{{.HostConfig.Memory}} {{.State.Health.Status}}'; $compose up -d --force-recreate web >/dev/null 2>&1; $compose exec -T web hostname
        $compose down -v -t 1 >/dev/null 2>&1; docker ps -aq; docker volume ls -q; docker network ls -q --filter name=composed""",
        "0\nweb served\nweb\nonce\n67108864 healthy\nweb\n",
    )
