"""Podman drives `dolium-oci`, wired as docs/howto/podman.md says, and sees what it sees with runc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import checkpoints
import pytest
from alike import GONE, SERVER, SLEEPING, Alike, frozen, limits
from containers import TOP
from lab import Lab, Pair
from pages import files, line

IMAGE = "localhost/alpine"
NEEDS = {"podman": "podman", "conmon": "conmon", "runc": "runc", "catatonit": "catatonit", "/usr/lib/podman/netavark": "netavark", "/usr/lib/podman/aardvark-dns": "aardvark-dns", "curl": "curl"}
HERE = {
    # Without CAP_SYS_RESOURCE limits cannot be raised as Podman wants it; nor is there a systemd that would keep its log.
    "/etc/containers/containers.conf.d/here.conf": """
[containers]
log_driver = "k8s-file"
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
events_logger = "file"
[network]
network_backend = "netavark"
""",
    "/etc/containers/storage.conf": '[storage]\ndriver = "overlay"\ngraphroot = "/var/lib/containers/storage"\nrunroot = "/run/containers/storage"\n',
}  # fmt: skip


@pytest.fixture(scope="module")
def podman(lab: Lab, tarball: str) -> Iterator[Pair]:
    lab.write({**HERE, **files("podman.md")})
    made = lab.sh(f"mkfifo /tmp/never; podman import {tarball} {IMAGE} && podman run --rm {IMAGE} true")
    assert made.code == 0, made
    lab.settled()
    lab.tolerated = {"mount /var/lib/containers/storage/overlay"}
    yield Pair(lab, {name: {"podman": way, "engine": way, "run": f"{way} run", "cp": f"{way} cp", "remove": f"{way} rm -f -t 0", "I": IMAGE}
                     for name, way in (("dolium", "podman"), ("runc", "podman --runtime runc"))})  # fmt: skip


@pytest.fixture(scope="module")
def engine(podman: Pair) -> Pair:
    return podman


class TestAlike(Alike):
    pass


def test_it_is_the_one_below(podman: Pair) -> None:
    done = podman.lab.sh("podman info --format '{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}'")
    assert done.stdout == "dolium /usr/local/bin/dolium-oci\n", done


def test_explain_tells_what_it_asked_for(podman: Pair) -> None:
    said = podman.lab.sh(f"podman run -d --name c1 -m 64m {IMAGE} sleep 1000 >/dev/null; podman update -m 80m c1 >/dev/null; "
                         "dolium explain --id $(podman ps -q) | grep memory.limit; podman rm -f -t 0 c1")  # fmt: skip
    assert "memory.limit = 83886080" in said.stdout and said.code == 0, said


def test_an_upgrade_under_running_containers(podman: Pair) -> None:
    """Another tree in the place of the one that made them: they are executed in, stopped and deleted."""
    begun = podman.lab.sh(f"podman run -d --name c1 {IMAGE} sh -c 'trap \"exit 9\" TERM; while :; do sleep 0.1; done' && podman run -d --name c2 {IMAGE} sleep 1000; "
                          f"make -C {TOP} uninstall install PREFIX=/usr/local")  # fmt: skip
    assert begun.code == 0, begun
    after = podman.lab.sh("podman exec c1 echo in; podman pause c1; podman unpause c1; podman update -m 80m c1 >/dev/null; podman stop -t 5 c1; podman wait c1; podman kill c2; "
                          "podman wait c2; podman rm c1; podman rm c2")  # fmt: skip
    assert after.stdout == "in\nc1\nc1\nc1\n9\nc2\n137\nc1\nc2\n", after
    assert not podman.lab.left()


CONF = "/etc/containers/containers.conf"


def test_back_again(podman: Pair) -> None:
    """New containers are another runtime's, those of Dolium are still what they were; and what to do where it was too early."""
    lab, theirs, wired = podman.lab, line("podman.md", "{{.OCIRuntime}}"), files("podman.md")[CONF]
    try:
        made = lab.sh(f"podman run -d --name c1 {IMAGE} sh -c 'trap \"exit 9\" TERM; while :; do sleep 0.1; done' && podman run -d --name c2 {IMAGE} sleep 1000")
        assert made.code == 0, made
        lab.write({CONF: wired.replace('runtime = "dolium"\n', "")})
        said = lab.sh(f"""podman create --name c3 {IMAGE} true >/dev/null; podman inspect c3 --format '{{{{.OCIRuntime}}}}' | grep -v dolium >/dev/null || echo still Dolium
            {theirs} | sort; podman exec c1 echo in; podman stop -t 5 c1; podman wait c1; podman start c1; podman rm -f -t 0 c1 c3 | sort; {theirs}""")
        assert said.stdout == "dolium c1\ndolium c2\nin\nc1\n9\nc1\nc1\nc3\ndolium c2\n", said
        lab.write({CONF: ""})
        early = lab.sh("podman exec c2 true; podman stop -t 0 c2")
        assert early.code == 125 and "runtime dolium is missing" in early.stderr, early
        lab.write({CONF: wired})
        assert lab.sh("podman stop -t 0 c2; podman start c2; podman exec c2 echo in").stdout == "c2\nc2\nin\n"
        lab.write({CONF: ""})
        said = lab.sh(f"podman rm -f -t 0 c2 2>/dev/null; podman rm -f -t 0 c2 2>/dev/null; {line('podman.md', 'dolium-oci list')} -q | wc -l; "
                      f"{line('podman.md', 'dolium-oci delete').replace('ID', '$(dolium-oci list -q)')}; dolium-oci list -q")  # fmt: skip
        assert said.stdout == "c2\n1\n", said
    finally:
        lab.write({CONF: wired})
    assert not lab.left()


