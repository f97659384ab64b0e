"""Step 1, limits: a group in the cgroup file system, limited before anything lives in it.

In `dolium explain`: `mkdir dolium/ID`, `memory.max`, `memory.swap.max`, `pids.max`.
"""

import contextlib
import os

from kernel import show

NAME = f"how-it-works-{os.getpid()}"
V2 = {"memory.max": "64M", "memory.swap.max": "0", "memory.oom.group": "1", "pids.max": "64"}
V1 = {"memory": {"memory.limit_in_bytes": "64M", "memory.memsw.limit_in_bytes": "64M"}, "pids": {"pids.max": "64"}}


class Group:
    """A group: its directories, and, of cgroup v2, a descriptor that a child can be born into."""

    def __init__(self):
        self.paths, self.fd = [], None

    def make(self, path, limits):
        os.mkdir(path)
        self.paths.append(path)
        for name, value in limits.items():
            file = f"{path}/{name}"
            if os.path.exists(file) or name in ("memory.max", "pids.max"):  # no file for swap where the kernel has none
                with open(file, "w") as limit:
                    limit.write(value)
                print(f"limit   {file} = {value}", flush=True)

    def enter(self):
        """The caller enters; cgroup v1 alone needs this, `0` is whoever writes it."""
        for path in self.paths if self.fd is None else []:
            with open(f"{path}/cgroup.procs", "w") as procs:
                procs.write("0")

    def remove(self):
        """When nobody is in it any more."""
        if self.fd is not None:
            os.close(self.fd)
        for path in self.paths:
            os.rmdir(path)


@contextlib.contextmanager
def limits():
    """A limited group, gone afterwards.  Where this user may make none, we say so: dolium would make it an error."""
    group = Group()
    try:
        if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
            with open("/sys/fs/cgroup/cgroup.subtree_control", "w") as control:
                control.write("+memory +pids")
            group.make(f"/sys/fs/cgroup/{NAME}", V2)
            group.fd = os.open(group.paths[0], os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            for controller, chosen in V1.items():
                group.make(f"/sys/fs/cgroup/{controller}/{NAME}", chosen)
    except OSError as error:
        print(f"limit   none: {error}", flush=True)
    try:
        yield group
    finally:
        group.remove()


if __name__ == "__main__":
    with limits() as group:
        show("before", "/proc/self/cgroup")
        child = os.fork()
        if child == 0:
            if group.fd is not None:  # step 3 does better: born inside
                with open(f"{group.paths[0]}/cgroup.procs", "w") as procs:
                    procs.write("0")
            group.enter()
            show("after", "/proc/self/cgroup")
            hog = bytearray(100 << 20)  # more than 64 MiB: the kernel kills us here
            print(f"after   holds {len(hog) >> 20} MiB: no limit", flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(f"after   ended by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "after   ended by itself")
