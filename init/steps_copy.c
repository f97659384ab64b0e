/* The step that fills a new tmpfs with what the rootfs has at its place (`tmpcopyup`): links stay links, owners, modes and times
 * stay what they are. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <unistd.h>
#include "init.h"

enum { DEEPEST = 64 };

static int copy_directory(int from, int to, int depth);

static int copy_file(int from, int to, const char *name, const struct stat *st)
{
    int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC), out, failed = 0;
    if (in < 0)
        return -1;
    out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    for (off_t left = st->st_size; out >= 0 && left > 0 && !failed;) {
        ssize_t sent = sendfile(out, in, NULL, (size_t)left);
        failed = sent < 0;
        left = sent > 0 ? left - sent : 0;
    }
    close(in);
    return out < 0 || failed | close(out) ? -1 : 0;
}

static int copy_one(int from, int to, const char *name, int depth)
{
    char target[4096];
    struct stat st;
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW))
        return -1;
    if (S_ISLNK(st.st_mode)) {
        ssize_t length = readlinkat(from, name, target, sizeof target - 1);
        if (length < 0)
            return -1;
        target[length] = 0;
        return symlinkat(target, to, name) || fchownat(to, name, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) ? -1 : 0;
    }
    if (S_ISDIR(st.st_mode)) {
        int below = openat(from, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), fresh;
        if (below < 0 || mkdirat(to, name, 0700))
            return -1;
        fresh = openat(to, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fresh < 0 || copy_directory(below, fresh, depth + 1))
            return -1;
        close(fresh);
    } else if (S_ISREG(st.st_mode) ? copy_file(from, to, name, &st) : mknodat(to, name, st.st_mode, st.st_rdev)) {
        return -1;
    }
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    return fchownat(to, name, st.st_uid, st.st_gid, 0) || fchmodat(to, name, st.st_mode & 07777, 0) || utimensat(to, name, times, 0);
}

/* Takes `from` over. */
static int copy_directory(int from, int to, int depth)
{
    DIR *directory = depth < DEEPEST ? fdopendir(from) : NULL;
    int failed = 0;
    if (!directory)
        return depth < DEEPEST ? -1 : (errno = ELOOP, -1);
    for (struct dirent *entry; !failed && (entry = readdir(directory));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
            failed = copy_one(from, to, entry->d_name, depth);
    int keep = errno;
    closedir(directory);
    errno = keep;
    return failed;
}

/* fd: the new mount; path in fd2: what to copy; nothing where that is not */
int step_copy_up(struct record *r)
{
    struct stat st;
    int from = open_in(slot(r->fd2), text(r->path), O_RDONLY | O_DIRECTORY), to;
    if (from < 0)
        return errno == ENOENT ? 0 : fail(r, 0);
    to = openat(slot(r->fd), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (to < 0 || fstat(from, &st) || fchown(to, st.st_uid, st.st_gid) || fchmod(to, st.st_mode & 07777) || copy_directory(from, to, 0))
        return fail(r, 1);
    close(to);
    return 0;
}