# ---- run


def test_exit_codes(podman: Pair) -> None:
    podman.same("$podman run --rm $I sh -c 'exit 3'; echo $?", "3\n")
    podman.same("$podman run --rm --init $I sh -c 'kill -9 $$'; echo $?", "137\n")
    podman.same("$podman run --rm --init $I sh -c 'kill -15 $$'; echo $?", "143\n")
    podman.same("$podman run --rm $I /nope 2>/dev/null; echo $?", "127\n")
    podman.same("$podman run --rm $I nope 2>/dev/null; echo $?", "127\n")
    podman.same("$podman run --rm $I /etc/passwd 2>/dev/null; echo $?", "126\n")
    podman.same("$podman run --rm $I /etc 2>/dev/null; echo $?", "126\n")
    podman.same("$podman run --rm --nope $I true 2>/dev/null; echo $?", "125\n")
    podman.same("$podman run --rm --cpuset-cpus 999 $I true 2>/dev/null; echo $?", "125\n")


def test_logs_that_are_followed(podman: Pair) -> None:
    podman.same("$podman run -d --name c1 $I sh -c 'for i in 1 2 3; do echo $i; sleep 0.2; done' >/dev/null; $podman logs -f c1; $podman rm c1", "1\n2\n3\nc1\n")


def test_attach(podman: Pair) -> None:
    podman.same("$podman run -d --name c1 $I sh -c 'sleep 1; echo late; exit 3' >/dev/null; $podman attach --sig-proxy=false --no-stdin c1; $podman wait c1; $podman rm c1", "late\n\n3\nc1\n")


# ---- exec


def test_exec(podman: Pair) -> None:
    podman.same(
        f"""{SLEEPING}
        $podman exec c1 echo hi; echo in | $podman exec -i c1 cat
        $podman exec -u 1000:100 -w /tmp -e A=b c1 sh -c 'id -u; id -g; pwd; echo $A'
        $podman exec c1 sh -c 'exit 42'; echo $?
        $podman exec c1 /nope 2>/dev/null; echo $?
        $podman exec c1 /etc/passwd 2>/dev/null; echo $?
        $podman exec c1 sh -c 'kill -9 $$'; echo $?
        script -qec "stty rows 30 cols 100; $podman exec -it c1 sh -c 'tty; until stty size 2>/dev/null | grep .; do :; done'" /dev/null <>/tmp/never
        $podman exec -d c1 touch /tmp/made >/dev/null; for i in 1 2 3 4 5 6 7 8 9; do $podman exec c1 ls /tmp/made 2>/dev/null && break; done
        $podman exec --privileged c1 grep CapEff /proc/self/status >/dev/null; echo $?
        {GONE}""".replace("\n        ; ", "; "),
        "hi\nin\n1000\n100\n/tmp\nb\n42\n127\n126\n137\n/dev/pts/0\n30 100\n/tmp/made\n0\nc1\n",
    )


