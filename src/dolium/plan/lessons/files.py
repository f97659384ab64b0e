"""Lessons on single files, directories and nodes."""

TEXT = """
mkdir
  what     makes directories, each opened below a descriptor, never by a path of the host.
  why      something will be mounted or written there.
  here     before what goes into them.
  without  the next step finds no place.
  man      mkdir(2) openat2(2)
  see      /proc/PID/root

symlink
  what     makes the symbolic links that programs expect, such as /dev/stdout, or of `@host` /bin, which leads to /usr/bin.
  why      an empty directory has none of them.
  here     before a program can miss them.
  without  `echo > /dev/stdout` fails, and of `@host` there is no /bin/sh.
  man      symlink(2) hier(7)
  see      /proc/PID/root/dev

mknod
  what     makes the device nodes of a container: null, zero, full, random, urandom, tty. No more.
  why      a node is a door to a driver of the kernel. These are safe to give to anybody.
  here     by root of the host, outside: in a user namespace the kernel makes none.
  without  programs miss /dev/null; with more than these, disks and memory could be read.
  man      mknod(2) null(4) random(4) tty(4)
  see      /proc/PID/root/dev

mknod asked
  what     makes a node for the device that was asked for.
  why      the program shall use that device.
  here     with the other nodes, by root of the host.
  without  the program does not find it.
  man      mknod(2)
  see      /proc/PID/root/dev

write_file
  what     writes files of ours, each of them new: what stands in its place, a symbolic link above all, is removed first.
  why      they say what no image can know: the container's name and address, and who answers for names.
  here     before they are shown to the container.
  without  the container does not know its own name. Written through a link of the image, it would be a file of the host
           (CVE-2025-24965).
  man      openat2(2) hosts(5) resolv.conf(5)
  see      /proc/PID/root/etc

read_file
  what     reads a file of the container, if it is a regular file and not too long.
  why      user names of `--user` are those of the container's own passwd.
  here     before the plan that needs the numbers.
  without  a name would mean the host's user of that name. A link to /dev/zero would be read for ever.
  man      openat2(2) passwd(5)
  see      /proc/PID/root/etc

write
  what     writes a value into a file of the kernel.
  why      it was asked for.
  here     while the file can still be written.
  without  the kernel's usual value holds.
  man      proc(5)
  see      /proc/sys

write sysctl
  what     sets a kernel parameter, in the container's own /proc/sys. Only those are taken that a namespace confines.
  why      the network and shared memory have settings of their own in each namespace.
  here     after the namespace and, for a device, its cable exist; before /proc/sys becomes read-only.
  without  the kernel's usual value holds.
  man      sysctl(8) proc(5)
  see      /proc/PID/root/proc/sys

write oom_score_adj
  what     says how readily the kernel shall kill this process when the host runs out of memory; its children inherit it.
  why      somebody has to go first, and you know who can be spared.
  here     while the child still sees the host's /proc, and before it gives up being able to.
  without  it is as likely as any other of its size.
  man      proc(5)
  see      /proc/PID/oom_score_adj

offer
  what     sends the descriptor of the opened file to dolium, which reads or writes through it.
  why      the path was walked inside, by the container's root; dolium itself never follows a path that the container has made.
  here     last: the file is open.
  without  a symbolic link in the container could have dolium read or write a file of the host.
  man      unix(7) openat2(2)
  see      /proc/PID/fd

own_pipes
  what     gives the pipes among stdin, stdout and stderr to the container's user. Never a file or a terminal: those are yours.
  why      a program that opens /dev/stdout again, as web servers do for their logs, needs to own the pipe.
  here     outside, by the host's root, to whom they belong.
  without  `open /dev/stdout: permission denied` from a server that does not run as root.
  man      chown(2) pipe(7)
  see      /proc/PID/fd
"""
