"""What `dolium doctor` says of one thing, and the jobs that it may keep from being done.  Pure.

The ids are stable; hints of errors and programs name them.
"""


class Check:
    """One thing that was looked at.

    id      stable, kebab-case
    job     which of JOBS cannot be done without it; empty: none, it is only worth knowing
    ok      whether all is well
    found   what was found, in one line
    breaks  what does not work where it is not ok
    mend    one line for a shell that mends it; empty where none does
    """

    __slots__ = ("id", "job", "ok", "found", "breaks", "mend")

    def __init__(self, identity: str, job: str, ok: bool, found: str, breaks: str = "", mend: str = "") -> None:
        self.id = identity
        self.job = job
        self.ok = ok
        self.found = found
        self.breaks = breaks
        self.mend = mend

    def fields(self) -> "dict[str, object]":
        """All of them, for JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


JOBS = {
    "containers": "run containers as {who}",
    "kept": "... and keep what they write",
    "memory": "... with a memory limit",
    "cpu": "... with a CPU limit",
    "cpuset": "... on chosen CPUs",
    "pids": "... with a limit on processes",
    "devices": "... with rules on devices",
    "bridge": "... on a network with a way out",
    "images": "fetch and send images",
    "oci": "be an OCI runtime (dolium-oci)",
}
"""Job -> how it is called in `dolium doctor`.  All others need `containers`."""
LIMITS = {
    "memory": "--memory, --memory-swap",
    "cpu": "--cpus, --cpu-weight, --cpu-shares",
    "cpuset": "--cpuset-cpus",
    "pids": "--pids-limit",
    "devices": "--device with less than rw, and nodes of devices with --userns host",
}
"""Controller -> the flags that need it; asking for one of them without is an error."""


def works(job: str, made: "list[Check]") -> bool:
    """Whether a job can be done."""
    return all(each.ok for each in made if each.job in (job, "containers"))
