"""Lessons on who the process is, what it may do, and its last steps."""

TEXT = """
chdir
  what     goes to the working directory of the program, and checks that it has a name below `/`.
  why      the program is to start there.
  here     after the pivot, while still root: the directory may be open to few. Where root is refused, once more as the user: root
           has no power over files whose ids are not mapped into its user namespace, or that a server trusts their owner alone with.
  without  with a directory such as /proc/self/fd/7 the program would stand on the host (CVE-2024-21626).
  man      openat2(2) chdir(2) getcwd(2)
  see      /proc/PID/cwd

bounds
  what     drops capabilities from the bounding set: of the pieces that root's power consists of, those that are gone here cannot
           be had again by this process or its children, not even by a setuid program.
  why      root in a container needs to chown files and to listen on port 80, but not to mount, load modules or set the clock.
  here     it takes CAP_SETPCAP, which goes with the next steps.
  without  one program with file capabilities in the image, and the container has all of root's power over what is shared.
  man      capabilities(7) prctl(2)
  see      /proc/PID/status

become
  what     sets the group list, the group and the user that the program runs as.
  why      most programs need not be root, not even root of a container.
  here     groups first, then the user, after whom groups can no longer be changed; before the capabilities, which this clears.
  without  the program would run as root, whatever was asked for.
  man      setgroups(2) setresgid(2) setresuid(2) credentials(7)
  see      /proc/PID/status

caps
  what     sets the capabilities that the process holds now: of the container's root all that are left, of any other user none.
  why      the bounding set only says what could be had; this says what is.
  here     after the change of user, which clears them.
  without  a plain user in the container would still hold what root held.
  man      capget(2) capabilities(7)
  see      /proc/PID/status

no_new_privs
  what     has the kernel ignore setuid bits and file capabilities for this process and all its children, for good.
  why      a program can then never gain more than it starts with.
  here     after the last change of ids. It also lets the filter be loaded without CAP_SYS_ADMIN, as the last step.
  without  su, sudo, or any setuid program with a hole makes root out of a plain user inside.
  man      prctl(2)
  see      /proc/PID/status

umask
  what     sets which permissions new files do not get.
  why      with 022 others may read them but not write, which programs expect.
  here     when nothing is made any more by us, whose modes were meant as written.
  without  files would be made with the mask 0: writable for everybody.
  man      umask(2)
  see      /proc/PID/status

die_with
  what     asks the kernel to kill this process when its parent, which is dolium-keep by then, dies.
  why      somebody must answer for the container: who kills dolium-keep ends it too.
  here     after every change of ids, which would undo it.
  without  a container could go on that nobody knows of, and that nothing removes.
  man      prctl(2)
  see      /proc/PID/status

seccomp
  what     loads a filter, a small program that the kernel runs before each system call and that may refuse it. Refused calls
           fail with EPERM, those that nobody knew when it was written with ENOSYS.
  why      a program uses perhaps 60 of the kernel's 400 calls, and holes are found in the others.
  here     as late as possible: what is refused to the program was needed until now. With no_new_privs that is right before
           exec; without, it takes CAP_SYS_ADMIN and so comes before the capabilities go.
  without  a hole in a rare call, such as add_key or userfaultfd, gives a container the kernel.
  man      seccomp(2)
  see      /proc/PID/status

seccomp asking
  what     loads a filter that refuses the same calls, but asks dolium about each before it does. dolium always gives the same
           answer, and writes down what was asked.
  why      so `--why-denied` can say in the end which calls were refused, and to which program.
  here     where the filter always stands: as late as possible.
  without  a refused call is an EPERM like any other, and the program seldom says whose.
  man      seccomp(2) seccomp_unotify(2)
  see      /proc/PID/status

reap
  what     the child stays as process 1 and forks; what it forked goes on to become the program.
  why      process 1 inherits orphans and must wait for them, and gets no signal that it has no handler for. Few programs are
           made for that.
  here     last but for what concerns the program alone.
  without  zombies gather until pids.max is reached, and `dolium stop` has to kill.
  man      pid_namespaces(7) wait(2)
  see      /proc/PID/task

idle
  what     the child stays as process 1 and only waits, until it is killed; what is run in the container joins it later.
  why      a container lives as long as its process 1 does. This one needs no program in the image for that, and reaps orphans.
  here     last, where a program would begin: it has no more rights than those that join.
  without  the container would end with the first program that is run in it.
  man      pid_namespaces(7) wait(2)
  see      /proc/PID/status

exec
  what     replaces the child by the program, searched for in PATH as a shell does. The child's end of its socket closes with it,
           which tells dolium-init that it went well.
  why      all the steps before were for the process that is the program now.
  here     last: nothing is left to give up. Everything that dolium had open closes at this moment.
  without  there would only be an empty box.
  man      execve(2)
  see      /proc/PID/cmdline /proc/PID/environ /proc/PID/exe

keep
  what     dolium-init becomes dolium-keep, 24 KiB of memory, which waits for the container's end, reports it, and kills the
           container when dolium itself dies.
  why      Python may be killed at any time; a container must not be left behind.
  here     after exec went well. It has given away or closed everything that it does not need.
  without  kill -9 on dolium would leave a container running, and its groups and mounts behind.
  man      execveat(2) pidfd_open(2)
  see      /proc/PID/status
"""
