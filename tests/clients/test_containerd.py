"""containerd drives `dolium-oci`, by ctr and by CRI, and what it sees is what it sees with runc."""

from __future__ import annotations

from collections.abc import Iterator

import checkpoints
import pytest
from alike import limits
from containers import wait_for
from lab import HERE, Lab, Pair
from pages import files

HERE_TOO = """
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "docker.io/library/pause:latest"
  restrict_oom_score_adj = true

  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
"""
"""There is no way out to fetch the image of a sandbox, and no CAP_SYS_RESOURCE to lower the score of one."""
NETWORK = """{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "cni0", "isGateway": true,
 "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.90.0.0/24"}]]}}]}"""
CONFIG = "/etc/containerd/config.toml"
NEEDS = {"containerd": "containerd", "ctr": "containerd", "runc": "runc", "/usr/lib/cni/bridge": "containernetworking-plugins", "/usr/share/doc/python3-grpcio/copyright": "python3-grpcio"}
IMAGE = "docker.io/library/alpine:latest"
DOLIUM = "--runc-binary /usr/local/bin/dolium-oci"
"""As the page has it."""


@pytest.fixture(scope="module")
def machine(lab: Lab, tarball: str) -> Iterator[Lab]:
    lab.write({CONFIG: files("containerd.md")[CONFIG] + HERE_TOO, "/etc/cni/net.d/10-pods.conflist": NETWORK})
    daemon = lab.start("containerd", f"{lab.directory}/containerd.log")
    try:
        wait_for(lambda: lab.sh("ctr version").code == 0, 30)
        made = lab.sh(f"python3 {HERE}/images.py {tarball} alpine:latest /tmp/a.tar && python3 {HERE}/images.py {tarball} pause:latest /tmp/p.tar sleep 100000 &&"
                      "ctr image import /tmp/a.tar && ctr -n k8s.io image import /tmp/a.tar && ctr -n k8s.io image import /tmp/p.tar &&"
                      f"ctr run --rm {DOLIUM} {IMAGE} c0 true")  # fmt: skip
        assert made.code == 0, made
        lab.settled()
        lab.tolerated = {"link cni0"}
        yield lab
    finally:
        daemon.kill()
        daemon.wait()


@pytest.fixture(scope="module")
def ctr(machine: Lab) -> Pair:
    return Pair(machine, {"dolium": {"how": DOLIUM, "I": IMAGE}, "runc": {"how": "", "I": IMAGE}})


def test_run(ctr: Pair) -> None:
    ctr.same("ctr run --rm $how $I c1 echo hi", "hi\n")
    ctr.same("ctr run --rm $how $I c1 sh -c 'echo out; echo err >&2; exit 3'; echo $?", "^(out\nerr|err\nout)\n3\n")
    ctr.same("ctr run --rm $how --env A=b --cwd /tmp $I c1 sh -c 'echo $A; pwd'", "b\n/tmp\n")


def test_a_terminal(ctr: Pair) -> None:
    ctr.same("mkfifo /tmp/never; script -qec 'stty rows 30 cols 100; ctr run --rm -t $how $I c1 tty' /dev/null <>/tmp/never; rm /tmp/never", "/dev/pts/0\n")


def test_the_program_that_runs_is_ours(machine: Lab) -> None:
    said = machine.sh(f"ctr run -d {DOLIUM} {IMAGE} c1 sleep 100; dolium-oci --root /run/containerd/runc/default list -q; ctr task rm -f c1; ctr c rm c1")
    assert said.stdout == "c1\n", said


def test_task(ctr: Pair) -> None:
    ctr.same(
        f"""ctr run -d $how --memory-limit 67108864 --cpus 0.5 $I c1 sh -c 'trap "exit 7" TERM; while :; do sleep 0.05; done'
        ctr task exec --exec-id e1 c1 id -u; ctr task exec --exec-id e2 c1 sh -c 'exit 42'; echo $?
        state() {{ ctr task ls | tail -1 | tr -s ' ' | cut -d ' ' -f 1,3; }}
        state; ctr task metrics c1 | grep -q memory.usage && echo measured
        {limits("default/c1")} | sed -n '1p;3p'
        ctr task pause c1; state; ctr task resume c1; state
        ctr task kill -s TERM c1; until ctr task ls | grep -q STOPPED; do :; done; ctr task rm c1; ctr c rm c1""",
        "^0\n42\nc1 RUNNING\nmeasured\n67108864\n50000\nc1 PAUSED\nc1 RUNNING\n.*",
    )


