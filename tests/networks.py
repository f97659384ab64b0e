"""Network namespaces of the tests' own, in which the whole command runs: the host's network is never touched."""

from __future__ import annotations

import os
import subprocess
from typing import Any

from containers import DOLIUM, Dolium, program, wait_for

HIDE = "umount -l -R /sys/fs/cgroup; mount -t tmpfs none /run; mount -t tmpfs none /var/lib"


class Site(Dolium):
    """A host of its own as far as its network goes, and the command in it.  Its end is the end of all that was made there.

    `alone`: there are no other containers either, nothing that was written down about them, and no cgroups.
    """

    def __init__(self, alone: bool = False) -> None:
        super().__init__()
        self.network = ""
        self.forgets = not alone
        hide = f"{HIDE}; " if alone else ""
        line = f"{hide}exec sleep infinity"
        self.holder = subprocess.Popen(["unshare", "--net", *(["--mount"] if alone else []), "sh", "-c", line])
        wait_for(lambda: program(self.holder.pid) == "sleep")
        self.path = f"/proc/{self.holder.pid}/ns/net"
        self.enter = ["nsenter", f"--net={self.path}", *([f"--mount=/proc/{self.holder.pid}/ns/mnt"] if alone else [])]
        self.command = [*self.enter, DOLIUM]
        self.sh("ip link set lo up; echo 0 >/proc/sys/net/ipv4/ip_forward")

    def sh(self, line: str, check: bool = True) -> str:
        """What a shell's line prints there."""
        ended = subprocess.run([*self.enter, "sh", "-c", line], capture_output=True, text=True)
        assert not check or ended.returncode == 0, (line, ended)
        return ended.stdout

    def uplink(self, subnet: str = "192.0.2") -> None:
        """A way out, to a router that answers to SUBNET.1 and knows nobody but its neighbours."""
        self.sh(f"ip link add out type veth peer name far && ip addr add {subnet}.2/24 dev out && ip link set out up")
        self.sh(f"ip netns list >/dev/null; ip link set far netns {self.router.pid}")
        self._at_router(f"ip link set lo up; ip addr add {subnet}.1/24 dev far && ip link set far up")
        self.sh(f"ip route add default via {subnet}.1")

    @property
    def router(self) -> subprocess.Popen[bytes]:
        """The namespace on the other side."""
        if not hasattr(self, "_router"):
            self._router = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
            own = os.readlink("/proc/self/ns/net")
            wait_for(lambda: os.readlink(f"/proc/{self._router.pid}/ns/net") != own)
        return self._router

    def _at_router(self, line: str) -> str:
        ended = subprocess.run(["nsenter", f"--net=/proc/{self.router.pid}/ns/net", "sh", "-c", line], capture_output=True, text=True)
        assert ended.returncode == 0, (line, ended)
        return ended.stdout

    def beyond(self, line: str) -> str:
        """What a shell's line prints on the other side of the way out."""
        return self._at_router(line)

    def links(self) -> set[str]:
        """The names of its network devices, but those that every namespace has."""
        names = {line.split(":")[1].split("@")[0].strip() for line in self.sh("ip -o link").splitlines()}
        return {each for each in names if each.startswith(("dol", "out", "docker", "veth"))}

    def close(self) -> None:
        """End it."""
        for each in (self.holder, getattr(self, "_router", None)):
            if each is not None:
                each.kill()
                each.wait()

    def run(self, *words: str, **how: Any) -> str:
        """The standard output of a run that succeeds, whatever it says besides."""
        ended = self("run", *words, **how)
        assert ended.code == 0, ended
        return ended.stdout