# ---- looking, pausing, other limits


def test_stats_and_top(podman: Pair) -> None:
    podman.same(
        f"""{SLEEPING.replace("--name c1", "--name c1 -m 64m --pids-limit 50")}
        $podman stats --no-stream --format '{{{{.Name}}}} {{{{.MemUsage}}}}' c1 | sed 's/ .* \\// \\//'
        $podman top c1 user pid args | head -2 | tail -1 | cut -c 1-30
        $podman rm -f -t 0 c1""",
        "^c1 / 67.11MB\nroot +1 +sh -c .*\nc1\n",
    )


def test_pause(podman: Pair) -> None:
    podman.same(
        f"""{SLEEPING}$podman pause c1; $podman inspect c1 --format '{{{{.State.Status}}}}'; {frozen("libpod_parent/libpod-*")}
        $podman exec c1 true 2>/dev/null; echo $?
        $podman unpause c1; $podman inspect c1 --format '{{{{.State.Status}}}}'{GONE}""",
        "^c1\npaused\nFROZEN\n255\nc1\nrunning\nc1\n",
    )


def test_limits_and_update(podman: Pair) -> None:
    now = limits("libpod_parent/libpod-*")
    podman.same(
        f"""{SLEEPING.replace("--name c1", "--name c1 -m 64m --cpus 0.5 --pids-limit 50 --cpuset-cpus 0-1")}{now}
        $podman update --memory 80m --cpus 0.3 --cpu-shares 512 --cpuset-cpus 0 c1 >/dev/null; echo $?; {now}{GONE}""",
        "67108864\n134217728\n50000\n1024\n50\n0-1\n0\n83886080\n167772160\n30000\n512\n50\n0\nc1\n",
    )


def test_healthcheck(podman: Pair) -> None:
    podman.same(
        """$podman run -d --name c1 --health-cmd 'test -e /tmp/well' --health-retries 1 --health-interval disable $I sleep 100 >/dev/null
        $podman healthcheck run c1; echo $?; $podman exec c1 touch /tmp/well; $podman healthcheck run c1; echo $?
        $podman inspect c1 --format '{{.State.Health.Status}}'; $podman rm -f -t 0 c1""",
        "unhealthy\n1\n0\nhealthy\nc1\n",
    )


# ---- life


def test_stop_start_restart(podman: Pair) -> None:
    podman.same(
        f"""{SLEEPING}$podman stop -t 5 c1; $podman inspect c1 --format '{{{{.State.ExitCode}}}}'
        $podman start c1; $podman exec c1 echo again; $podman restart -t 5 c1; $podman exec c1 echo and again
        $podman stop -t 5 c1; $podman rm c1""",
        "c1\n9\nc1\nagain\nc1\nand again\nc1\nc1\n",
    )


def test_stop_of_what_does_not_listen(podman: Pair) -> None:
    podman.same(
        "$podman run -d --name c1 $I sleep 1000 >/dev/null; $podman stop -t 1 c1 2>/dev/null; $podman inspect c1 --format '{{.State.ExitCode}}'; $podman rm c1",
        "c1\n137\nc1\n",
    )


def test_create_init_start(podman: Pair) -> None:
    podman.same(
        """$podman create --name c1 $I sh -c 'echo ran; exit 4' >/dev/null; $podman init c1; $podman inspect c1 --format '{{.State.Status}}'
        $podman start -a c1; echo $?; $podman rm c1
        $podman create --name c1 $I true >/dev/null; $podman init c1; $podman rm -f -t 0 c1""",
        "c1\ninitialized\nran\n4\nc1\nc1\nc1\n",
    )


def test_restart_policy(podman: Pair) -> None:
    podman.same(
        """$podman run -d --name c1 --restart on-failure:2 $I false >/dev/null; sleep 1
        until [ "$($podman inspect c1 --format '{{.State.Status}} {{.RestartCount}}')" = "exited 2" ]; do :; done; $podman rm c1""",
        "c1\n",
    )