def test_exec_again_needs_no_python(ctr: Pair) -> None:
    name = "/usr/local/lib/dolium/dolium-oci"
    said = ctr.lab.sh(f"""ctr run -d $how $I c1 sleep 100; ctr task exec --exec-id e1 c1 true; mv {name} {name}.away
        ctr task exec --exec-id e2 c1 echo 'one & two'; ctr task exec --exec-id e3 c1 sh -c 'exit 42'; echo $?; mv {name}.away {name}
        ctr task rm -f c1 2>/dev/null; ctr c rm c1""", **ctr.ways["dolium"])  # fmt: skip
    assert said.stdout == "one & two\n42\n", said


def test_kill_and_forced_removal(ctr: Pair) -> None:
    ctr.same("ctr run -d $how $I c1 sleep 100; ctr task kill -s 9 c1; until ctr task ls | grep -q STOPPED; do :; done; ctr task ls | tail -1 | tr -s ' ' | cut -d ' ' -f 3; "
             "ctr task rm c1 2>/dev/null; ctr c rm c1", "STOPPED\n")  # fmt: skip
    ctr.same("ctr run -d $how $I c1 sh -c 'sleep 100 & sleep 100'; ctr task rm -f c1 2>/dev/null; ctr c rm c1; ctr c ls -q", "")
    ctr.same("ctr run -d $how $I c1 sleep 100; ctr task kill -a -s KILL c1; until ctr task ls | grep -q STOPPED; do :; done; ctr task rm c1 2>/dev/null; ctr c rm c1", "")


def test_what_it_is_given(ctr: Pair) -> None:
    ctr.same("ctr run --rm $how --read-only $I c1 touch /x", "touch: /x: Read-only file system\n")
    ctr.same("ctr run --rm $how --net-host $I c1 readlink /proc/self/ns/net | grep -cF $(readlink /proc/self/ns/net)", "1\n")
    ctr.same("ctr run --rm $how --privileged $I c1 grep CapEff /proc/self/status", "CapEff:\t000001fffeffffff\n")
    ctr.same("ctr run --rm $how --seccomp $I c1 grep Seccomp: /proc/self/status", "Seccomp:\t2\n")
    ctr.same("ctr run --rm $how --cgroup /own/c1 $I c1 grep pids: /proc/self/cgroup; rmdir /sys/fs/cgroup/*/own", "^8:pids:/own/c1\n.*")
    ctr.same("mkdir -p /tmp/v; echo text >/tmp/v/f; ctr run --rm $how --mount type=bind,src=/tmp/v,dst=/v,options=rbind:ro $I c1 sh -c 'cat /v/f; touch /v/x 2>&1'",
             "text\ntouch: /v/x: Read-only file system\n")  # fmt: skip


@pytest.mark.parametrize(("command", "says"), [("/nope", "no such file or directory"), ("nope", "nope"), ("/etc/passwd", "permission denied")])
def test_a_program_that_is_not_there(ctr: Pair, command: str, says: str) -> None:
    for ended in ctr.each(f"ctr run --rm $how $I c1 {command}; code=$?; ctr c rm c1 2>/dev/null; exit $code").values():
        assert ended.code == 1 and ended.stderr.count("\n") == 1 and says in ended.stderr.lower(), ended


def test_out_of_memory(ctr: Pair) -> None:
    ctr.same("ctr run --rm $how --memory-limit 20971520 $I c1 sh -c 'x=a; while :; do x=$x$x; done'; echo $?", "137\n")


# ---- as a kubelet does


def test_a_pod(machine: Lab) -> None:
    """By CRI; the runtime handler is that of the page."""
    said = {name: machine.sh(f"python3 {HERE}/cri.py {name}") for name in ("dolium", "runc")}
    assert said["dolium"].stdout == said["runc"].stdout == """\
sandbox ready, 10.90.0.x
exec: b'0\\n' b'' 0
exec: b'' b'no\\n' 5
exec of nothing fails
limits: 67108864 50000
same network and uts as the sandbox: True
stats: True
updated: 83886080 30000
log: True
stopped: exit code 9
pod stopped, and stopped again
gone
""", said
    assert not machine.left()


