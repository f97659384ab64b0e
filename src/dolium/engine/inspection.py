"""All that is known of one container, in the shape and under the names that `docker inspect` has, and what Docker has no name
for under `Dolium`.  docs/reference/inspect.md lists the keys; they stay.

What it was asked to be comes from what is remembered, how it runs from the kernel, at this moment.
"""

import os
from time import gmtime, monotonic, sleep, strftime

from dolium.engine import config, life, networks
from dolium.errors import StateError
from dolium.plan.quantities import SIGNALS
from dolium.runtime import host, process, usage
from dolium.runtime.lease import ID_SIZE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dolium.engine.store import Container

PATIENCE = 2.0
"""Seconds that whoever watches over a container which has just ended gets to write that down."""
ALL_IDS = (1 << 32) - 1
NEVER = "0001-01-01T00:00:00Z"
"""What Docker says for a time that has not come."""


def inspect(container: "Container") -> "dict[str, Any]":
    """The whole document.  A container that ends meanwhile is shown ended.  Raises NotFound, OSError and DoliumError."""
    now = life.state_once_begun(container)
    live: dict[str, Any] = {}
    if now["status"] == "running":
        deadline = monotonic() + PATIENCE
        while not live and now["status"] == "running" and monotonic() < deadline:
            live = _look(container)
            now = live.pop("now", None) or life.state(container)
            sleep(0 if live else 0.002)
    options = config.Options() if container.damage else container.request()
    options.argv = options.argv or ["?"]
    return {
        "Id": container.id, "Name": container.name, "Created": _time(container.created),
        "Path": options.argv[0], "Args": options.argv[1:], "State": _state(now, live),
        "Image": container.image, "LogPath": _log(container), "Mounts": _mounts(options),
        "HostConfig": _host_config(container, options), "Config": _config(container, options),
        "NetworkSettings": _network(container, options, now), "Dolium": _own(container, now, live),
    }  # fmt: skip


def _look(container: "Container") -> "dict[str, Any]":
    """What the kernel says of a container that runs; empty where it has ended by now."""
    try:
        fd, now = life.first_process(container, "running")
    except StateError:
        return {}
    try:
        pid, groups = now["pid"], now["groups"]
        own = process.namespaces(pid)
        there = usage.members(groups)
        if there is None:
            there = process.of_namespace(own["pid"]) if own["pid"] else [pid]
        found = {"now": {"status": "running", **now}, "pid": pid, "process": process.status(pid), "namespaces": own,
                 "memory": usage.memory(groups["memory"]) if "memory" in groups else None,
                 "cpu": usage.cpu_limit(groups["cpu"]) if "cpu" in groups else None, "cpu_seconds": usage.cpu_seconds(groups),
                 "pids": usage.pids(groups["pids"]) if "pids" in groups else None,
                 "members": [row for each in there if (row := _member(each))]}  # fmt: skip
        return {} if life.has_ended(fd, 0) else found
    except (FileNotFoundError, ProcessLookupError):
        return {}
    finally:
        os.close(fd)


def _member(pid: int) -> "dict[str, Any] | None":
    try:
        found = process.status(pid)
        return {"Pid": pid, "Inside": found["inside"], "Uid": found["uid"], "State": found["state"],
                "Command": process.command(pid)}  # fmt: skip
    except (FileNotFoundError, ProcessLookupError):
        return None


def _time(seconds: "float | None") -> str:
    if seconds is None:
        return NEVER
    return strftime("%Y-%m-%dT%H:%M:%S", gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06}Z"


def _state(now: "dict[str, Any]", live: "dict[str, Any]") -> "dict[str, Any]":
    return {"Status": now["status"], "Running": now["status"] == "running", "Paused": False, "Restarting": False,
            "OOMKilled": now.get("out_of_memory", False), "Dead": now["status"] == "dead", "Pid": live.get("pid", 0),
            "ExitCode": now.get("exit_code", 0), "Error": now["reason"] if now["status"] == "dead" else "",
            "StartedAt": _time(now.get("started")),
            "FinishedAt": _time(now.get("finished"))}  # fmt: skip


def _log(container: "Container") -> str:
    path = f"{container.path}/log"
    return path if os.path.exists(path) else ""


def _mounts(options: config.Options) -> "list[dict[str, Any]]":
    found = [{"Type": "bind", "Source": source, "Destination": path, "Mode": "ro" if read_only else "", "RW": not read_only,
              "Propagation": "rprivate"} for source, path, read_only in options.volumes]  # fmt: skip
    return found + [{"Type": "tmpfs", "Source": "", "Destination": path, "Mode": ",".join(extra), "RW": "ro" not in extra,
                     "Propagation": ""} for path, extra in options.tmpfs]  # fmt: skip


