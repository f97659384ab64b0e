/* Steps that make a terminal in the container's own devpts, pts(4).  Nothing of it is ever found by name but `ptmx` in a
 * directory that has been seen to be a devpts: its other end, which /dev/console shows too, is opened through the first
 * (CVE-2025-52565 was a `/dev/pts/N` that somebody had replaced). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/vfs.h>
#include "init.h"
#include "kernel.h"

/* fd, path: the directory; out: the master; n1, n2: rows and columns.  Who runs in the container may have covered the
 * directory, or bound something over the `ptmx` in it: then it is not opened at all. */
int step_ptmx(struct record *r)
{
    const int unlocked = 0;
    const struct open_how_ how = {
        .flags = O_RDWR | O_NOCTTY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH_ | RESOLVE_NO_XDEV_ | RESOLVE_NO_SYMLINKS_,
    };
    const struct winsize size = {.ws_row = (unsigned short)r->n1, .ws_col = (unsigned short)r->n2};
    struct statfs fs;
    int directory = open_in(slot(r->fd), text(r->path), O_PATH | O_DIRECTORY);
    if (directory < 0)
        return fail(r, 0);
    if (fstatfs(directory, &fs))
        return fail(r, 1);
    if (fs.f_type != DEVPTS_MAGIC_)
        return errno = ENODEV, fail(r, 1);
    int master = (int)syscall(NR_openat2, directory, "ptmx", &how, sizeof how);
    if (master < 0)
        return fail(r, 0);
    close(directory);
    if (ioctl(master, TIOCSPTLCK, &unlocked) || ioctl(master, TIOCSWINSZ, &size))
        return fail(r, 2);
    fill(r->out, master);
    return 0;
}

/* fd: a master; out: the slave; n1: its owner, who may open it again.  The group is as the mount has it. */
int step_pts(struct record *r)
{
    int slave = ioctl(slot(r->fd), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (slave < 0)
        return fail(r, 0);
    if (fchown(slave, (uid_t)r->n1, (gid_t)-1))
        return fail(r, 1);
    fill(r->out, slave);
    return 0;
}

/* fd: what stdin, stdout and stderr are from now on */
int step_stdio(struct record *r)
{
    for (int fd = 0; fd < 3; fd++)
        if (dup2(slot(r->fd), fd) < 0)
            return fail(r, 0);
    return 0;
}

/* For a leader of a session: the terminal on stdin sends its signals, such as Ctrl-C, and stops its jobs, tty_ioctl(4). */
int step_ctty(struct record *r)
{
    return ioctl(0, TIOCSCTTY, 0) ? fail(r, 0) : 0;
}
