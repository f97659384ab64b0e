"""Lessons on what a container may use: cgroups and rlimits."""

TEXT = """
make_group
  what     makes a directory for this container in the cgroup file system. The kernel fills it with files: some to limit what
           the processes in it use together, some to count it.
  why      a limit must hold for all processes of a container together. A limit on each process is none: it starts two.
  here     first of all: limits are written into an empty group, so that nothing ever runs in it without them.
  without  nothing counts or bounds what runs inside: one container takes all memory and CPU of the host.
  man      cgroups(7) mkdir(2)
  see      /proc/PID/cgroup /sys/fs/cgroup

set_limit
  what     writes a number into a file of the container's group. The kernel enforces it from then on.
  why      what one container uses, all others on this host lack.
  here     before any process is in the group, so none ever runs without the limit.
  without  the container uses as much as the host has.
  man      cgroups(7)
  see      /proc/PID/cgroup

set_limit memory.max
  what     sets the most memory that all processes in the group may hold together; the kernel counts their pages, what they
           read from files, and what they write to a tmpfs.
  why      memory is the first thing that a host runs out of, and then the kernel kills somebody: without a limit perhaps not
           the one who took it.
  here     before any process is in the group: memory that is held already is not taken back by a limit.
  without  a leak, or `tail /dev/zero`, makes the host swap and then kill other people's processes.
  man      cgroups(7)
  see      /proc/PID/cgroup memory.max memory.current memory.events

set_limit memory.swap.max
  what     bounds the swap space that the group may use on top of its memory. On cgroup v1 the file counts both together.
  why      with swap left open, a limit of 64 MiB would mean 64 MiB and then the host's whole disk.
  here     after the memory limit: on cgroup v1 the sum of both may not be below it, and the kernel refuses that order.
  without  a container at its limit goes on, slowly, and its swapping slows all others down.
  man      cgroups(7)
  see      memory.swap.max memory.swap.current

set_limit memory.oom.group
  what     tells the kernel that the processes of this group live and die together: when memory runs out, it kills all of them.
  why      a container with one of its processes missing is a riddle; one that has ended can be started again.
  here     with the other limits on memory.
  without  the kernel picks one process, perhaps a worker, and the rest waits for it for ever.
  man      cgroups(7)
  see      memory.oom.group memory.events

set_limit cpu.max
  what     sets how many microseconds of CPU time the group gets in each period. Half a CPU is 50000 in every 100000. Who has
           used them up sleeps until the next period.
  why      a bound that holds also when the host is idle: the same speed on Sunday as on Monday.
  here     before any process is in the group.
  without  a busy loop takes every CPU that nobody else wants, and a share of those that others do.
  man      cgroups(7)
  see      cpu.max cpu.stat

set_limit cpu.cfs_period_us
  what     sets the length of the period that the CPU quota is for, in microseconds.
  why      a quota means nothing without its period.
  here     before the quota, which the kernel checks against it.
  without  the quota would be for the usual 100 ms, so another share than the one asked for.
  man      cgroups(7)
  see      cpu.stat

set_limit cpu.weight
  what     sets the group's share of the CPUs, compared with its neighbours, for times when there are not enough for all.
  why      it costs nothing while the host is idle, and lets the important go first when it is not.
  here     before any process is in the group.
  without  all containers weigh the same, and one with many processes gets no less for it.
  man      cgroups(7)
  see      cpu.weight cpu.stat

set_limit cpuset.cpus
  what     lists the CPUs that processes of the group may run on; the scheduler knows no others for them.
  why      it keeps others' caches warm, and measurements quiet.
  here     before any process is in the group; on cgroup v1 none may enter while the list is empty.
  without  it runs wherever there is room; taskset(1) in the container could choose freely.
  man      cpuset(7) sched_setaffinity(2)
  see      /proc/PID/status

set_limit cpuset.mems
  what     lists the memory nodes that the group may take memory from.
  why      cgroup v1 lets no process into a cpuset whose list of nodes is empty, and a new one begins empty.
  here     with the CPUs, before any process is in the group.
  without  entering the group fails with ENOSPC.
  man      cpuset(7)
  see      /proc/PID/status

set_limit pids.max
  what     sets the most processes and threads that the group may have at once; beyond it fork(2) fails with EAGAIN.
  why      process numbers and kernel memory for processes are the host's, and there are not many.
  here     before the first process is in the group: a fork bomb is faster than whoever writes the limit later.
  without  :(){ :|:& };: in the container takes every process number of the host; not even root can log in to kill it.
  man      cgroups(7) fork(2)
  see      pids.max pids.current

set_limit devices
  what     writes which devices processes of this cgroup v1 group may read, write and make nodes of: first that none, then the
           exceptions.
  why      a node is a door, and root may make nodes. With the host's users this list is what keeps the doors shut.
  here     before any process is in the group.
  without  `mknod sda b 8 0` in the container, and it reads the host's disk.
  man      cgroups(7) mknod(2)
  see      devices.list

device_filter
  what     attaches a small program to the container's group of cgroup v2; the kernel asks it at each use of a device whether
           that is allowed.
  why      a node is a door, and root may make nodes. Cgroup v2 has no list of devices to write, but takes a program.
  here     before any process is born in the group.
  without  `mknod sda b 8 0` in the container, and with the host's users it reads the host's disk.
  man      bpf(2) cgroups(7) mknod(2)
  see      /proc/PID/cgroup

watch_oom
  what     asks the cgroup v1 memory controller to signal an eventfd when the group has run out of memory.
  why      version 1 cannot kill a whole group by itself. dolium-keep waits on the eventfd and ends the container as one.
  here     once the group is there, before anything in it can run out of memory.
  without  the kernel kills one process, and the rest of the container waits for it.
  man      eventfd(2) cgroups(7)
  see      memory.oom_control

open
  what     opens the container's group of cgroup v2 and keeps the descriptor.
  why      clone3(2) can put a child into a group at its birth, and takes a descriptor for that, no path.
  here     after the group is made and limited, before the child is born.
  without  the child would run in the group of whoever called dolium until somebody moved it.
  man      openat2(2) clone(2) cgroups(7)
  see      /proc/PID/cgroup

open tasks
  what     opens the file `tasks` of the container's group in each cgroup v1 hierarchy, for writing. Nothing is written yet.
  why      the child will put itself into the groups by writing 0 there. Moving another process takes a lock of the whole
           kernel, moving oneself does not; and so dolium-init is not charged to the container.
  here     before the child is born: inside its own namespaces it no longer sees these paths.
  without  the container could not be put under the limits that were just written.
  man      cgroups(7)
  see      /proc/PID/cgroup

open /
  what     opens the root directory of the mount namespace that was just joined.
  why      working directories are looked up below this descriptor, and can lead nowhere else.
  here     after joining: now `/` is the container's.
  without  the process would start in a directory of the host.
  man      openat2(2)
  see      /proc/PID/root

write_fd
  what     the child writes 0 into the `tasks` file of each cgroup v1 hierarchy: the kernel takes it for `myself`.
  why      from here on it is limited and counted. All its children are born into the same groups.
  here     as early as it can, before it does anything that costs memory, and before it makes a cgroup namespace, which takes
           the present group for the root of what the container sees.
  without  the limits are written down, and nobody is bound by them.
  man      cgroups(7)
  see      /proc/PID/cgroup

rlimit
  what     sets a limit that the kernel keeps for each process by itself: the soft one, which a program may raise, and the hard
           one, up to which.
  why      cgroups count what all use together; open files, core dumps or the stack can only be limited process by process.
  here     while the process still has the capabilities to raise them, and before the program that they are for.
  without  the program gets the limits of whoever started dolium.
  man      getrlimit(2)
  see      /proc/PID/limits

rlimit processes
  what     bounds how many processes the container's user may have, since who is not root has no cgroup to count them in.
  why      since Linux 5.14 the kernel counts them for each user namespace, and this container has one of its own.
  here     before the program starts that might fork.
  without  a fork bomb inside takes all the processes that you may have.
  man      getrlimit(2) user_namespaces(7)
  see      /proc/PID/limits
"""
