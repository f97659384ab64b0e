"""The config.json that `spec` writes: a shell in ./rootfs, to begin with."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
SAFE = ["nosuid", "noexec", "nodev"]


def _mount(destination: str, kind: str, source: str, *options: str) -> "dict[str, Any]":
    return {"destination": destination, "type": kind, "source": source, **({"options": [*options]} if options else {})}


def template(rootless: bool) -> "dict[str, Any]":
    """`rootless`: for a plain user, who has one id to give."""
    types = ["pid", "ipc", "uts", "mount", "cgroup", *(["user"] if rootless else ["network"])]
    pts = [*SAFE[:2], "newinstance", "ptmxmode=0666", "mode=0620", *([] if rootless else ["gid=5"])]
    system = ("/sys", "none", "/sys", "rbind", *SAFE, "ro") if rootless else ("/sys", "sysfs", "sysfs", *SAFE, "ro")
    ids = {key: [{"containerID": 0, "hostID": number, "size": 1}]
           for key, number in (("uidMappings", os.geteuid()), ("gidMappings", os.getegid()))}  # fmt: skip
    return {
        "ociVersion": "1.3.0",
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "dolium",
        "mounts": [
            _mount("/proc", "proc", "proc"),
            _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
            _mount("/dev/pts", "devpts", "devpts", *pts),
            _mount("/dev/shm", "tmpfs", "shm", *SAFE, "mode=1777", "size=65536k"),
            _mount("/dev/mqueue", "mqueue", "mqueue", *SAFE),
            _mount(*system),
            _mount("/sys/fs/cgroup", "cgroup", "cgroup", *SAFE, "relatime", "ro"),
        ],
        "linux": {
            **(ids if rootless else {"resources": {"devices": [{"allow": False, "access": "rwm"}]}}),
            "namespaces": [{"type": each} for each in types],
            "maskedPaths": ["/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                            "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/firmware",
                            "/sys/devices/virtual/powercap"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    }  # fmt: skip
