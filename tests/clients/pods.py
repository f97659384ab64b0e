"""pods.py HANDLER: what the containers of pods are given, asked for as a kubelet does; what they see is printed.

It runs in the machine of the tests, beside cri.py."""

import os
import subprocess
import sys
import time
from typing import Any

import grpc
from cri import Fields, call, fields, without_groups
from streams import STATUS, STDERR, STDOUT, Stream, code

OF_THE_POD, ITS_OWN, THE_NODES, ANOTHERS = range(4)
"""NamespaceMode"""
DEFAULT, UNCONFINED, LOCALHOST = ({1: each} for each in range(3))
"""SecurityProfile"""
SLEEP = ["sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.05; done"]
IMAGE = "docker.io/library/alpine:latest"


def words(mapping: dict[str, str]) -> list[Fields]:
    """map<string, string>"""
    return [{1: key, 2: value} for key, value in mapping.items()]


def spaces(network: int = OF_THE_POD, pid: int = ITS_OWN, ipc: int = OF_THE_POD, target: str = "") -> Fields:
    """NamespaceOption"""
    return {1: network, 2: pid, 3: ipc, **({4: target} if target else {})}


class Pod:
    """A sandbox, and what is made in it; `security` is LinuxSandboxSecurityContext."""

    def __init__(self, handler: str, name: str, security: Fields, sysctls: dict[str, str] | None = None) -> None:
        linux = {1: f"/kubepods/{name}", 2: security, 3: words(sysctls or {})}
        hostname = {} if security[1][1] == THE_NODES else {2: name}
        self.config: Fields = {1: {1: name, 2: name, 3: "default", 4: 0}, **hostname, 3: f"/tmp/logs-{name}", 8: linux}
        self.id = call("RunPodSandbox", {1: self.config, 2: handler})[1].decode()
        self.attempts = 0

    def run(self, command: list[str], security: Fields | None = None, mounts: list[Fields] | None = None, resources: Fields | None = None, **more: Any) -> str:
        """A container; `security` is LinuxContainerSecurityContext."""
        self.attempts += 1
        linux = {1: resources or {}, 2: {3: spaces(), **(security or {})}}
        config = {1: {1: "c", 2: self.attempts}, 2: {1: IMAGE}, 3: command, 7: mounts or [], 11: f"{self.attempts}.log", 15: linux, **more.get("config", {})}
        made: str = call("CreateContainer", {1: self.id, 2: config, 3: self.config})[1].decode()
        call("StartContainer", {1: made})
        return made

    def end(self) -> None:
        call("StopPodSandbox", {1: self.id})
        call("RemovePodSandbox", {1: self.id})

    def __enter__(self) -> "Pod":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def execute(container: str, script: str, timeout: int = 20) -> str:
    said = call("ExecSync", {1: container, 2: ["sh", "-c", f"exec 2>&1; {script}"], 3: timeout})
    return str(said.get(1, b"").decode().rstrip("\n"))


def ended(container: str) -> Fields:
    """ContainerStatus of one that has."""
    for _ in range(400):
        status = fields(call("ContainerStatus", {1: container})[1])
        if status.get(3, 0) == 2:
            return status
        time.sleep(0.05)
    raise AssertionError("it does not end")


def refusal(*attempt: Any, **how: Any) -> str:
    try:
        attempt[0](*attempt[1:], **how)
    except grpc.RpcError as problem:
        return str(problem.details())
    return "nothing is refused"


def shared(handler: str) -> None:
    """One network, IPC and PID namespace, with settings of the kernel."""
    with Pod(handler, "shared", {1: spaces(pid=OF_THE_POD)}, {"net.core.somaxconn": "77", "kernel.shm_rmid_forced": "1"}) as pod:
        first, second = (pod.run(SLEEP, {3: spaces(pid=OF_THE_POD)}) for _ in range(2))
        same = [kind for kind in ("net", "ipc", "uts", "pid", "mnt") if len({execute(each, f"readlink /proc/self/ns/{kind}") for each in (first, second)}) == 1]
        print("the same in both:", *same)
        print("settings:", execute(first, "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/shm_rmid_forced").split())
        print("one file in /dev/shm:", execute(first, "echo text >/dev/shm/f"), execute(second, "cat /dev/shm/f"))
        print("pid 1:", execute(second, "cat /proc/1/comm"), "and others:", execute(first, "until [ $(ps -o args | grep -c '^sh -c trap') = 2 ]; do :; done; echo 2"))  # a loop's fork looks like it
        print("a signal to the other:", execute(first, "for each in $(pgrep -f trap); do [ $each = 1 ] || kill -0 $each && echo reached; done | sort -u"))


