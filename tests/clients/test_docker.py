"""Docker drives `dolium-oci`, wired as docs/howto/docker.md says, and sees what it sees with runc."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alike import GONE, SERVER, SLEEPING, Alike, frozen, limits
from containers import TOP, wait_for
from lab import Lab, Pair
from pages import files

NEEDS = {"dockerd": "docker.io", "docker": "docker.io", "containerd": "containerd", "runc": "runc", "docker-init": "tini", "iptables": "iptables", "curl": "curl"}
HERE = "--storage-driver overlay2 --oom-score-adjust 0"
"""The store is on a disk; and without CAP_SYS_RESOURCE no score can be lowered."""


@pytest.fixture(scope="module")
def machine(lab: Lab, tarball: str) -> Iterator[Lab]:
    lab.write(files("docker.md"))
    lab.sh("rm -f /etc/docker/key.json; mkfifo /tmp/never")
    daemon = lab.start(f"dockerd {HERE}", f"{lab.directory}/dockerd.log", DOCKER_CLI_HINTS="false")
    try:
        wait_for(lambda: lab.sh("docker version").code == 0, 60)
        made = lab.sh(f"docker import {tarball} alpine && docker run --rm alpine true")
        assert made.code == 0, made
        lab.settled()
        lab.tolerated = {"mount /run/docker/netns/default"}
        yield lab
    finally:
        daemon.kill()
        daemon.wait()


@pytest.fixture(scope="module")
def docker(machine: Lab) -> Pair:
    run, both = "docker run --stop-timeout 5", {"engine": "docker", "cp": "docker cp -q", "remove": "docker rm -f", "I": "alpine"}
    return Pair(machine, {"dolium": {"run": run, "create": "docker create", **both}, "runc": {"run": f"{run} --runtime runc", "create": "docker create --runtime runc", **both}})


@pytest.fixture(scope="module")
def engine(docker: Pair) -> Pair:
    return docker


class TestAlike(Alike):
    pass


def test_it_is_the_one_below(machine: Lab) -> None:
    assert machine.sh("docker info --format '{{.DefaultRuntime}}'").stdout == "dolium\n"
    assert machine.sh("docker run -d --name c1 alpine sleep 100 >/dev/null; dolium-oci --root /run/docker/runtime-runc/moby list -q | wc -l; docker rm -f c1").stdout == "1\nc1\n"


def test_explain_tells_what_it_asked_for(machine: Lab) -> None:
    said = machine.sh("docker run -d --name c1 -m 64m alpine sleep 1000 >/dev/null; dolium explain --id $(docker ps -q) | grep memory.limit; docker rm -f c1")
    assert "memory.limit = 67108864" in said.stdout and said.code == 0, said


def test_an_upgrade_under_running_containers(machine: Lab) -> None:
    """Another tree in the place of the one that made them: they are executed in, stopped and deleted."""
    begun = machine.sh("docker run -d --name c1 alpine sh -c 'trap \"exit 9\" TERM; while :; do sleep 0.1; done' && docker run -d --name c2 alpine sleep 1000; "
                       f"make -C {TOP} uninstall install PREFIX=/usr/local")  # fmt: skip
    assert begun.code == 0, begun
    after = machine.sh("docker exec c1 echo in; docker pause c1; docker unpause c1; docker top c1 >/dev/null || echo no top; docker stop -t 5 c1; docker wait c1; docker kill c2; docker wait c2; docker rm c1 c2")
    assert after.stdout == "in\nc1\nc1\nc1\n9\nc2\n137\nc1\nc2\n", after
    assert not machine.left()


# ---- run


def test_exit_codes(docker: Pair) -> None:
    docker.same("$run --rm alpine sh -c 'exit 3'; echo $?", "3\n")
    docker.same("$run --rm --init alpine sh -c 'kill -9 $$'; echo $?", "137\n")
    docker.same("$run --rm alpine /nope 2>/dev/null; echo $?", "127\n")
    docker.same("$run --rm alpine nope 2>/dev/null; echo $?", "127\n")
    docker.same("$run --rm alpine /etc/passwd 2>/dev/null; echo $?", "126\n")
    docker.same("$run --rm alpine /etc 2>/dev/null; echo $?", "126\n")
    docker.same("$run --rm --nope alpine true 2>/dev/null; echo $?", "125\n")
    docker.same("$run --rm -m 1k alpine true 2>/dev/null; echo $?", "125\n")


def test_attach_and_logs_that_are_followed(docker: Pair) -> None:
    docker.same("$run -d --name c1 alpine sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done' >/dev/null; docker logs -f c1; docker rm c1", "1\n2\n3\nc1\n")
    docker.same("$run -d --name c1 alpine sh -c 'sleep 2; echo late; exit 3' >/dev/null; docker attach --no-stdin c1; echo $?; docker rm c1", "late\n3\nc1\n")


# ---- exec


def test_exec(docker: Pair) -> None:
    docker.same(
        f"""{SLEEPING}
        docker exec c1 echo hi; echo in | docker exec -i c1 cat
        docker exec -u 1000:100 -w /tmp -e A=b c1 sh -c 'id -u; id -g; pwd; echo $A'
        docker exec c1 sh -c 'exit 42'; echo $?
        docker exec c1 /nope >/dev/null 2>&1; echo $?
        docker exec c1 /etc/passwd >/dev/null 2>&1; echo $?
        docker exec c1 sh -c 'kill -9 $$'; echo $?
        script -qec "stty rows 30 cols 100; docker exec -it c1 sh -c 'tty; until stty size 2>/dev/null | grep .; do :; done'" /dev/null <>/tmp/never
        docker exec -d c1 touch /tmp/made; for i in 1 2 3 4 5 6 7 8 9; do docker exec c1 ls /tmp/made 2>/dev/null && break; done{GONE}""",
        "hi\nin\n1000\n100\n/tmp\nb\n42\n126\n126\n137\n/dev/pts/0\n30 100\n/tmp/made\nc1\n",
    )


# ---- looking, pausing, other limits


def test_stats_and_top(docker: Pair) -> None:
    docker.same(
        f"""{SLEEPING.replace("--name c1", "--name c1 -m 64m --pids-limit 50")}
        docker stats --no-stream --format '{{{{.Name}}}} {{{{.MemUsage}}}}' c1 | sed 's/ .* \\// \\//'
        docker top c1 | tail -n +2 | head -1 | tr -s ' ' | cut -d ' ' -f 1,8-9{GONE}""",
        "c1 / 64MiB\nroot sh -c\nc1\n",
    )


def test_pause(docker: Pair) -> None:
    docker.same(
        f"""{SLEEPING}docker pause c1; docker inspect c1 --format '{{{{.State.Status}}}}'; {frozen("docker/*")}
        docker exec c1 true 2>/dev/null; echo $?
        docker unpause c1; docker inspect c1 --format '{{{{.State.Status}}}}'{GONE}""",
        "c1\npaused\nFROZEN\n1\nc1\nrunning\nc1\n",
    )


def test_limits_and_update(docker: Pair) -> None:
    now = limits("docker/[0-9a-f]*/")
    docker.same(
        f"""{SLEEPING.replace("--name c1", "--name c1 -m 64m --cpus 0.5 --pids-limit 50 --cpuset-cpus 0-1")}{now}
        docker update -m 80m --memory-swap 160m --cpus 0.3 --cpu-shares 512 --cpuset-cpus 0 --pids-limit 60 c1; {now}
        docker update --cpus 0.2 c1; {now}{GONE}""",
        "67108864\n134217728\n50000\n1024\n50\n0-1\nc1\n83886080\n167772160\n30000\n512\n60\n0\nc1\n83886080\n167772160\n20000\n512\n60\n0\nc1\n",
    )


def test_healthcheck(docker: Pair) -> None:
    docker.same(
        """$run -d --name c1 --health-cmd 'test -e /tmp/well' --health-retries 1 --health-interval 200ms alpine sleep 100 >/dev/null
        health() { until docker inspect c1 --format '{{.State.Health.Status}}' | grep "^$1"; do :; done; }
        health unhealthy; docker exec c1 touch /tmp/well; health healthy; docker rm -f c1""",
        "unhealthy\nhealthy\nc1\n",
    )


# ---- life


def test_stop_start_restart(docker: Pair) -> None:
    docker.same(
        f"""{SLEEPING}docker stop -t 5 c1; docker inspect c1 --format '{{{{.State.ExitCode}}}}'
        docker start c1; docker exec c1 echo again; docker restart -t 5 c1; docker exec c1 echo and again
        docker rename c1 c2; docker stop -t 5 c2; docker rm c2
        $run -d --name c1 alpine sleep 1000 >/dev/null; docker stop -t 1 c1; docker inspect c1 --format '{{{{.State.ExitCode}}}}'; docker rm c1""",
        "c1\n9\nc1\nagain\nc1\nand again\nc2\nc2\nc1\n137\nc1\n",
    )


def test_restart_policies(docker: Pair) -> None:
    docker.same(
        """$run -d --name c1 --restart on-failure:2 alpine false >/dev/null
        until [ "$(docker inspect c1 --format '{{.State.Status}} {{.RestartCount}}')" = "exited 2" ]; do :; done; docker rm c1
        $run -d --name c1 --restart always alpine sh -c 'echo began; sleep 0.3' >/dev/null
        until [ "$(docker logs c1 | wc -l)" -ge 3 ]; do :; done; docker rm -f c1""",
        "c1\nc1\n",
    )


def test_created_and_never_started(docker: Pair) -> None:
    docker.same("$create --name c1 alpine sh -c 'echo ran; exit 4' >/dev/null; docker start -a c1; echo $?; docker rm c1; $create --name c1 alpine true >/dev/null; docker rm c1", "ran\n4\nc1\nc1\n")


def test_out_of_memory(docker: Pair) -> None:
    docker.same("$run --name c1 -m 20m alpine sh -c 'x=a; while :; do x=$x$x; done'; echo $?; docker inspect c1 --format '{{.State.OOMKilled}}'; docker rm c1", "137\ntrue\nc1\n")


# ---- what a container is given


def test_read_only_and_no_rights(docker: Pair) -> None:
    docker.same(
        """mkdir -p /tmp/v; echo text >/tmp/v/file
        $run --rm --read-only --cap-drop ALL --security-opt no-new-privileges --user 1000 --tmpfs /scratch -v /tmp/v:/v:ro \\
            --sysctl net.ipv4.ip_unprivileged_port_start=0 --ulimit nofile=1000:1000 --shm-size 1m alpine sh -c '
            exec 2>&1; touch /x; touch /v/x; touch /scratch/x && echo scratch; cat /v/file; grep -h "CapEff\\|NoNewPrivs\\|Seccomp:" /proc/self/status
            ulimit -n; df -k /dev/shm | tail -1 | tr -s " " | cut -d " " -f 2; cat /proc/sys/net/ipv4/ip_unprivileged_port_start'""",
        "touch: /x: Read-only file system\ntouch: /v/x: Read-only file system\nscratch\ntext\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n1000\n1024\n0\n",
    )


