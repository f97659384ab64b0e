/* Steps on mounts, by the interface that works on descriptors: fsopen, open_tree, mount_setattr, move_mount. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include "init.h"
#include "kernel.h"

enum { AS_IT_IS = 0, DIRECTORY = 1, PLAIN_FILE = 2, LIKE_SOURCE = 3 }; /* n1 of move_mount: what to make where nothing is */

/* n1: without the mounts below it */
int step_open_tree(struct record *r)
{
    const char *path = text(r->path);
    long fd = syscall(NR_open_tree, slot(r->fd), path,
                      OPEN_TREE_CLONE_ | O_CLOEXEC | (r->n1 ? 0 : AT_RECURSIVE_) | (*path ? 0 : AT_EMPTY_PATH));
    if (fd < 0)
        return fail(r, 0);
    fill(r->out, (int)fd);
    return 0;
}

static int set_attributes(int fd, const char *path, struct mount_attr_ attributes, int recursive)
{
    return (int)syscall(NR_mount_setattr, fd, path, (*path ? 0 : AT_EMPTY_PATH) | (recursive ? AT_RECURSIVE_ : 0),
                        &attributes, sizeof attributes);
}

/* n1 what to set, and in its upper half to clear; n2 propagation, n3 recursive; fd2 the user namespace to map ids through */
int step_set_attr(struct record *r)
{
    struct mount_attr_ attributes = {
        .attr_set = (uint32_t)r->n1, .attr_clr = (uint64_t)r->n1 >> 32, .propagation = (uint64_t)r->n2,
    };
    if (r->fd2 >= 0) {
        attributes.attr_set |= MOUNT_ATTR_IDMAP_;
        attributes.userns_fd = (uint64_t)slot(r->fd2);
    }
    return set_attributes(slot(r->fd), text(r->path), attributes, r->n3 != 0) ? fail(r, 0) : 0;
}

/* Copy an option, a `{3}` in it replaced by the number of the descriptor in slot 3. */
static int expand(char *to, size_t room, const char *from)
{
    size_t used = 0;
    while (*from) {
        if (used + 12 >= room)
            return -1;
        if (*from != '{') {
            to[used++] = *from++;
            continue;
        }
        int divisor = 1000000;
        unsigned number = 0;
        for (from++; *from && *from != '}'; from++)
            number = number * 10 + (unsigned)(*from - '0');
        if (*from)
            from++;
        int fd = slot((int)number);
        while (divisor > 1 && fd / divisor == 0)
            divisor /= 10;
        for (; divisor; divisor /= 10)
            to[used++] = (char)('0' + fd / divisor % 10);
    }
    to[used] = 0;
    return 0;
}

/* The file system's own words about what it refused: one line of the context's log, fsopen(2). */
static void take_message(int context)
{
    int keep = errno;
    ssize_t got = read(context, plan->message, MESSAGE - 1);
    plan->message_length = got > 0 ? (uint32_t)got : 0;
    errno = keep;
}

/* An overlay writes with the ids of whoever makes it, and through an ids-mapped upper directory only mapped ones can. */
static int create(int context, uid_t id)
{
    if (id) {
        if (prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP_)) /* or the capabilities on files would go */
            return -1;
        setfsgid(id);
        setfsuid(id);
    }
    int failed = (int)syscall(NR_fsconfig, context, FSCONFIG_CMD_CREATE_, NULL, NULL, 0);
    if (id) {
        int keep = errno;
        setfsuid(0);
        setfsgid(0);
        prctl(PR_SET_SECUREBITS, 0);
        errno = keep;
    }
    return failed;
}

/* path: type; path2: source, by default the type; data: options; n1: attributes; n2: the id to make it as, 0 for one's own */
int step_new_mount(struct record *r)
{
    int context = (int)syscall(NR_fsopen, text(r->path), 1 /* FSOPEN_CLOEXEC */);
    if (context < 0)
        return fail(r, 0);
    for (const char *at = text(r->data), *end = at + r->length; at < end; at += strlen(at) + 1) {
        static char option[1024];
        if (expand(option, sizeof option, at))
            return errno = E2BIG, fail(r, 1);
        char *value = strchr(option, '=');
        if (value)
            *value++ = 0;
        if (syscall(NR_fsconfig, context, value ? FSCONFIG_SET_STRING_ : FSCONFIG_SET_FLAG_, option, value, 0)) {
            take_message(context);
            return fail(r, 1);
        }
    }
    /* Of a file system that is on no disk the source is only a name, which mount(8) and df(1) show. */
    syscall(NR_fsconfig, context, FSCONFIG_SET_STRING_, "source", text(r->path2 ? r->path2 : r->path), 0);
    if (create(context, (uid_t)r->n2)) {
        take_message(context);
        return fail(r, 1);
    }
    int fd = (int)syscall(NR_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, (unsigned)r->n1);
    if (fd < 0)
        return fail(r, 2);
    close(context);
    fill(r->out, fd);
    return 0;
}