def rights(handler: str) -> None:
    """Users, groups, capabilities, filters."""
    status = "grep -h '^Cap[EBA]\\|NoNew\\|Seccomp:' /proc/self/status"
    with Pod(handler, "rights", {1: spaces(), 3: {1: 65534}, 9: DEFAULT}) as pod:
        made = pod.run(SLEEP, {1: {1: ["NET_BIND_SERVICE"], 2: ["ALL"]}, 5: {1: 1000}, 12: {1: 3000}, 7: 1, 8: [2000, 4000], 11: 1, 15: DEFAULT})
        print("as restricted as it goes:", execute(made, f"id; touch /x; {status}"))
        made = pod.run(SLEEP, {1: {1: ["SYS_TIME"], 2: ["CHOWN"]}, 15: UNCONFINED})
        print("one more and one less:", execute(made, status))
        made = pod.run(SLEEP, {6: "nobody", 15: DEFAULT})
        print("by name:", execute(made, "id"))
        with open("/tmp/profile.json", "w") as file:
            file.write('{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}')
        made = pod.run(SLEEP, {15: {**LOCALHOST, 2: "localhost//tmp/profile.json"}})
        print("a filter of its own:", execute(made, "mkdir /x; touch /y && echo made"))
        made = pod.run(SLEEP, {13: ["/etc/passwd"], 14: ["/etc"]})
        print("covered:", execute(made, "wc -c </etc/passwd; touch /etc/x"))


def privileged(handler: str) -> None:
    with Pod(handler, "privileged", {1: spaces(), 6: 1}) as pod:
        made = pod.run(SLEEP, {2: 1})
        print("privileged:", execute(made, "grep CapEff /proc/self/status; mount -t tmpfs none /mnt && echo mounted; test -e /dev/kmsg && echo devices; grep -c Seccomp:.0 /proc/self/status"))
    print("in a pod that is not:", end=" ")
    with Pod(handler, "plain", {1: spaces()}) as pod:
        print("refused" if "privileged" in refusal(pod.run, SLEEP, {2: 1}) else "made")


def the_nodes(handler: str) -> None:
    node = spaces(THE_NODES, THE_NODES, THE_NODES)
    with Pod(handler, "node", {1: node}) as pod:
        made = pod.run(SLEEP, {3: node})
        print("the node's:", *(kind for kind in ("net", "pid", "ipc", "uts", "mnt") if execute(made, f"readlink /proc/self/ns/{kind}") == os.readlink(f"/proc/self/ns/{kind}")))
    print("a setting of it:", "not allowed" if refusal(Pod, handler, "node2", {1: node}, {"net.core.somaxconn": "78"}) != "nothing is refused" else "set",
          open("/proc/sys/net/core/somaxconn").read() != "78\n")  # noqa: SIM115


def another(handler: str) -> None:
    """As a container for debugging comes in."""
    with Pod(handler, "another", {1: spaces()}) as pod:
        first = pod.run(SLEEP)
        second = pod.run(["sleep", "1000"], {3: spaces(pid=ANOTHERS, target=first)})
        print("beside another:", execute(second, "cat /proc/1/comm; pgrep sleep | wc -l").split()[0], execute(second, "readlink /proc/1/ns/pid") == execute(first, "readlink /proc/1/ns/pid"))


def mounts(handler: str) -> None:
    shell = subprocess.run
    shell("mkdir -p /tmp/prop && mount -t tmpfs prop /tmp/prop && mount --make-rshared /tmp/prop && mkdir /tmp/prop/late /tmp/prop/own && echo text >/tmp/prop/f", shell=True, check=True)
    try:
        with Pod(handler, "mounts", {1: spaces(), 6: 1}) as pod:
            given = [{1: f"/{name}", 2: "/tmp/prop", 5: kind} for name, kind in (("private", 0), ("slave", 1), ("shared", 2))]
            made = pod.run(SLEEP, {2: 1}, [*given, {1: "/ro", 2: "/tmp/prop", 3: 1}, {1: "/etc/motd", 2: "/tmp/prop/f"}])
            print("mounts:", execute(made, "touch /ro/x; cat /etc/motd"))
            shell("mount -t tmpfs late /tmp/prop/late && touch /tmp/prop/late/here", shell=True, check=True)
            print("mounted later, seen in:", execute(made, "for each in private slave shared; do test -e /$each/late/here && echo $each; done").split())
            execute(made, "mount -t tmpfs own /shared/own && touch /shared/own/there")
            print("mounted inside, seen outside:", os.path.exists("/tmp/prop/own/there"))
            shell("umount /tmp/prop/late /tmp/prop/own", shell=True, check=True)
            print("a directory on a file:", "director" in refusal(pod.run, SLEEP, None, [{1: "/etc/passwd", 2: "/tmp/prop"}]).lower())
    finally:
        shell("umount -R /tmp/prop", shell=True, check=True)