def test_init(docker: Pair) -> None:
    docker.same("$run --rm --init alpine cat /proc/1/comm", "docker-init\n")


def test_privileged(docker: Pair) -> None:
    """runc asks for rights that this machine may not have, and fails; Dolium gives what there is."""
    said = docker.lab.sh("docker run --rm --privileged alpine sh -c 'mount -t tmpfs none /mnt && echo mounted; ls /dev | wc -l; grep CapEff /proc/self/status'")
    assert said.code == 0 and said.stdout.startswith("mounted\n") and "CapEff:\t0000003ffeffffff\n" in said.stdout, said
    said = docker.lab.sh("docker run -d --name c1 alpine sleep 100 >/dev/null; docker exec --privileged c1 grep CapEff /proc/self/status; docker rm -f c1")
    assert said.stdout == "CapEff:\t0000003ffeffffff\nc1\n", said


def test_another_containers_namespaces(docker: Pair) -> None:
    docker.same(f"{SLEEPING}$run --rm --network container:c1 --pid container:c1 alpine sh -c 'ip -o -4 a show eth0 | wc -l; cat /proc/1/comm'{GONE}", "1\nsh\nc1\n")


def test_volumes_and_devices(docker: Pair) -> None:
    docker.same(
        """docker volume create v1; $run --rm -v v1:/data alpine sh -c 'echo kept >/data/file'; $run --rm -v v1:/data alpine cat /data/file; docker volume rm v1
        $run --rm --device /dev/kmsg:/dev/k:r alpine sh -c 'test -r /dev/k && echo there; (echo >/dev/k) 2>&1; echo $?'""",
        "v1\nkept\nv1\nthere\nsh: can't create /dev/k: Operation not permitted\n1\n",
    )


