"""Lessons on the terminal that a program is given."""

TEXT = """
ptmx
  what     opens `ptmx` in the container's own devpts: the kernel makes a pair of ends, of which this is the one outside. It is
           unlocked and given the size of your terminal.
  why      a shell wants a terminal: to know its size, to be interrupted by Ctrl-C, to stop and continue its jobs.
  here     once /dev/pts is mounted. The directory is asked whether it is a devpts, and nothing in it may be a link or a mount.
  without  programs see a pipe: no prompt, no editing of lines, no colours, and Ctrl-C ends dolium instead of the job.
  man      pty(7) pts(4) ioctl_tty(2) openat2(2)
  see      /proc/PID/root/dev/pts

pts
  what     asks the first end for the other one (TIOCGPTPEER), and makes the program's user its owner.
  why      the usual way is a name, /dev/pts/0, and names can be made to lead elsewhere; a descriptor cannot (CVE-2025-52565).
  here     as soon as the first end is there, while the process may still give files away.
  without  the program could not open its own terminal again, as `less` and `sudo` do.
  man      ioctl_tty(2) pts(4) chown(2)
  see      /proc/PID/fd /proc/PID/root/dev/pts

open_tree console
  what     takes a copy of the mount of that one file, from its descriptor.
  why      it is to be shown at a second place.
  here     while mounts of this process's own namespace can be copied.
  without  there is nothing to be bound on /dev/console.
  man      open_tree(2) pts(4)
  see      /proc/PID/mountinfo

move_mount console
  what     binds it on /dev/console, in the tmpfs that is the container's /dev.
  why      an init, and what it starts, writes to the console; here that is where you look.
  here     before the pivot, with /dev by descriptor: what an image has as its /dev/console is never looked at.
  without  there is no console, and an init writes nowhere.
  man      move_mount(2) console(4)
  see      /proc/PID/mountinfo /proc/PID/root/dev/console

sync terminal
  what     the child hands both ends to its parent, which gives them to dolium-keep.
  why      one is read and written outside: by dolium in front of you, or for the log. The other is only held, so that the
           terminal lives on when the program closes it for a moment.
  here     when outside has nothing else to do, and before the child gives up its rights.
  without  nobody could read what the program prints.
  man      unix(7) cmsg(3)
  see      /proc/PID/fd

stdio
  what     the child's descriptors 0, 1 and 2 become its end of the terminal.
  why      these are what a program reads from and writes to.
  here     as late as it goes; with --init in the child that becomes the program, so that PID 1 holds nothing of it.
  without  the program would talk to /dev/null.
  man      dup(2) stdin(3)
  see      /proc/PID/fd

ctty
  what     makes it the controlling terminal of the session that the program leads (TIOCSCTTY).
  why      only then does the kernel turn Ctrl-C into SIGINT for the job in front, Ctrl-Z into SIGTSTP, a closed window into
           SIGHUP; and /dev/tty is this terminal.
  here     after the session is made, by the process that leads it.
  without  `sh` says that it can't access tty, and has no job control.
  man      ioctl_tty(2) credentials(7) setsid(2)
  see      /proc/PID/stat
"""
