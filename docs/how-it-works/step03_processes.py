"""Step 3, processes: the container's first process, born in its cgroup and in new namespaces.

In `dolium explain`: `clone3 mnt pid user`, `reset of signals, umask, session`, `PR_SET_PDEATHSIG`.
"""

import os
import signal
import sys

from kernel import CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWUSER, PR_SET_PDEATHSIG, call, clone3, show
from step01_limits import Group
from step02_mounts import own_mounts


def born(inside, group, own_users):
    """A child that is number 1 of its own processes and does `inside`; its pid as we see it."""
    sys.stdout.flush()
    child = clone3(CLONE_NEWNS | CLONE_NEWPID | (CLONE_NEWUSER if own_users else 0), group.fd)
    if child == 0:
        code = 1
        try:
            group.enter()
            reset()
            code = inside() or 0
        except OSError as error:
            print(f"refused {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(code)
    return child


def reset():
    """Nothing of the caller's is kept, and whoever started us takes us along when he dies."""
    os.setsid()  # no terminal of the caller's to type into, TIOCSTI
    os.umask(0o022)
    for number in (signal.SIGPIPE, signal.SIGINT):  # Python has changed these
        signal.signal(number, signal.SIG_DFL)
    call("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def ended(child):
    """Wait for it; its exit code as a shell has it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) % 256


if __name__ == "__main__":
    def inside():
        print(f"after   I am process {os.getpid()}", flush=True)
        show("after", "/proc/self/status", "NSpid")  # the old /proc still, which counts as the host does: step 7 mounts ours

    print(f"before  I am process {os.getpid()}")
    show("before", "/proc/self/status", "NSpid")
    root = os.geteuid() == 0
    own_mounts()
    sys.exit(ended(born(inside, Group(), root)))
