"""Lessons on what a container can see: namespaces, id maps, the two actors."""

TEXT = """
unshare mount
  what     dolium-init leaves the host's mount namespace for a copy of it: the same mounts, but a list of its own.
  why      it has to mount things to prepare the container, and none of that may be seen on the host.
  here     before the first mount.
  without  every overlay and tmpfs of every container would stand in the host's list, and stay there after a crash.
  man      unshare(2) mount_namespaces(7)
  see      /proc/PID/ns/mnt /proc/PID/mountinfo

unshare user
  what     dolium-init makes a user namespace and a mount namespace in it. In the new user namespace it has all capabilities,
           over nothing but what the namespace owns.
  why      mounting takes CAP_SYS_ADMIN. A plain user gets it only here, and only for mounts of its own.
  here     first: everything below takes capabilities that you do not have outside.
  without  every later step ends with EPERM.
  man      user_namespaces(7) unshare(2)
  see      /proc/PID/ns/user /proc/PID/uid_map

unshare inside
  what     the child makes the namespaces that are left: cgroup, ipc, net and uts, as far as they were asked for. Each is a copy
           of one kind of list in the kernel, empty or as it was, that nobody else shares.
  why      what is in no list cannot be reached: no shared memory of others (ipc), no network device (net), no host name to
           change (uts), no path of the host's groups (cgroup).
  here     after entering the groups: a cgroup namespace takes the group one is in for its root. The child does it, not clone,
           so that the kernel builds the network while dolium-init prepares the files.
  without  the container shares these with the host: it could listen on the host's ports, or talk to its abstract sockets.
  man      unshare(2) namespaces(7) network_namespaces(7) ipc_namespaces(7) uts_namespaces(7) cgroup_namespaces(7)
  see      /proc/PID/ns /proc/PID/net/dev

clone
  what     makes the container's first process, in new namespaces from its first instruction on: its own list of mounts (mnt), of
           processes (pid), and mostly of users (user). With CLONE_INTO_CGROUP it is born inside its group.
  why      a process cannot change its own pid namespace, only its children's; so somebody must be born. Everything marked I is
           done by this child, everything marked O by its parent beside it.
  here     after the groups, which it is born into, and before anything that is to be the container's own.
  without  there is no container: it would see and signal every process of the host.
  man      clone(2) namespaces(7) pid_namespaces(7)
  see      /proc/PID/ns /proc/PID/status /proc/PID/cgroup

clone join
  what     makes a child, in the container's cgroup but as yet in the host's namespaces.
  why      it will join a container that runs. Until it has given up everything, it must not be seen from inside.
  here     after the group is open that it is born into.
  without  dolium-init itself would have to enter, with all that it holds (CVE-2016-9962).
  man      clone(2)
  see      /proc/PID/cgroup

map_ids
  what     writes which user of the host each user of the container is: a line says `0 524288 65536` for `65536 ids from 0 on
           are those from 524288 on outside`. dolium-init does it, through the child's files in /proc.
  why      root inside is then an id that owns nothing outside. Should it get out, it is nobody.
  here     right after the child is born. Until it is done the child has no valid user, and waits.
  without  root in the container is root on the host, and one hole in any of the other walls is enough.
  man      user_namespaces(7)
  see      /proc/PID/uid_map /proc/PID/gid_map

map_ids self
  what     dolium-init maps one id in its own new user namespace: root there is you here. It first gives up setgroups(2).
  why      without subordinate ids that is all a plain user may map. The kernel takes a map of groups only from who can no longer
           drop groups: they may be there to keep somebody out of a file.
  here     right after the user namespace is made; until then it belongs to nobody.
  without  dolium-init could not write a file: its ids would have no name outside.
  man      user_namespaces(7)
  see      /proc/PID/uid_map /proc/PID/setgroups

open_ns ns/user
  what     opens the container's user namespace, as a descriptor.
  why      mounts can have their file owners shown through its map; the kernel wants the namespace for that, not numbers.
  here     after the map is written: an empty one maps nobody.
  without  files of the image, which belong to root on the disk, would belong to nobody inside.
  man      user_namespaces(7) mount_setattr(2)
  see      /proc/PID/ns/user

open_ns ns/mnt
  what     opens the container's mount namespace and keeps it open until the container's end has been reported.
  why      files in a tmpfs are memory. If memory runs out, this is how dolium can still say how much of it was files.
  here     once the child has one of its own.
  without  the message about a reached limit would not say whether files were the reason.
  man      mount_namespaces(7)
  see      /proc/PID/ns/mnt

open_ns ns/net
  what     opens the container's network namespace, as a descriptor.
  why      the other end of the cable is made in it, by name of this descriptor.
  here     after the child has said that it has made it.
  without  there is nowhere to lay a cable to.
  man      network_namespaces(7)
  see      /proc/PID/ns/net

open_ns
  what     opens a namespace of the child, as a descriptor.
  why      later steps name it.
  here     once the child has it.
  without  those steps would have nothing to name.
  man      namespaces(7)
  see      /proc/PID/ns

sync
  what     one of the two actors waits for the other.
  why      they work side by side; where one needs what the other has done, they meet.
  here     at the last moment at which it can be awaited, so that both work meanwhile.
  without  one would go on with what is not there yet.
  man      unix(7)
  see      /proc/PID/wchan

sync ids
  what     the child waits until dolium-init says that its id map is written.
  why      a process whose user is not mapped may do next to nothing, not even become root of its own namespace.
  here     the child's first word to anybody: before it touches its ids.
  without  setresuid(2) would fail, or not, depending on who is faster.
  man      unix(7) user_namespaces(7)
  see      /proc/PID/uid_map

sync mounts
  what     dolium-init sends the child, over a socket, the descriptors of everything it has mounted: the rootfs, /dev, what is
           bound from the host.
  why      the child puts them into place without ever using a path of the host; there is nothing for it to look up there.
  here     when outside is done with files. The child has been making its own namespaces meanwhile.
  without  the child would need the host's paths, and an image with a clever symbolic link could choose which.
  man      unix(7) open_tree(2)
  see      /proc/PID/fd

sync made
  what     dolium-init waits until the child says that it has a network namespace.
  why      the cable is laid from the host's side, which must be able to open that namespace.
  here     as late as outside can wait for it.
  without  it would open the host's own network, in which the child was born.
  man      network_namespaces(7)
  see      /proc/PID/ns/net

sync connected
  what     the child waits until the cable is laid and carries packets.
  why      a program that connects to something at once must not be faster than its network.
  here     after everything that the child could do meanwhile, before settings that belong to the new device.
  without  the first connection of a program sometimes fails, which nobody can explain afterwards.
  man      network_namespaces(7)
  see      /proc/PID/net/dev

reset
  what     the child forgets whoever started it: signals are handled as usual and none is blocked, it leads a session of its own,
           may run on any CPU, and its umask is 0 until the one of the container is set.
  why      all of these outlive exec. Python ignores SIGPIPE; `yes | head` in the container would never end.
  here     its first step, so that nothing after it depends on the caller.
  without  in the session of the caller it could type into the caller's terminal (TIOCSTI).
  man      signal(7) setsid(2) umask(2) sched_setaffinity(2)
  see      /proc/PID/status /proc/PID/stat

become root
  what     the child becomes user 0 of its own user namespace.
  why      until now it is an unmapped id there. Files that it makes from here on belong to the container's root.
  here     after the map is written, before it makes anything.
  without  what it mounts and makes would belong to nobody inside.
  man      setresuid(2) user_namespaces(7)
  see      /proc/PID/status

undumpable
  what     marks this process as one that nobody may trace or look into; its files in /proc belong to root of the host.
  why      for a while it is in the container and still holds descriptors of the host.
  here     after it became root of the namespace: a change of ids undoes it. exec undoes it too, and then it may.
  without  a process in the container could attach to it and take what it holds (CVE-2016-9962).
  man      prctl(2) ptrace(2)
  see      /proc/PID/fd

keyring
  what     gives the child an empty session keyring.
  why      the kernel keeps keys for processes: Kerberos tickets, passwords of file systems. Keyrings have no namespace.
  here     any time before the program; here it is among what is made anew.
  without  the program could read the keys of the session that dolium was started from.
  man      keyctl(2) session-keyring(7)
  see      /proc/keys

hostname
  what     sets the host name in the container's own uts namespace.
  why      programs say it in their prompts and logs; on the bridge /etc/hosts gives it the container's address.
  here     after the uts namespace was made: one step earlier it would rename the host.
  without  the container is called as the host is, and who knows the host's name knows more than it must.
  man      sethostname(2) uts_namespaces(7)
  see      /proc/sys/kernel/hostname

join
  what     enters all namespaces of the container at once, by a pidfd of its first process.
  why      at once, because the right to enter each of them comes from the same user namespace.
  here     after entering the groups, which can only be reached from the host's side.
  without  the new process would be beside the container, not in it.
  man      setns(2) pidfd_open(2) namespaces(7)
  see      /proc/PID/ns

born
  what     makes one more process, in the container's pid namespace, which is what becomes the program; the one that did all the
           steps before it ends.
  why      setns(2) moves no process into a pid namespace, only its children. And so nobody inside ever sees one that holds more
           than the program may have.
  here     when nothing is left to give up.
  without  a process of the container could trace the helper while it still has the host's rights (CVE-2016-9962).
  man      clone(2) setns(2) pid_namespaces(7)
  see      /proc/PID/status
"""