def _host_config(container: "Container", options: config.Options) -> "dict[str, Any]":
    memory = options.memory or 0
    security = [] if options.seccomp is None else ["seccomp=unconfined" if options.seccomp == "unconfined" else "seccomp=profile"]
    return {
        "Memory": memory, "MemorySwap": memory if options.memory_swap is None else options.memory_swap,
        "NanoCpus": round((options.cpus or 0) * 1e9), "CpuShares": options.cpu_shares or 0, "CpusetCpus": options.cpuset_cpus or "",
        "PidsLimit": config.PIDS if options.pids is None else options.pids, "OomScoreAdj": options.oom_score_adj or 0,
        "Ulimits": [{"Name": name.removeprefix("RLIMIT_").lower(), "Soft": soft, "Hard": hard}
                    for name, soft, hard in options.ulimits],
        "Sysctls": options.sysctl, "NetworkMode": options.network or networks.usual(host.facts()),
        "Dns": options.dns, "DnsOptions": options.dns_options, "DnsSearch": options.dns_search,
        "ExtraHosts": [f"{name}:{address}" for name, address in options.add_hosts],
        "Binds": [f"{source}:{path}{':ro' if read_only else ''}" for source, path, read_only in options.volumes],
        "Tmpfs": {path: ",".join(extra) for path, extra in options.tmpfs},
        "Devices": [{"PathOnHost": source, "PathInContainer": path, "CgroupPermissions": access}
                    for source, path, access in options.devices],
        "CapAdd": options.cap_add, "CapDrop": options.cap_drop, "UsernsMode": options.userns,
        "SecurityOpt": security + ([] if options.no_new_privileges else ["no-new-privileges=false"]),
        "ReadonlyRootfs": options.read_only, "Init": options.init, "AutoRemove": container.remove, "Privileged": False,
    }  # fmt: skip


def _config(container: "Container", options: config.Options) -> "dict[str, Any]":
    number = container.stop_signal
    return {
        "Hostname": options.hostname or container.id, "User": container.user or "", "WorkingDir": options.cwd or "/",
        "Env": [f"{name}={value}" for name, value in options.env.items()], "Cmd": options.argv, "Image": container.image,
        "Labels": container.labels, "StopSignal": f"SIG{SIGNALS[number - 1]}" if number <= len(SIGNALS) else str(number),
        "StopTimeout": container.stop_timeout,
    }  # fmt: skip


def _network(container: "Container", options: config.Options, now: "dict[str, Any]") -> "dict[str, Any]":
    cable = now.get("cable") or {}
    place = {"IPAddress": cable.get("address", ""), "IPPrefixLen": cable.get("prefix", 0), "Gateway": cable.get("gateway", "")}
    kind = (options.network or networks.usual(host.facts())).partition(":")[0]
    key = f"/proc/{now['pid']}/ns/net" if now["status"] == "running" else ""
    return {"SandboxKey": key, **place, "Networks": {} if kind in ("container", "ns") else {kind: place}}


def _own(container: "Container", now: "dict[str, Any]", live: "dict[str, Any]") -> "dict[str, Any]":
    running = now["status"] == "running"
    return {
        "Ended": {"Reason": now["reason"], "Signal": now["signal"], "PeakMemory": now["peak_memory"],
                  "CpuSeconds": now["cpu_seconds"]} if now["status"] == "exited" else None,
        "Process": live and {"State": live["process"]["state"], "Threads": live["process"]["threads"]} or None,
        "Processes": live.get("members"),
        "Memory": _named(live.get("memory")), "Cpu": _named(live.get("cpu")), "CpuSeconds": live.get("cpu_seconds"),
        "Pids": _named(live.get("pids")),
        "Namespaces": _namespaces(live["namespaces"]) if live else None,
        "Users": _users(now) if running else None,
        "Cgroups": now["groups"] if running else None, "Lease": now["lease"] if running else None,
        "Rootfs": container.image, "Upper": "" if container.remove else f"{container.path}/upper",
    }  # fmt: skip


def _named(found: "dict[str, Any] | None") -> "dict[str, Any] | None":
    """In the document's spelling; what the kernel has named stays as it is."""
    return found and {name.title().replace("_", ""): value for name, value in found.items()}


def _namespaces(own: "dict[str, int | None]") -> "dict[str, dict[str, Any]]":
    ours = process.namespaces("self")
    return {name: {"Container": inode, "Host": ours.get(name), "Own": inode != ours.get(name) if inode else None}
            for name, inode in own.items()}  # fmt: skip


def _users(now: "dict[str, Any]") -> "dict[str, Any]":
    facts = host.facts()
    if facts.rootless:
        return {"Own": True, "First": facts.uid, "Count": 1, "Note": "a plain user's containers have one user: its own"}
    own = now["id_base"] > 0
    return {"Own": own, "First": now["id_base"], "Count": ID_SIZE if own else ALL_IDS, "Note": now.get("note", "")}
