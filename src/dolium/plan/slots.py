"""Numbers for what is known only at run time: one step fills a slot with a descriptor, later steps name it."""

CGROUP = 0
"""the container's cgroup v2 directory, which the child is born in"""
LEASE = 1
"""the locked file that says the container lives"""
OOM = 2
"""eventfd of the cgroup v1 out-of-memory event"""
KEEP = 3
"""the program dolium-keep"""
USERS = 4
"""the container's user namespace"""
MOUNTS = 5
"""the container's mount namespace"""
ROOT = 6
"""the container's rootfs, a mount"""
LOWER = 7
"""the image's files, below the overlay"""
STORE = 8
"""the tmpfs that holds the overlay's upper directory"""
DEV = 9
"""the container's /dev"""
EMPTY = 10
"""an empty read-only directory to cover others with"""
PROC = 11
"""the container's /proc"""
NULL = 12
"""a bind mount of the host's /dev/null (only where device nodes cannot be made)"""
RECORD = 15
"""the directory that dolium-keep leaves its record in"""
MOUNT = 13
"""a new mount on its way to its place"""
NESTED = 14
"""a new mount on its way into the one before"""
CONTAINER = 20
"""a pidfd of the first process of a container that runs, for another one to join it"""
OUT = 21
"""what a detached container prints, to be read by dolium-keep"""
ERR = 22
"""the same of its stderr"""
LOG = 23
"""the file that both go into"""
FIRST_FILE = 24
"""files of ours that cover an image's, such as /etc/hosts; at most five"""
SYS = 29
"""the /sys of a network that is another's"""
NETWORK = 30
"""the container's network namespace, its own or one that it shares"""
HOST_NETWORK = 31
"""the caller's own"""
FILE = 16
"""a file in a container that runs, opened for the owner"""
MASTER = 17
"""the program's terminal, the end that is written to and read from outside the container"""
SLAVE = 18
"""the end that the program has"""
LINKS = 248
"""short names for the layers of an image, for a kernel that takes them in one short line"""
FIRST_TASKS = 32
"""`tasks` files of cgroup v1 hierarchies, of which the kernel has fewer than sixteen"""
FIRST_MOUNT = 48
"""one for each bind mount"""
DENIALS = 249
"""the socket of who listens to what the system call filter refuses"""
START = 19
"""the socket on which a created container waits for `start`, and one that is made in advance for its command"""
FIRST_USERS = 234
"""user namespaces that only hold a mapping of ids for mounts; at most six"""
FIRST_JOINED = 240
"""namespaces that a container joins; at most eight"""
SNAPSHOTS = 233
"""the directory of snapshots, whose layers come above the image's"""