# ---- files and images


def test_build(machine: Lab) -> None:
    """The classic builder takes the default runtime."""
    said = machine.sh("""mkdir -p /tmp/b; printf 'FROM alpine\\nRUN echo built >/made && id -u >>/made\\nCMD cat /made\\n' >/tmp/b/Dockerfile
        DOCKER_BUILDKIT=0 docker build -q -t built /tmp/b >/dev/null 2>&1; docker run --rm built; docker rmi built >/dev/null""")
    assert said.stdout == "built\n0\n", said
    assert not machine.left()


# ---- networks

def test_a_published_port(docker: Pair) -> None:
    docker.same(f"$run -d --name c1 -p 127.0.0.1:18081:80 alpine sh -c '{SERVER}' >/dev/null; until curl -s -m 3 http://127.0.0.1:18081/; do :; done{GONE}", "served\nc1\n")


def test_a_network_with_names(docker: Pair) -> None:
    docker.same(
        """docker network create nn >/dev/null; $run -d --name s1 --network nn alpine sleep 60 >/dev/null
        $run --rm --network nn alpine sh -c 'ping -c 1 -q s1 | grep -c " 0% packet loss"'
        $run -d --name s2 alpine sleep 60 >/dev/null; docker network connect nn s2; docker exec s2 sh -c 'ls /sys/class/net | grep -c eth; ping -c 1 -q s1 | grep -c " 0% packet loss"'
        docker network disconnect nn s2; docker exec s2 sh -c 'ls /sys/class/net | grep -c eth'
        docker rm -f s1 s2; docker network rm nn""",
        "1\n2\n1\n1\ns1\ns2\nnn\n",
    )


def test_twenty_at_once(docker: Pair) -> None:
    docker.same("for i in $(seq 20); do $run --rm --network none alpine echo $i & done | sort -n | tr '\\n' ' '; wait", "".join(f"{each} " for each in range(1, 21)), seconds=200)
