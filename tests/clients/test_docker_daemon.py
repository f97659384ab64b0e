"""Docker's daemon set otherwise: one that is killed while containers run and started again, and one that maps users; with either runtime."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from containers import wait_for
from lab import Lab, Pair
from pages import files, line
from test_docker import HERE, NEEDS

__all__ = ["NEEDS"]
WAYS = {"dolium": {"run": "docker run --network none"}, "runc": {"run": "docker run --network none --runtime runc"}}
STARTED = f"dockerd {HERE} --bridge none --iptables=false"


@contextmanager
def daemon(lab: Lab, flags: str) -> Iterator[None]:
    process = lab.start(f"{STARTED} {flags}", f"{lab.directory}/dockerd.log")
    try:
        wait_for(lambda: lab.sh("docker version").code == 0, 60)
        yield
    finally:
        lab.sh("pid=$(cat /run/docker.pid); kill $pid; while [ -e /proc/$pid ]; do sleep 0.1; done")  # started again it is no child of ours
        process.wait()


@pytest.fixture(scope="module")
def machine(lab: Lab) -> Lab:
    lab.write(files("docker.md"))
    lab.sh("rm -f /etc/docker/key.json")
    return lab


def test_containers_outlive_the_daemon(machine: Lab, tarball: str) -> None:
    """live-restore: killed with its containerd, it finds those that run and those that have ended meanwhile."""
    with daemon(machine, "--live-restore"):
        made = machine.sh(f"docker import {tarball} alpine && docker run --rm --network none alpine true")
        assert made.code == 0, made
        machine.settled()
        machine.tolerated = {"process dockerd", "process containerd", "mount /run/docker/netns/default"}
        Pair(machine, WAYS).same(
            f"""$run -d --name c1 alpine sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done' >/dev/null
            $run -d --name c2 alpine sh -c 'sleep 2; exit 4' >/dev/null; $run -d --name c3 alpine sleep 1000 >/dev/null
            pid=$(docker inspect c1 --format '{{{{.State.Pid}}}}')
            kill -9 $(cat /run/docker.pid) $(cat /run/docker/containerd/containerd.pid); sleep 3; test -e /proc/$pid && echo outlives
            rm -f /run/docker.pid; {STARTED} --live-restore >/dev/null 2>&1 & until docker version >/dev/null 2>&1; do sleep 0.2; done
            docker inspect c1 c2 c3 --format '{{{{.Name}}}} {{{{.State.Status}}}} {{{{.State.ExitCode}}}}'
            docker exec c1 echo in; docker pause c1; docker unpause c1; docker stop -t 5 c1; docker wait c1; docker kill c3; docker wait c3
            docker start c2; docker wait c2; docker rm c1 c2 c3""",
            "outlives\n/c1 running 0\n/c2 exited 4\n/c3 running 0\nin\nc1\nc1\nc1\n9\nc3\n137\nc2\n4\nc1\nc2\nc3\n",
        )


def test_users_that_are_mapped(machine: Lab, tarball: str) -> None:
    """userns-remap: root inside is nobody outside, and what is given belongs to it."""
    machine.sh("chmod o+x /var/lib/docker; grep -q dockremap /etc/subuid || { echo dockremap:200000:65536 | tee -a /etc/subuid >>/etc/subgid; useradd -r dockremap; }")
    with daemon(machine, "--userns-remap default"):
        made = machine.sh(f"docker import {tarball} alpine && docker run --rm --network none alpine true")
        assert made.code == 0, made
        machine.settled()
        pair = Pair(machine, WAYS)
        pair.same(
            """$run --rm alpine sh -c 'exec 2>&1; id -u; tr -s " " </proc/self/uid_map; touch /x; stat -c %u /x; echo x >/dev/null; mount -t tmpfs n /mnt; hostname x; stat -c "%u:%g" /dev /dev/pts'
            $run -d --name c1 -m 50m -v vol:/vol -v /tmp:/h:ro --tmpfs /t alpine sleep 1000 >/dev/null
            stat -c %u /proc/$(docker inspect c1 --format '{{.State.Pid}}')/root/vol
            docker exec c1 sh -c 'touch /vol/x; stat -c %u /vol /vol/x /t'; docker exec -u 1000 c1 id -u; docker exec c1 sh -c 'touch /h/x 2>/dev/null || echo refused; ls /proc/1/root >/dev/null && echo seen'
            docker cp -q /etc/hostname c1:/; docker exec c1 stat -c %u /hostname; docker rm -f c1; docker volume rm vol
            $run --rm --userns host alpine cat /proc/self/uid_map | tr -s ' '
            $run --rm --read-only --init alpine cat /proc/1/comm""",
            "0\n 0 200000 65536\n0\nmount: permission denied (are you root?)\nhostname: sethostname: Operation not permitted\n0:0\n0:0\n200000\n0\n0\n0\n1000\n"
            "refused\nseen\n0\nc1\nvol\n 0 0 4294967295\ndocker-init\n",
        )


def test_back_again(machine: Lab, tarball: str) -> None:
    """runc is the default; those of Dolium that run are what they were, and are not started any more."""
    conf = "/etc/docker/daemon.json"
    theirs = line("docker.md", "HostConfig.Runtime")
    try:
        with daemon(machine, "--live-restore"):
            made = machine.sh(f"""docker import {tarball} alpine && docker run -d --name c1 --network none alpine sh -c 'trap "exit 9" TERM; while :; do sleep 0.1; done'
                docker run --name c2 --network none alpine touch /made; docker create --name c3 --runtime runc alpine true""")
            assert made.code == 0, made
            assert machine.sh(f"{theirs} | sort").stdout == "dolium /c1\ndolium /c2\n"
            machine.write({conf: "{}"})
            assert machine.sh("kill -HUP $(cat /run/docker.pid); sleep 1; docker info --format '{{.DefaultRuntime}}'").stdout == "dolium\n"
        with daemon(machine, "--live-restore"):
            said = machine.sh("""docker info --format '{{.DefaultRuntime}}'; docker run --rm --network none alpine echo new; docker exec c1 echo in; docker pause c1; docker unpause c1
                docker stop -t 5 c1; docker wait c1; docker cp c2:/made - | tar -t; docker start c1 2>&1 | head -1; docker rm c1 c2 c3""")  # fmt: skip
            assert said.stdout == "runc\nnew\nin\nc1\nc1\nc1\n9\nmade\nError response from daemon: Unknown runtime specified dolium\nc1\nc2\nc3\n", said
            assert machine.sh("dolium-oci --root /run/docker/runtime-runc/moby list -q").stdout == ""
    finally:
        machine.write(files("docker.md"))
