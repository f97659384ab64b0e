"""Step 5, names: a host name, message queues, a network and a view of the cgroups of its own.

In `dolium explain`: `unshare cgroup ipc net uts`, `sethostname`, `set lo up`.
"""

import fcntl
import socket
import struct
import sys

from kernel import CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWUTS, call, show
from step04_users import container

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1  # netdevice(7)


def own_names(hostname):
    """Whatever is left that has a name: from here on nothing of the host's can be named."""
    call("unshare", CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS)
    socket.sethostname(hostname)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:  # lo: itself, and nobody else
        asked = fcntl.ioctl(any_socket, SIOCGIFFLAGS, struct.pack("16sh14x", b"lo", 0))
        (flags,) = struct.unpack_from("h", asked, 16)
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def devices():
    """The network devices that this process can use."""
    return ", ".join(name for _, name in socket.if_nameindex())


if __name__ == "__main__":
    def inside():
        print(f"before  I am on {socket.gethostname()!r}, with {devices()}", flush=True)
        show("before", "/proc/self/ns/net")
        own_names("jar")
        show("after", "/proc/self/ns/net")
        print(f"after   I am on {socket.gethostname()!r}, with {devices()}", flush=True)

    sys.exit(container(inside))