def test_out_of_memory(podman: Pair) -> None:
    podman.same("$podman run --rm -m 20m $I sh -c 'x=a; while :; do x=$x$x; done'; echo $?", "137\n")


# ---- what a container is given


def test_read_only_and_no_rights(podman: Pair) -> None:
    podman.same(
        """mkdir -p /tmp/v; echo text >/tmp/v/file
        $podman run --rm --read-only --cap-drop ALL --security-opt no-new-privileges --user 1000 --tmpfs /scratch -v /tmp/v:/v:ro \\
            --sysctl net.ipv4.ip_unprivileged_port_start=0 --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 --shm-size 1m $I sh -c '
            touch /x 2>&1; touch /v/x 2>&1; touch /scratch/x && echo scratch; cat /v/file; grep -h "CapEff\\|NoNewPrivs" /proc/self/status
            ulimit -n; df -k /dev/shm | tail -1 | tr -s " " | cut -d " " -f 2; cat /proc/sys/net/ipv4/ip_unprivileged_port_start'""",
        "touch: /x: Read-only file system\ntouch: /v/x: Read-only file system\nscratch\ntext\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n1000\n1024\n0\n",
    )


def test_init(podman: Pair) -> None:
    podman.same("$podman run --rm --init $I sh -c 'cat /proc/1/comm'", "podman-init\n")


def test_privileged(podman: Pair) -> None:
    podman.same("$podman run --rm --privileged $I sh -c 'ls /dev | wc -l; grep CapEff /proc/self/status; mount -t tmpfs none /mnt && echo mounted' | tail -2",
                "^CapEff:\t000001fffeffffff\nmounted\n")  # fmt: skip


def test_users_of_its_own(podman: Pair) -> None:
    podman.same("$podman run --rm --uidmap 0:100000:65536 $I sh -c 'id -u; tr -s \" \" </proc/self/uid_map; touch /x && stat -c %u /x'", "0\n 0 100000 65536\n0\n")


def test_preserve_fds(podman: Pair) -> None:
    podman.same("$podman run --rm --preserve-fds 1 $I sh -c 'cat <&3' 3</etc/debian_version", Path("/etc/debian_version").read_text())


def test_descriptors_are_not_lent(podman: Pair) -> None:
    podman.same("$podman run --rm -p 127.0.0.1:18080:80 $I sh -c 'ls /proc/self/fd | wc -l'", "4\n")


def test_devices(podman: Pair) -> None:
    podman.same("$podman run --rm --device /dev/kmsg:/dev/k:r $I sh -c 'test -r /dev/k && echo there; (echo >/dev/k) 2>&1; echo $?'",
                "there\nsh: can't create /dev/k: Operation not permitted\n1\n")  # fmt: skip


def test_volumes(podman: Pair) -> None:
    podman.same(
        """$podman volume create v1; $podman run --rm -v v1:/data $I sh -c 'echo kept >/data/file'; $podman run --rm -v v1:/data $I cat /data/file
        $podman run --rm --mount type=bind,src=/tmp,dst=/h,bind-propagation=rslave $I sh -c 'grep " /h " /proc/self/mountinfo | grep -c master'
        $podman volume rm v1""",
        "v1\nkept\n0\nv1\n",
    )


def test_no_cgroups(podman: Pair) -> None:
    """Podman asks that of crun only, unless it is told; runc cannot do it."""
    done = podman.lab.sh(f"podman run --rm --cgroups=disabled {IMAGE} cat /proc/self/cgroup")
    assert done.code == 0 and len(done.stdout.splitlines()) > 1 and "libpod" not in done.stdout, done
    assert not podman.lab.left()


# ---- files


def test_build(podman: Pair) -> None:
    podman.same(
        """mkdir -p /tmp/b; printf 'FROM localhost/alpine\\nRUN echo built >/made && id -u >>/made\\nCMD cat /made\\n' >/tmp/b/Containerfile
        $podman build -q --network none -t localhost/built /tmp/b >/dev/null; $podman run --rm localhost/built; $podman rmi localhost/built >/dev/null""",
        "built\n0\n",
    )


# ---- networks and pods

def test_a_published_port(podman: Pair) -> None:
    podman.same(f"$podman run -d --name c1 -p 127.0.0.1:18080:80 $I sh -c '{SERVER}' >/dev/null; until curl -s -m 3 http://127.0.0.1:18080/; do :; done{GONE}", "served\nc1\n")


