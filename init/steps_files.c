/* Steps on files and directories.  A path below a rootfs is resolved by openat2(RESOLVE_IN_ROOT) from that rootfs's
 * descriptor, never by name: what a symlink in an image says cannot lead outside (CVE-2021-30465, CVE-2024-45310, ...). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include "init.h"
#include "kernel.h"

static int open_or_make(int root, const char *path, uint64_t flags, uint64_t mode)
{
    struct open_how_ how = {
        .flags = flags | O_CLOEXEC,
        .mode = mode,
        .resolve = root == AT_FDCWD ? 0 : RESOLVE_IN_ROOT_ | RESOLVE_NO_MAGICLINKS_,
    };
    long fd;
    for (int tries = 0; tries < 64; tries++) { /* EAGAIN: a rename raced with the walk, openat2(2) */
        fd = syscall(NR_openat2, root, path, &how, sizeof how);
        if (fd >= 0 || errno != EAGAIN)
            break;
    }
    return (int)fd;
}

int open_in(int root, const char *path, uint64_t flags)
{
    return open_or_make(root, path, flags, 0);
}

int open_parent(int root, const char *path, const char **leaf)
{
    static char parent[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    *leaf = slash ? slash + 1 : path;
    if (length >= sizeof parent || !**leaf) {
        errno = length >= sizeof parent ? ENAMETOOLONG : EISDIR;
        return -1;
    }
    memcpy(parent, path, length);
    parent[length] = 0;
    return open_in(root, length ? parent : root == AT_FDCWD && slash ? "/" : ".", O_PATH | O_DIRECTORY);
}

/* mkdir -p below a root; what exists stays as it is. */
int make_directories(int root, const char *path, unsigned mode)
{
    static char prefix[4096];
    size_t length = strlen(path);
    if (length >= sizeof prefix)
        return errno = ENAMETOOLONG, -1;
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i])
            continue;
        memcpy(prefix, path, i);
        prefix[i] = 0;
        int fd = open_in(root, prefix, O_PATH | O_DIRECTORY);
        if (fd < 0 && errno == ENOENT) {
            const char *leaf;
            int parent = open_parent(root, prefix, &leaf);
            if (parent < 0 || (mkdirat(parent, leaf, mode) && errno != EEXIST))
                return -1;
            close(parent);
            fd = open_in(root, prefix, O_PATH | O_DIRECTORY);
        }
        if (fd < 0)
            return -1;
        close(fd);
    }
    return 0;
}

int make_parents(int root, const char *path)
{
    char parent[4096];
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (!length || length >= sizeof parent)
        return 0; /* open_parent says what is wrong */
    memcpy(parent, path, length);
    parent[length] = 0;
    return make_directories(root, parent, 0755);
}

/* n1: flags; n2: the mode of a file that is made */
int step_open(struct record *r)
{
    int fd = open_or_make(slot(r->fd), text(r->path), (uint64_t)r->n1, (uint64_t)r->n2);
    if (fd < 0)
        return fail(r, 0);
    fill(r->out, fd);
    return 0;
}

/* `data` of the steps below is a list of strings, two for each item or one; `item` says at which one a failure was. */
const char *after(const char *at)
{
    const char *next = at + strlen(at) + 1, *last = (const char *)plan + plan->size - 1; /* a NUL */
    return next < last ? next : last;
}

static int64_t number(const char *digits, int base)
{
    uint64_t value = 0;
    for (; *digits; digits++)
        value = value * (unsigned)base + (uint64_t)(*digits - '0');
    return (int64_t)value;
}

/* n2: the owner, or -1 for nobody else; n3: the group plus 1, or 0 for the same number */
static int give(struct record *r, int parent, const char *leaf)
{
    return r->n2 >= 0 && fchownat(parent, leaf, (uid_t)r->n2, (gid_t)(r->n3 ? r->n3 - 1 : r->n2), AT_SYMLINK_NOFOLLOW);
}

/* data: path, mode in octal; n2: owner or -1.  A directory that exists stays as it is. */
int step_mkdir(struct record *r)
{
    const char *path = text(r->data), *end = path + r->length, *leaf;
    for (; path < end; path = after(after(path)), r->item++) {
        if (make_parents(slot(r->fd), path))
            return fail(r, 1);
        int parent = open_parent(slot(r->fd), path, &leaf);
        if (parent < 0)
            return fail(r, 0);
        if (mkdirat(parent, leaf, (mode_t)number(after(path), 8))) {
            if (errno != EEXIST)
                return fail(r, 1);
        } else if (give(r, parent, leaf)) {
            return fail(r, 2);
        }
        close(parent);
    }
    return 0;
}

/* data: path, target; n2: owner or -1 */
int step_symlink(struct record *r)
{
    const char *path = text(r->data), *end = path + r->length, *leaf;
    for (; path < end; path = after(after(path)), r->item++) {
        if (make_parents(slot(r->fd), path))
            return fail(r, 0);
        int parent = open_parent(slot(r->fd), path, &leaf);
        if (parent < 0)
            return fail(r, 0);
        if (symlinkat(after(path), parent, leaf))
            return fail(r, 1);
        if (give(r, parent, leaf))
            return fail(r, 2);
        close(parent);
    }
    return 0;
}

