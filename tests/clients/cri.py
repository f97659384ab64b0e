"""cri.py HANDLER: what a kubelet asks of containerd for one pod, by CRI (kubernetes/cri-api, runtime/v1); what it sees is printed.

It runs in the machine of the tests with Debian's grpcio.  The few messages are written here by the numbers of their fields."""

import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc

Fields = dict[int, Any]
POD = "/kubepods/podu1"


def number(value: int) -> bytes:
    """A varint; a negative one as protobuf has it, in ten bytes."""
    value &= (1 << 64) - 1
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def message(fields: Fields) -> bytes:
    """Fields by number: integers, words, messages and lists of them."""
    found = b""
    for key, value in fields.items():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, int):
                found += number(key << 3) + number(each)
            else:
                data = message(each) if isinstance(each, dict) else each.encode()
                found += number(key << 3 | 2) + number(len(data)) + data
    return found


def read_number(data: Iterator[int]) -> int:
    value = shift = 0
    while (byte := next(data)) & 0x80:
        value |= (byte & 0x7F) << shift
        shift += 7
    return value | byte << shift


def fields(data: bytes) -> Fields:
    """The last value of each field, messages and words as bytes."""
    found: Fields = {}
    rest = iter(data)
    for byte in rest:
        key = read_number(iter([byte, *([] if byte < 0x80 else [next(rest)])]))
        found[key >> 3] = read_number(rest) if key & 7 == 0 else bytes(next(rest) for _ in range(read_number(rest)))
    return found


channel = grpc.insecure_channel("unix:///run/containerd/containerd.sock", options=[("grpc.default_authority", "localhost")])


def call(name: str, asked: Fields) -> Fields:
    method = channel.unary_unary(f"/runtime.v1.RuntimeService/{name}", request_serializer=message, response_deserializer=fields)
    found: Fields = method(asked, timeout=30)
    return found


def limit(container: str, path: str) -> str:
    controller, name = path.split("/")
    with open(f"/sys/fs/cgroup/{controller}{POD}/{container}/{name}") as file:
        return file.read().strip()


def without_groups() -> None:
    """Remove the groups of pods, which are the kubelet's own."""
    for directory, _, _ in os.walk("/sys/fs/cgroup", topdown=False):
        if "/kubepods" in directory:
            os.rmdir(directory)


def main(handler: str) -> None:
    pod = {1: {1: "pod1", 2: "u1", 3: "default", 4: 0}, 2: "pod1", 3: "/tmp/logs", 8: {1: POD}}
    sandbox = call("RunPodSandbox", {1: pod, 2: handler})[1].decode()
    status = fields(call("PodSandboxStatus", {1: sandbox})[1])
    ready, address = status.get(3, 0) == 0, fields(status[5])[1].decode()
    print(f"sandbox {'ready' if ready else 'not ready'}, {address.rpartition('.')[0]}.x")
    script = "trap 'exit 9' TERM; echo log-line; hostname; while :; do sleep 0.05; done"
    resources = {1: 100000, 2: 50000, 4: 64 << 20}
    config = {1: {1: "c", 2: 0}, 2: {1: "docker.io/library/alpine:latest"}, 3: ["sh", "-c", script], 11: "c.log", 15: {1: resources}}
    made = call("CreateContainer", {1: sandbox, 2: config, 3: pod})[1].decode()
    call("StartContainer", {1: made})
    with open(f"/run/containerd/runc/k8s.io/{made}/state.json") as file:
        assert file.read().startswith('{"format":') == (handler == "dolium"), "made by another runtime"
    for command in (["id", "-u"], ["sh", "-c", "echo no >&2; exit 5"]):
        said = call("ExecSync", {1: made, 2: command, 3: 10})
        print("exec:", said.get(1, b""), said.get(2, b""), said.get(3, 0))
    try:
        call("ExecSync", {1: made, 2: ["/nope"], 3: 10})
    except grpc.RpcError as problem:
        print("exec of nothing", "fails" if "no such file or directory" in problem.details().lower() else problem.details())
    print("limits:", limit(made, "memory/memory.limit_in_bytes"), limit(made, "cpu/cpu.cfs_quota_us"))
    pids = []
    for each in (sandbox, made):
        with open(f"/sys/fs/cgroup/pids{POD}/{each}/cgroup.procs") as file:
            pids.append(file.readline().strip())
    print("same network and uts as the sandbox:", all(os.readlink(f"/proc/{pids[0]}/ns/{kind}") == os.readlink(f"/proc/{pids[1]}/ns/{kind}") for kind in ("net", "uts")))
    stats = fields(call("ContainerStats", {1: made})[1])
    print("stats:", fields(fields(stats[3])[2])[1] > 0)
    call("UpdateContainerResources", {1: made, 2: {1: 100000, 2: 30000, 4: 80 << 20}})
    print("updated:", limit(made, "memory/memory.limit_in_bytes"), limit(made, "cpu/cpu.cfs_quota_us"))
    with open("/tmp/logs/c.log") as file:
        lines = file.read()
    print("log:", " stdout F log-line\n" in lines and " stdout F pod1\n" in lines)
    call("StopContainer", {1: made, 2: 10})
    print("stopped: exit code", fields(call("ContainerStatus", {1: made})[1]).get(7, 0))
    call("RemoveContainer", {1: made})
    call("StopPodSandbox", {1: sandbox})
    call("StopPodSandbox", {1: sandbox})
    print("pod stopped, and stopped again")
    call("RemovePodSandbox", {1: sandbox})
    for _ in range(100):
        if not os.path.exists(f"/sys/fs/cgroup/pids{POD}/{sandbox}"):
            print("gone")
            break
        time.sleep(0.05)
    without_groups()


if __name__ == "__main__":
    main(*sys.argv[1:])