def test_a_network_with_names(podman: Pair) -> None:
    podman.same(
        """$podman network create nn; $podman run -d --name s1 --network nn $I sleep 60 >/dev/null 2>&1
        $podman run --rm --network nn $I sh -c 'ping -c 1 -q s1 | grep -c " 0% packet loss"'
        $podman rm -f -t 0 s1; $podman network rm nn""",
        "nn\n1\ns1\nnn\n",
    )


def test_pod(podman: Pair) -> None:
    """Podman itself forgets the pod's own groups in two hierarchies."""
    podman.same(
        f"""$podman pod create --name pp --infra-image $I --infra-command 'sleep 1000' >/dev/null
        $podman run -d --pod pp --name s1 $I sh -c '{SERVER}' >/dev/null
        $podman run --rm --pod pp $I sh -c 'hostname; until wget -qO- http://127.0.0.1/; do :; done'
        $podman pod pause pp >/dev/null; $podman inspect s1 --format '{{{{.State.Status}}}}'; $podman pod unpause pp >/dev/null
        $podman pod stop -t 0 pp >/dev/null 2>&1; $podman pod rm -f pp >/dev/null
        cd /sys/fs/cgroup; find */libpod_parent -mindepth 1 -maxdepth 1 -type d ! -name conmon | sort | while read -r each; do rmdir $each; dirname $each; done""",
        "pp\nserved\npaused\nsystemd/libpod_parent\nunified/libpod_parent\n",
    )


def test_fifty_at_once(podman: Pair) -> None:
    podman.same("for i in $(seq 50); do $podman run --rm --network none $I echo $i & done | sort -n | tr '\n' ' '; wait", "".join(f"{each} " for each in range(1, 51)), seconds=300)


# ---- checkpoint

CRIU = checkpoints.missing()
COUNTS = """$podman run -d --name c1 --init=false -v /tmp/shown:/shown $I sh -c 'i=0; while :; do i=$((i+1)); echo $i >/dev/shm/n; sleep 0.05; done' >/dev/null
            number() { $podman exec $1 cat /dev/shm/n; }
            further() { for _ in $(seq 100); do test "$(number $1)" -gt $2 && echo further && return; sleep 0.1; done; }
            further c1 3; """


@pytest.mark.skipif(bool(CRIU), reason=CRIU)
def test_checkpoint_and_restore(podman: Pair) -> None:
    podman.same(
        f"""mkdir -p /tmp/shown; echo shown >/tmp/shown/text
        {COUNTS} before=$(number c1)
        $podman container checkpoint c1
        $podman inspect c1 --format '{{{{.State.Status}}}} {{{{.State.Checkpointed}}}}'
        $podman container restore c1
        $podman inspect c1 --format '{{{{.State.Status}}}}'
        test $(number c1) -ge $before && further c1 $before; $podman exec c1 cat /shown/text
        $podman pause c1; $podman unpause c1; $podman kill c1; $podman wait c1; $podman rm c1""",
        "further\nc1\nexited true\nc1\nrunning\nfurther\nshown\nc1\nc1\nc1\n137\nc1\n",
    )


@pytest.mark.skipif(bool(CRIU), reason=CRIU)
def test_checkpoints_that_travel(podman: Pair) -> None:
    """In an archive with what has changed in its files, and restored under another name, while the first one goes on."""
    podman.same(
        f"""mkdir -p /tmp/shown
        {COUNTS} before=$(number c1); $podman exec c1 sh -c 'echo changed >/etc/motd'
        $podman container checkpoint --leave-running --export /tmp/c1.tar.gz c1
        further c1 $before
        $podman container restore --import /tmp/c1.tar.gz --name c2 >/dev/null; further c2 $before; $podman exec c2 cat /etc/motd
        $podman container restore --import /tmp/c1.tar.gz --name c3 >/dev/null; further c3 $before
        $podman stop -t 0 c1 c2 c3 | sort; $podman rm c1 c2 c3 | sort""",
        "further\nc1\nfurther\nfurther\nchanged\nfurther\nc1\nc2\nc3\nc1\nc2\nc3\n",
    )