/* Whether the node that is wanted is there already, as the image has it. */
static int is_there(const struct record *r, int parent, const char *leaf, dev_t device)
{
    struct stat st;
    return !fstatat(parent, leaf, &st, AT_SYMLINK_NOFOLLOW) && (st.st_mode & S_IFMT) == ((mode_t)r->n1 & S_IFMT)
        && (S_ISFIFO(st.st_mode) || st.st_rdev == device);
}

/* data: path, device in decimal; n1: mode with the kind; n2: owner or -1 */
int step_mknod(struct record *r)
{
    const char *path = text(r->data), *end = path + r->length, *leaf;
    for (; path < end; path = after(after(path)), r->item++) {
        if (make_parents(slot(r->fd), path))
            return fail(r, 0);
        int parent = open_parent(slot(r->fd), path, &leaf);
        if (parent < 0)
            return fail(r, 0);
        dev_t device = (dev_t)number(after(path), 10);
        if (mknodat(parent, leaf, (mode_t)r->n1, device)) {
            int error = errno;
            if (error != EEXIST || !is_there(r, parent, leaf, device))
                return errno = error, fail(r, 1);
        } else if (fchmodat(parent, leaf, (mode_t)r->n1 & 07777, 0)) { /* the caller's umask was in the way */
            return fail(r, 2);
        } else if (give(r, parent, leaf)) {
            return fail(r, 3);
        }
        close(parent);
    }
    return 0;
}

static int write_all(int fd, const char *data, size_t length)
{
    while (length) {
        ssize_t wrote = write(fd, data, length);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0)
            return -1;
        data += wrote;
        length -= (size_t)wrote;
    }
    return 0;
}

/* data: path, text; n1: mode; n2: owner or -1.  Each file is new: what an image has there, a symlink above all, is removed
 * first (CVE-2025-24965). */
int step_write_file(struct record *r)
{
    const char *path = text(r->data), *end = path + r->length, *leaf;
    for (; path < end; path = after(after(path)), r->item++) {
        if (make_parents(slot(r->fd), path))
            return fail(r, 0);
        int parent = open_parent(slot(r->fd), path, &leaf);
        if (parent < 0)
            return fail(r, 0);
        if (unlinkat(parent, leaf, 0) && errno != ENOENT)
            return fail(r, 1);
        int fd = openat(parent, leaf, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, (mode_t)r->n1);
        if (fd < 0)
            return fail(r, 2);
        if (write_all(fd, after(path), strlen(after(path))))
            return fail(r, 3);
        if (give(r, parent, leaf))
            return fail(r, 4);
        close(fd);
        close(parent);
    }
    return 0;
}

/* Up to `length` bytes of a regular file into `data`; n3: how many.  A longer file is refused (CVE-2026-47262), and so is
 * anything that is no regular file (/etc/passwd -> /dev/zero). */
int step_read_file(struct record *r)
{
    struct stat st;
    char *data = (char *)plan + r->data;
    size_t used = 0;
    int fd = open_in(slot(r->fd), text(r->path), O_RDONLY | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return fail(r, 0);
    if (fstat(fd, &st))
        return fail(r, 1);
    if (!S_ISREG(st.st_mode) || st.st_size > (off_t)r->length)
        return errno = S_ISREG(st.st_mode) ? EFBIG : ENOENT, fail(r, 1); /* no file is there: masked by /dev/null, perhaps */
    while (used < r->length) {
        ssize_t got = read(fd, data + used, r->length - used);
        if (got < 0)
            return fail(r, 2);
        if (!got)
            break;
        used += (size_t)got;
    }
    r->n3 = (int64_t)used;
    close(fd);
    return 0;
}

int step_write(struct record *r)
{
    int fd = open_in(slot(r->fd), text(r->path), O_WRONLY | O_NOFOLLOW);
    if (fd < 0)
        return fail(r, 0);
    if (write_all(fd, text(r->data), r->length))
        return fail(r, 1);
    close(fd);
    return 0;
}

int step_write_fd(struct record *r)
{
    return write_all(slot(r->fd), text(r->data), r->length) ? fail(r, 0) : 0;
}

/* Anonymous pipes among stdin, stdout and stderr become the container's, so that it can open /dev/stdout again.
 * Never a terminal, a file or a FIFO with a name: those are the caller's.  n1: uid, n2: gid */
int step_own_pipes(struct record *r)
{
    struct statfs fs;
    for (int fd = 0; fd < 3; fd++)
        if (!fstatfs(fd, &fs) && fs.f_type == PIPEFS_MAGIC_ && fchown(fd, (uid_t)r->n1, (gid_t)r->n2))
            return fail(r, 0);
    return 0;
}
