"""Lessons on what only the config of an engine asks for (`dolium-oci`)."""

TEXT = """
ask
  what     asks Python, which carries out the steps of the host that come next, and waits until it says to go on.
  why      some things must be done by a process in your namespaces while the container is half made, hooks above all.
  here     when what those steps need is there.
  without  hooks could not be run in between. A maker that dies would leave a container behind that nobody knows.
  man      unix(7)
  see      /proc/PID/status

record
  what     writes down which process is the container's first, with the time it was started and the boot.
  why      from here on `delete --force` finds it, whatever becomes of who makes it.
  here     before anything that may take long.
  without  a `create` that is killed leaves a process that nothing leads to.
  man      proc(5)
  see      /proc/PID/stat

hook
  what     runs a program of the host that the config names, and gives it the container's state on its standard input.
  why      engines lay networks and prepare devices so.
  here     at the place that the specification gives to hooks of this kind.
  without  a container of Docker has no network.
  man      execve(2)
  see      /proc/PID/status

move_device
  what     moves a network device of the host into the container's network, with its lasting addresses, and sets it up.
  why      the config gives the container that device.
  here     as soon as the container has its network, and before the hooks, which may go on from there.
  without  the container does not have the device.
  man      network_namespaces(7) rtnetlink(7)
  see      /proc/PID/net/dev

make_users
  what     makes a user namespace with a mapping of ids, by a process that is gone at once, and keeps it open.
  why      a mount is to show its files as owned by others than they are.
  here     before dolium-init starts, which gets it as a descriptor.
  without  the files of the mount belong to nobody in the container.
  man      user_namespaces(7) mount_setattr(2)
  see      /proc/PID/uid_map

call
  what     makes one system call of which only the number and the arguments matter.
  why      the config asks for what it sets.
  here     while the process still may.
  without  the kernel's usual value holds.
  man      prctl(2)
  see      /proc/PID/status

home
  what     looks for the program's user in what inside has read, and writes HOME into the plan.
  why      engines name no HOME and rely on the runtime for it, as runc has it.
  here     when the container's /etc/passwd is in its place, and before the user has become that user.
  without  programs that look for their settings at home fail.
  man      passwd(5)
  see      /proc/PID/environ

notify
  what     sends the listener of the filter to an agent of the engine, with a word on which process it is about.
  why      the agent decides about the calls that the filter leaves to it, and may carry some out itself.
  here     as soon as the filter is loaded: a call that nobody answers waits for ever.
  without  the program stops at the first such call.
  man      seccomp_unotify(2) unix(7)
  see      /proc/PID/status

map_users
  what     has newuidmap(1) and newgidmap(1) write which ids of the host the container's users are.
  why      they are set-user-ID, and know by /etc/subuid and /etc/subgid which ids are yours to give.
  here     as soon as there is a user namespace: before, everybody in it is nobody.
  without  a plain user's container has one user.
  man      newuidmap(1) subuid(5)
  see      /proc/PID/uid_map

own_group
  what     gives the container's user its own cgroup v2 directory, and the files in it that the kernel lists as safe to give.
  why      the container may make groups of its own below, as systemd in it does.
  here     when its limits are written: their files stay root's.
  without  the container can divide nothing.
  man      cgroups(7)
  see      /proc/PID/cgroup

start_unit
  what     has systemd make the container's group, as a scope with its first process in it, and waits until that is done.
  why      where systemd runs, it is who divides the tree of groups; one that it does not know it may change or remove.
  here     when there is a first process: systemd makes no group of nobody. It waits, and has done nothing yet.
  without  `systemctl daemon-reload` could take limits away, and `systemctl` would not show the container.
  man      systemd.scope(5) systemd.resource-control(5)
  see      /proc/PID/cgroup

attach
  what     has your own systemd move the new process into the container's group.
  why      cgroups(7) lets nobody move a process from a group that is another's, and the one of your login is root's.
  here     as soon as there is a process; it waits.
  without  a container could be entered only from below your own systemd.
  man      cgroups(7)
  see      /proc/PID/cgroup

enter_group
  what     moves the first process into a group of cgroup v1 that systemd has not moved it into.
  why      systemd makes groups for the controllers that it knows, and some of v1 it does not.
  here     when that group has its limits.
  without  those controllers would not hold the container.
  man      cgroups(7)
  see      /proc/PID/cgroup

filter_devices
  what     loads the filter of devices and attaches it to the group.
  why      it says more than systemd's own can, and stays when that is taken away.
  here     when the group is there; by the host, since a container's users may be others than its own by now.
  without  the container would have every device that systemd's properties leave it.
  man      bpf(2) cgroups(7)
  see      /proc/PID/cgroup

probe
  what     looks whether there is a program to run, in the order in which exec will try.
  why      engines are told of a missing program by `create`, and not first by `start`.
  here     as the user that the program will run as, so that what counts is what that user may.
  without  the error comes when everybody believes the container to be ready.
  man      execve(2)
  see      /proc/PID/root

wait_start
  what     closes all that is open but the terminal or pipes and one socket, and waits there for `start`.
  why      `create` and `start` are two calls, and much may lie between them.
  here     with every right given up already.
  without  the program would run at once; with more left open it could reach the host while it waits (CVE-2024-21626).
  man      unix(7)
  see      /proc/PID/fd

wait_command
  what     closes all that is open but one socket, and waits there for what is to run, and its stdin, stdout and stderr.
  why      a pool makes containers in advance: whoever takes one waits for no namespace and no mount.
  here     with every right given up already, the filter loaded, and nothing of the program's begun.
  without  the container would be begun when it is asked for.
  man      unix(7)
  see      /proc/PID/fd

leave
  what     waits until the program runs, and ends; nobody watches over it.
  why      who called for it waits for it: it falls to that process when dolium-init is gone.
  here     last, when exec has happened, which the end of a socket tells.
  without  the caller could not be told whether there is a program.
  man      prctl(2) wait(2)
  see      /proc/PID/status

copy_up
  what     copies what the rootfs has at the place of a new tmpfs into it, with owners, modes, times and links.
  why      `tmpcopyup`: programs find there what the image has, and may change it.
  here     before the tmpfs is put there and covers it.
  without  the directory would be empty.
  man      tmpfs(5)
  see      /proc/PID/root

open namespace
  what     opens a namespace of another's.
  why      the container is to be in it, as those of a pod are in one network.
  here     with your rights, before the container's users are its own.
  without  it would have one of its own.
  man      setns(2) namespaces(7)
  see      /proc/PID/ns/net

join namespace
  what     enters a namespace of another's, of the kind that the config says; of another kind it is refused.
  why      the container is to be in it, as those of a pod are in one network.
  here     the user namespace last, for with it goes the right to enter the others.
  without  it would have one of its own.
  man      setns(2) namespaces(7)
  see      /proc/PID/ns/net

unshare time
  what     makes a time namespace, in which the next child will be born.
  why      its clocks are to be others than the host's.
  here     before the child: they can be set only while nobody is in it.
  without  the container counts the host's time since it booted.
  man      unshare(2)
  see      /proc/PID/timens_offsets

set_attr propagation
  what     says how what is mounted on one side is passed on to the other: shared, slave, private, unbindable.
  why      the config asks for it, as for a volume in which the container mounts something for others.
  here     when the mount has its place.
  without  what is mounted stays on its side.
  man      mount_namespaces(7) mount_setattr(2)
  see      /proc/PID/mountinfo

open_tree rootfs
  what     takes a copy of the mounts at the rootfs's path, as it is.
  why      the engine has prepared it: whatever layers it has are mounted already.
  here     before the container gets it, by a descriptor.
  without  there is nothing to run in.
  man      open_tree(2)
  see      /proc/PID/root
"""
