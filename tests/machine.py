"""A host of the tests' own as far as Dolium's directories go: nothing is known of other containers, and it can be rebooted."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from typing import Any

import leaks
from containers import DOLIUM, Dolium, program, wait_for

UNIFIED = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
PLACES = ("/run/dolium/leases", "/run/dolium/running", "/var/lib/dolium/containers", "/var/lib/dolium/names")


class Machine(Dolium):
    """The command, run by root, with /run and /var/lib/dolium of its own; `size` of the latter, as mount(8) has it.

    A second /proc, of which nothing is hidden: over the first one `reboot` mounts a file, and a container of its own users may
    mount a fresh one only where one is whole (mount_too_revealing() in the kernel's fs/namespace.c).
    """

    def __init__(self, size: str = "64m") -> None:
        super().__init__(forgets=False)
        line = ("mount -t tmpfs -o mode=755 run /run; mkdir /run/proc && mount -t proc proc /run/proc && mkdir -p -m 700 /var/lib/dolium && "
                f"mount -t tmpfs -o mode=700,size={size} data /var/lib/dolium; exec sleep infinity")  # fmt: skip
        self.holder = subprocess.Popen(["unshare", "--mount", "--propagation", "private", "sh", "-c", line])
        wait_for(lambda: program(self.holder.pid) == "sleep")
        self.enter = ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt"]
        self.command = [*self.enter, DOLIUM]
        self.root = f"/proc/{self.holder.pid}/root"

    def sh(self, line: str) -> str:
        """What a shell's line prints there."""
        ended = subprocess.run([*self.enter, "sh", "-c", line], capture_output=True, text=True)
        assert ended.returncode == 0, (line, ended)
        return ended.stdout

    def rows(self) -> dict[str, dict[str, Any]]:
        """What `ps -a` says, by name."""
        ended = self("ps", "-a", "--format", "json")
        assert (ended.code, ended.stderr) == (0, ""), ended
        return {row["Names"]: row for row in map(json.loads, ended.stdout.splitlines())}

    def lives(self, identity: str) -> bool:
        """Whether the kernel has a process of that container."""
        for each in UNIFIED:
            try:
                with open(f"{each}/dolium/{identity}/cgroup.procs") as file:
                    return bool(file.read())
            except OSError:
                pass
        return False

    def is_true(self) -> bool:
        """Whether `ps` says of all containers what the kernel says."""
        return all((row["State"] == "running") == self.lives(row["ID"]) for row in self.rows().values())

    def files(self) -> set[str]:
        """What there is in Dolium's directories."""
        return {f"{place}/{name}" for place in PLACES if os.path.isdir(self.root + place) for name in os.listdir(self.root + place)}

    def reboot(self) -> None:
        """All that a reboot takes: processes, cgroups, /run; and the kernel says that it is another run of it."""
        for row in self.rows().values():
            if row["State"] == "running":
                try:
                    with open(f"/proc/{row['Pid']}/stat") as file:
                        watcher = int(file.read().rpartition(")")[2].split()[1])
                except FileNotFoundError:  # it has ended since
                    continue
                os.kill(watcher, signal.SIGKILL)
                wait_for(lambda pid=row["Pid"]: leaks.reap() or not os.path.exists(f"/proc/{pid}"))
        groups = {line for each in os.listdir(f"{self.root}/run/dolium/leases") for line in self._lease(each)[1:]}
        for group in groups:
            wait_for(lambda group=group: _removed(group))
        self.sh(f"rm -rf /run/dolium; echo {uuid.uuid4()} >/run/boot; mount --bind /run/boot /proc/sys/kernel/random/boot_id")

    def _lease(self, name: str) -> list[str]:
        with open(f"{self.root}/run/dolium/leases/{name}") as file:
            return file.read().splitlines()

    def close(self) -> None:
        """End it, and all containers there."""
        self("rm", "-f", *self.rows())
        self.holder.kill()
        self.holder.wait()


def _removed(group: str) -> bool:
    try:
        os.rmdir(group)
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True