def test_what_pods_are_given(machine: Lab) -> None:
    """Namespaces that are shared and that are the node's, users and rights, filters, mounts, ends, limits, logs, streams."""
    said = {name: machine.sh(f"python3 {HERE}/pods.py {name}", seconds=200) for name in ("dolium", "runc")}
    assert said["dolium"].stdout == said["runc"].stdout == """\
the same in both: net ipc uts pid
settings: ['77', '1']
one file in /dev/shm:  text
pid 1: sleep and others: 2
a signal to the other: reached
as restricted as it goes: uid=1000 gid=3000 groups=2000,3000,4000
touch: /x: Read-only file system
CapEff:	0000000000000000
CapBnd:	0000000000000400
CapAmb:	0000000000000000
NoNewPrivs:	1
Seccomp:	2
one more and one less: CapEff:	00000000aa0425fa
CapBnd:	00000000aa0425fa
CapAmb:	0000000000000000
NoNewPrivs:	0
Seccomp:	0
by name: uid=65534(nobody) gid=65534(nobody) groups=65534(nobody)
a filter of its own: mkdir: can't create directory '/x': Operation not permitted
made
covered: 0
touch: /etc/x: Read-only file system
privileged: CapEff:	000001fffeffffff
mounted
devices
1
in a pod that is not: refused
the node's: net pid ipc uts
a setting of it: not allowed True
beside another: sh True
mounts: touch: /ro/x: Read-only file system
text
mounted later, seen in: ['slave', 'shared']
mounted inside, seen outside: True
a directory on a file: True
ended: 3 Error
ended: 0 Completed
ended: 137 OOMKilled
no program: True 0
limits: ['555', 'Cpus_allowed_list:', '0']
too long: True 0
updated: ['Cpus_allowed_list:', '1']
a bad update: True
log, then another: True True
stopped: 4
killed: 137
attached: b'got word\\n'
executed: b'out\\n' b'err\\n' 5
back: 1001
forwarded: True
terminal: True True 6
""", said
    assert not machine.left()


RESTARTED = """kill $(pgrep -x containerd); while pgrep -x containerd >/dev/null; do sleep 0.1; done
            setsid containerd >/tmp/containerd.log 2>&1 & until ctr version >/dev/null 2>&1; do sleep 0.1; done; """


def test_back_again(machine: Lab) -> None:
    """containerd forgets the runtime under a pod of it, which is still executed in, stopped and removed; none is made any more."""
    wired = files("containerd.md")[CONFIG]
    table = wired[wired.index("[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.dolium]") :]
    left = machine.sh(f"python3 {HERE}/left_pod.py make").stdout.strip()
    try:
        machine.write({CONFIG: wired.replace(table, "") + HERE_TOO})
        said = machine.sh(f"{RESTARTED}python3 {HERE}/left_pod.py try dolium; python3 {HERE}/left_pod.py end {left}; dolium-oci --root /run/containerd/runc/k8s.io list -q")
        assert (said.stdout, said.stderr) == ('"dolium" is configured\nin\n', ""), said
    finally:
        machine.write({CONFIG: wired + HERE_TOO})
        machine.sh(RESTARTED)
    assert not machine.left()


CRIU = checkpoints.missing()


@pytest.mark.skipif(bool(CRIU), reason=CRIU)
def test_checkpoint_and_restore(ctr: Pair) -> None:
    """Of a task that goes on; it is restored into another container."""
    ctr.same(
        """ctr run -d $how $I c1 sh -c 'i=0; while :; do i=$((i+1)); echo $i >/dev/shm/n; sleep 0.05; done'
        number() { ctr task exec --exec-id e$(date +%N) $1 cat /dev/shm/n; }
        further() { for _ in $(seq 100); do test "$(number $1)" -gt $2 && echo further && return; sleep 0.1; done; }
        further c1 3; before=$(number c1)
        ctr c checkpoint --image --rw --task c1 localhost/c1:taken >/dev/null
        further c1 $before
        ctr c restore --live c2 localhost/c1:taken >/dev/null; further c2 $before
        ctr task rm -f c1 2>/dev/null; ctr task rm -f c2 2>/dev/null; ctr c rm c1; ctr c rm c2; ctr image rm localhost/c1:taken >/dev/null""",
        "further\nfurther\nfurther\n",
    )