static int move(int mount, int target)
{
    return (int)syscall(NR_move_mount, mount, "", target, "", MOVE_MOUNT_F_EMPTY_PATH_ | MOVE_MOUNT_T_EMPTY_PATH_);
}

static int make_target(struct record *r, int root, const char *path)
{
    struct stat source;
    int kind = (int)r->n1;
    if (make_parents(root, path))
        return -1;
    if (kind == LIKE_SOURCE) {
        if (fstat(slot(r->fd), &source))
            return -1;
        kind = S_ISDIR(source.st_mode) ? DIRECTORY : PLAIN_FILE;
    }
    if (kind == DIRECTORY)
        return make_directories(root, path, 0755);
    const char *leaf;
    int parent = open_parent(root, path, &leaf);
    int fd = parent < 0 ? -1 : openat(parent, leaf, O_CREAT | O_EXCL | O_NOFOLLOW | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    close(fd);
    close(parent);
    return 0;
}

/* fd: the mount; fd2: the root that path is in; n1: what to make; n2: flags of the opening (O_NOFOLLOW for /proc, /dev) */
int step_move_mount(struct record *r)
{
    int root = slot(r->fd2);
    const char *path = text(r->path);
    uint64_t flags = O_PATH | (uint64_t)r->n2;
    int target = open_in(root, path, flags);
    if (target < 0 && errno == ENOENT && r->n1 != AS_IT_IS) {
        if (make_target(r, root, path))
            return fail(r, 1);
        target = open_in(root, path, flags);
    }
    if (target < 0)
        return fail(r, 0);
    if (move(slot(r->fd), target))
        return fail(r, 2);
    close(target);
    return 0;
}

static int is_absent(int error)
{
    return error == ENOENT || error == ENOTDIR;
}

static int mask_one(struct record *r, const char *path)
{
    struct stat st;
    int target = open_in(slot(r->fd), path, O_PATH);
    if (target < 0)
        return is_absent(errno) ? 0 : fail(r, 0);
    if (fstat(target, &st))
        return fail(r, 1);
    int directory = S_ISDIR(st.st_mode), from = slot(directory ? (int)r->n1 : r->fd2);
    const char *leaf = directory ? "" : text(r->path);
    long cover = syscall(NR_open_tree, from, leaf, OPEN_TREE_CLONE_ | O_CLOEXEC | (*leaf ? 0 : AT_EMPTY_PATH));
    if (cover < 0)
        return fail(r, 2);
    /* The cover must be what we took it for: the null device itself (CVE-2025-31133). */
    if (!directory && (fstat((int)cover, &st) || !S_ISCHR(st.st_mode) || st.st_rdev != 0x103))
        return errno = ENODEV, fail(r, 1);
    if (move((int)cover, target))
        return fail(r, 3);
    close((int)cover);
    close(target);
    return 0;
}

/* data: paths below the root fd, of which one that is absent is passed over; a directory is covered by a copy of the empty
 * mount in slot n1, anything else by path in slot fd2 (null) */
int step_mask(struct record *r)
{
    int error = 0;
    for (const char *path = text(r->data), *end = path + r->length; path < end && !error; path = after(path))
        if (!(error = mask_one(r, path)))
            r->item++;
    return error;
}

static int read_only_one(struct record *r, const char *path)
{
    struct mount_attr_ attributes = {.attr_set = MOUNT_ATTR_RDONLY_};
    int target = open_in(slot(r->fd), path, O_PATH);
    if (target < 0)
        return is_absent(errno) ? 0 : fail(r, 0);
    long copy = syscall(NR_open_tree, target, "", OPEN_TREE_CLONE_ | O_CLOEXEC | AT_RECURSIVE_ | AT_EMPTY_PATH);
    if (copy < 0)
        return fail(r, 1);
    if (set_attributes((int)copy, "", attributes, 1))
        return fail(r, 2);
    if (move((int)copy, target))
        return fail(r, 3);
    close((int)copy);
    close(target);
    return 0;
}

/* data: paths below the root fd, of which one that is absent is passed over */
int step_read_only(struct record *r)
{
    int error = 0;
    for (const char *path = text(r->data), *end = path + r->length; path < end && !error; path = after(path))
        if (!(error = read_only_one(r, path)))
            r->item++;
    return error;
}

/* The new root, already attached, becomes `/`; the old one lies on top of it until drop_old, pivot_root(2). */
int step_pivot_root(struct record *r)
{
    if (fchdir(slot(r->fd)))
        return fail(r, 0);
    return syscall(SYS_pivot_root, ".", ".") ? fail(r, 1) : 0;
}

int step_drop_old(struct record *r)
{
    if (umount2(".", MNT_DETACH))
        return fail(r, 0);
    return chdir("/") ? fail(r, 1) : 0;
}
