"""Lessons on what `/` is made of: layers, mounts, the pivot."""

TEXT = """
set_attr slave
  what     makes every mount of the copied list a slave: what the host mounts from now on still appears here, what is mounted here
           no longer appears there.
  why      a fresh copy is not cut off yet. On most hosts `/` is shared, and mounts spread to all copies.
  here     right after the copy was made, before anything is mounted in it.
  without  each container's mounts would appear on the host, and in every other container.
  man      mount_namespaces(7) mount_setattr(2)
  see      /proc/PID/mountinfo

set_attr private
  what     makes every mount in the child's namespace private: nothing spreads, neither out nor in.
  why      pivot_root(2) refuses to work on shared mounts, and the container shall not see what the host mounts later.
  here     the child's first step on mounts.
  without  a disk that is plugged into the host would turn up in the container.
  man      mount_namespaces(7) mount_setattr(2) pivot_root(2)
  see      /proc/PID/mountinfo

set_attr idmap
  what     has the mount show file owners through the container's id map: who owns a file on disk as 0 owns it inside as root,
           whichever range of host ids the container got.
  why      so one image, owned by root on disk, serves many containers, and nobody copies it to change its owners.
  here     before the mount is attached anywhere: afterwards the kernel refuses it.
  without  every file of the image belongs to `nobody` inside, and root of the container may not write one of them.
  man      mount_setattr(2) user_namespaces(7)
  see      /proc/PID/mountinfo /proc/PID/uid_map

set_attr bind
  what     sets the attributes of a part of the host that the container gets: read-only, no setuid programs, no devices; and its
           owners as the container's users, where it has users of its own. With all mounts below it.
  why      of what is the host's, the container may do only what was asked for.
  here     while outside still holds the mount and nobody inside can use it.
  without  `ro` would hold for the top directory only, and a mount below it could be written.
  man      mount_setattr(2)
  see      /proc/PID/mountinfo

set_attr root
  what     makes the container's `/` read-only; what is mounted in it, such as /tmp of a --tmpfs, stays as it is.
  why      a program that cannot change its own files cannot be changed for good by who breaks into it.
  here     last of the mounts: their places have been made in it by now.
  without  the container may write into its root. That never reaches the image, whichever way.
  man      mount_setattr(2)
  see      /proc/PID/mountinfo

set_attr
  what     changes attributes of a mount: here it becomes read-only.
  why      nothing more is to be made in it.
  here     after the last directory in it was made.
  without  the container could write in it.
  man      mount_setattr(2)
  see      /proc/PID/mountinfo

open_tree image
  what     takes a copy of the mount that holds the image's files: a mount of its own, attached nowhere yet, held by a descriptor.
  why      attributes of a copy can be changed without a change to the original, and no path leads to it.
  here     after the id map is there, through which it will be shown. Outside may still read the host's paths.
  without  there is nothing to run.
  man      open_tree(2)
  see      /proc/PID/mountinfo

open_tree kept
  what     takes a copy of the mount that holds what this container wrote when it ran before.
  why      a container that is started again goes on with its files, until `dolium rm`.
  here     before the overlay, of which it is the upper part.
  without  each start would begin with the plain image.
  man      open_tree(2)
  see      /proc/PID/mountinfo

open_tree file
  what     takes one file that dolium wrote, such as /etc/hosts, as a mount.
  why      it will be bound over the image's: to write into an overlay would first copy that directory.
  here     after the files were written.
  without  the container would have the image's /etc/hosts, which does not know its name.
  man      open_tree(2)
  see      /proc/PID/mountinfo

open_tree bind
  what     takes a copy of the mount at a path of the host, with all that is mounted below it.
  why      this is what is bound into the container. It is opened outside, with your rights, and handed in as a descriptor.
  here     before the child gets its mounts. It never looks up a path of the host.
  without  what you named with -v is not there; of `@host` not one program is.
  man      open_tree(2)
  see      /proc/PID/mountinfo

open_tree device
  what     takes one of the host's device nodes as a mount.
  why      who is not root may not make nodes, but may show those that everybody may use.
  here     before the child gets its mounts.
  without  there is no /dev/null inside, and hardly a program runs without it.
  man      open_tree(2) null(4)
  see      /proc/PID/mountinfo

new_mount
  what     makes a new file system of that type; attached nowhere yet, held by a descriptor.
  why      the container needs one of its own.
  here     before it gets its place.
  without  programs that look for it there fail.
  man      fsopen(2) fsconfig(2) fsmount(2)
  see      /proc/PID/mountinfo

new_mount overlay
  what     makes the container's root: the image below, a place to write on top. A file is read from below until it is first
           written; then it is copied up and that copy is used.
  why      a thousand containers can use one image; starting one copies nothing.
  here     after both parts are there, and mapped to the container's users.
  without  the container writes into the image, and the next one finds what it has done.
  man      fsopen(2) fsconfig(2) fsmount(2)
  see      /proc/PID/mountinfo

new_mount store
  what     makes a tmpfs, a file system in memory, for what the container writes in its root; of `@host` it is the root itself.
  why      it is fast, goes away with the container, and counts as the container's memory.
  here     before what is made in it.
  without  there is nowhere to write.
  man      tmpfs(5) fsopen(2) fsmount(2)
  see      /proc/PID/mountinfo /proc/meminfo

new_mount lower
  what     makes a tmpfs, a file system in memory, with the few directories, links and files that are not the host's own: /etc,
           /tmp, /bin, which leads to /usr/bin.
  why      `@host` has no image: its programs are the host's, bound in read-only later, and this is the tree around them.
  here     before the overlay, of which it is the lower part: what the container changes lies above it.
  without  there is nothing to bind the host's programs into, and no /tmp.
  man      tmpfs(5) fsopen(2) fsmount(2)
  see      /proc/PID/mountinfo

new_mount dev
  what     makes a small tmpfs that will be the container's /dev.
  why      the host's /dev leads to every disk and terminal. An empty one can be given just what each program expects.
  here     outside, by root of the host: nodes may not be made in a user namespace.
  without  in the host's /dev root of the container reads /dev/sda, or /dev/mem.
  man      tmpfs(5) null(4)
  see      /proc/PID/mountinfo /proc/PID/root/dev

new_mount empty
  what     makes an empty directory of nobody, read-only, and attaches it where nobody will find it.
  why      directories that are to be hidden get copies of it on top.
  here     before the first directory is hidden.
  without  there is nothing to hide them with.
  man      tmpfs(5) fsmount(2)
  see      /proc/PID/mountinfo

new_mount mounted
  what     makes a tmpfs, a file system in memory, for the directory that this mount was asked for.
  why      files in memory are fast, and gone with the container. They count as its memory, and have a size limit besides.
  here     in the order of the configuration: a mount below another comes after it.
  without  the directory is part of the root; /dev/shm would be missing, and with it shared memory of the POSIX kind.
  man      tmpfs(5) shm_overview(7) fsmount(2)
  see      /proc/PID/mountinfo

new_mount groups
  what     makes a small tmpfs for /sys/fs/cgroup, a directory in it for each hierarchy of cgroup v1, and mounts each there,
           read-only. In all of them the container's own group is the root.
  why      programs, such as Java or Go, look up their limits there.
  here     after the cgroup namespace was made: the mounts show that of who makes them.
  without  they think that they have the memory and CPUs of the whole host; writable, they could lift their own limits.
  man      cgroups(7) cgroup_namespaces(7)
  see      /proc/PID/mountinfo /proc/PID/cgroup

new_mount proc
  what     makes a new /proc, which shows the processes of the container's pid namespace and no others.
  why      ps, and much else, reads it; and the container should find itself there, not the host.
  here     by the child, since it shows the pid namespace of who mounts it. While the host's is still in view: in a user namespace
           the kernel gives a new one only to who sees a whole one already.
  without  with the host's /proc the container sees every process, its command line and, of its own user, its memory.
  man      proc(5) pid_namespaces(7) fsmount(2)
  see      /proc/PID/mountinfo /proc/PID/root/proc

new_mount sysfs
  what     makes a new /sys, read-only: what the kernel tells of devices. Of network devices it shows the container's.
  why      programs look there for the number of CPUs, or the speed of a network device.
  here     by the owner of the network namespace; while the host's is still in view, as with /proc.
  without  writable, root of the host's users could switch devices off there.
  man      sysfs(5) fsmount(2)
  see      /proc/PID/mountinfo

new_mount devpts
  what     makes a file system for terminals, with a numbering of its own.
  why      whoever opens /dev/ptmx inside gets a terminal that exists only there.
  here     after /dev, in which it is.
  without  in the host's /dev/pts it could write to your terminal, or read what you type.
  man      pts(4) fsmount(2)
  see      /proc/PID/mountinfo /proc/PID/root/dev/pts

new_mount mqueue
  what     makes the file system in which the message queues of the container's ipc namespace have their names.
  why      POSIX message queues belong to the ipc namespace; this makes them visible.
  here     after the ipc namespace was made: it shows that of who mounts it.
  without  queues work, but cannot be listed or removed by name.
  man      mq_overview(7) fsmount(2)
  see      /proc/PID/mountinfo

new_mount cgroup
  what     makes a view of one cgroup v1 hierarchy, in which the container's own group is the root; read-only.
  why      programs, such as Java or Go, look up their limits there.
  here     after the cgroup namespace was made; below the directory for all hierarchies.
  without  they think that they have the memory and CPUs of the whole host.
  man      cgroups(7) cgroup_namespaces(7)
  see      /proc/PID/mountinfo /proc/PID/cgroup

new_mount cgroup2
  what     makes a view of cgroup v2 in which the container's own group is the root; read-only.
  why      programs, such as Java or Go, look up their limits there.
  here     after the cgroup namespace was made.
  without  they think that they have the memory and CPUs of the whole host; writable, they could lift their own limits.
  man      cgroups(7) cgroup_namespaces(7)
  see      /proc/PID/mountinfo /proc/PID/cgroup

move_mount
  what     attaches a new file system at its directory in the container's root. The directory is opened below the root's descriptor,
           so no symbolic link in the image leads elsewhere, and is made if it is missing.
  why      only now can programs find it by its path.
  here     right after it was made; in the order of the configuration.
  without  it exists, and nobody can reach it.
  man      move_mount(2) openat2(2)
  see      /proc/PID/mountinfo

move_mount kernel
  what     attaches the container's /proc, /sys or /dev. If the image has a symbolic link in that place, it is refused.
  why      whoever reads these later trusts them to be the kernel's.
  here     right after it was made, before what lies in it.
  without  an image whose /proc is a link to something of its own could make checks pass that read /proc (CVE-2019-19921).
  man      move_mount(2) openat2(2) symlink(7)
  see      /proc/PID/mountinfo

move_mount bind
  what     attaches a part of the host at its place in the container. A missing directory or file is made there first, in the
           container's root.
  why      this is how both can use the same files.
  here     after the root is there, in the order of the configuration.
  without  what you named with -v is not there; of `@host` not one program is.
  man      move_mount(2) openat2(2)
  see      /proc/PID/mountinfo

move_mount device
  what     binds one device node of the host over a file in the container's /dev.
  why      a plain user may not make nodes.
  here     after /dev is in its place.
  without  there is no /dev/null inside.
  man      move_mount(2) null(4)
  see      /proc/PID/mountinfo

move_mount file
  what     binds files of ours over the image's: /etc/hosts, /etc/hostname, /etc/resolv.conf.
  why      they say what only this container knows: its name, its address, whom to ask for others.
  here     when the root is attached.
  without  `ping localhost`, or looking up a name, works only if the image happens to have them.
  man      move_mount(2) hosts(5) resolv.conf(5)
  see      /proc/PID/mountinfo

move_mount rootfs
  what     attaches the container's root on top of `/` in the child's list of mounts. The child itself still stands in the old one.
  why      pivot_root(2) takes only what is attached.
  here     before anything is mounted in it.
  without  there is nothing to pivot to.
  man      move_mount(2) pivot_root(2)
  see      /proc/PID/mountinfo

move_mount empty
  what     attaches the empty directory on the old /dev.
  why      the kernel copies only what is attached somewhere; with the old `/` it will be gone from view.
  here     before the first copy of it is needed.
  without  nothing can be hidden with it.
  man      move_mount(2)
  see      /proc/PID/mountinfo

move_mount attach
  what     attaches a part of the overlay in dolium-init's own list of mounts.
  why      before Linux 6.15 an overlay takes no part that is attached nowhere.
  here     after its ids were mapped, which takes one that is not attached yet.
  without  the kernel answers EINVAL to the overlay.
  man      move_mount(2)
  see      /proc/PID/mountinfo

mask
  what     hides paths of /proc and /sys: a file under the null device, a directory under an empty one. What this kernel does not
           have is passed over.
  why      these tell about the host, or do things to it, and have no namespace: kernel memory, keys, timers, firmware.
  here     after /proc and /sys are mounted, before the pivot takes the covers out of reach.
  without  root in the container reads /proc/kcore, which is all memory of the host.
  man      mount_setattr(2) move_mount(2) proc(5)
  see      /proc/PID/mountinfo

read_only
  what     binds paths of /proc over themselves, read-only.
  why      settings of the kernel are there to be read, but most of them are the whole host's.
  here     after the settings that you asked for were written.
  without  root in the container writes to /proc/sysrq-trigger, and the host reboots.
  man      mount_setattr(2) proc(5)
  see      /proc/PID/mountinfo

pivot_root
  what     makes the container's root the root of this mount namespace, and of the child. The old one now lies on top of it; the
           next step takes it away.
  why      chroot(2) only changes where `/` starts, and a process with CAP_SYS_CHROOT walks out of it. After a pivot there is no
           outside left in the list to walk to.
  here     after every mount: proc and sysfs must still be seen to be mounted anew. What remains is about the process itself.
  without  every file of the host is one `cd ..` trick away.
  man      pivot_root(2) mount_namespaces(7) chroot(2)
  see      /proc/PID/root /proc/PID/mountinfo

drop_old
  what     detaches the host's file systems, all of them, from the child's list of mounts.
  why      what is in no list has no path.
  here     right after the pivot.
  without  umount(2) inside would bring the host's `/` to light again.
  man      umount2(2) pivot_root(2)
  see      /proc/PID/mountinfo
"""