def life(handler: str) -> None:
    with Pod(handler, "life", {1: spaces()}) as pod:
        for command, limits in ((["sh", "-c", "exit 3"], {}), (["true"], {}), (["sh", "-c", "x=a; while :; do x=$x$x; done"], {4: 20 << 20})):
            status = ended(pod.run(command, resources={5: 500, **limits}))
            print("ended:", status.get(7, 0), status[10].decode())
        said = refusal(pod.run, ["/nope"])
        print("no program:", "no such file or directory" in said.lower(), said.count("\n"))
        made = pod.run(SLEEP, resources={5: 555, 6: "0", 3: 512})
        print("limits:", execute(made, "cat /proc/self/oom_score_adj; grep Cpus_allowed_list /proc/self/status").split())
        print("too long:", "exceeded" in refusal(execute, made, "sleep 77", timeout=1), execute(made, "pgrep -f '[s]leep 77' | wc -l"))
        call("UpdateContainerResources", {1: made, 2: {6: "1", 4: 50 << 20}})
        print("updated:", execute(made, "grep Cpus_allowed_list /proc/self/status").split())
        print("a bad update:", refusal(call, "UpdateContainerResources", {1: made, 2: {6: "99"}}) != "nothing is refused")
        made = pod.run(["sh", "-c", "tty; stty size; trap 'exit 4' TERM; while :; do echo line; sleep 0.2; done"], config={14: 1})
        time.sleep(0.5)
        log = f"{pod.config[3]}/{pod.attempts}.log"
        os.rename(log, f"{log}.1")
        call("ReopenContainerLog", {1: made})
        time.sleep(0.5)
        print("log, then another:", "/dev/pts/0" in open(f"{log}.1").read(), "line" in open(log).read())  # noqa: SIM115
        call("StopContainer", {1: made, 2: 10})
        print("stopped:", ended(made).get(7))
        made = pod.run(["sleep", "1000"])
        call("StopContainer", {1: made, 2: 0})
        print("killed:", ended(made).get(7))


def streams(handler: str) -> None:
    with Pod(handler, "streams", {1: spaces()}) as pod:
        serving = pod.run(["sh", "-c", "while :; do echo served | nc -l -p 8080 >/dev/null; done"])
        made = pod.run(["sh", "-c", "read -r line; echo got $line; sleep 1000"], config={12: 1})
        attached = Stream(call("Attach", {1: made, 2: 1, 4: 1, 5: 1})[1].decode())
        attached.send(b"word\n")
        print("attached:", attached.until(b"word\n"))
        found = Stream(call("Exec", {1: serving, 2: ["sh", "-c", "echo out; echo err >&2; exit 5"], 5: 1, 6: 1})[1].decode()).rest()
        print("executed:", found.get(STDOUT), found.get(STDERR), code(found[STATUS]))
        asked = Stream(call("Exec", {1: serving, 2: ["cat"], 4: 1, 5: 1})[1].decode())
        asked.send(b"x" * 1000 + b"\n")
        print("back:", len(asked.until(b"\n")))
        terminal = Stream(call("Exec", {1: serving, 2: ["sh"], 3: 1, 4: 1, 5: 1})[1].decode())
        terminal.send(b'{"Width": 99, "Height": 33}', 4)
        terminal.send(b"until stty size | grep 33; do :; done; tty; exit 6\n")
        found = terminal.rest()
        forwarded = Stream(call("PortForward", {1: pod.id, 2: 8080})[1].decode() + "?port=8080")
        print("forwarded:", forwarded.until(b"served\n").endswith(b"served\n"))
        print("terminal:", b"33 99" in found[STDOUT], b"/dev/pts/" in found[STDOUT], code(found[STATUS]))


def main(handler: str) -> None:
    for each in (shared, rights, privileged, the_nodes, another, mounts, life, streams):
        try:
            each(handler)
        except grpc.RpcError as problem:
            print(each.__name__, "FAILED:", problem.details())
    without_groups()


if __name__ == "__main__":
    main(*sys.argv[1:])
