/* Steps on namespaces, and the conversation between the two actors. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include "init.h"
#include "kernel.h"

int step_unshare(struct record *r)
{
    return unshare((int)r->n1) ? fail(r, 0) : 0;
}

/* fd: a pidfd of a container's first process; n1: which of its namespaces, all of them or none (setns(2), Linux 5.8) */
int step_join(struct record *r)
{
    return setns(slot(r->fd), (int)r->n1) ? fail(r, 0) : 0;
}

/* /proc/PID/NAME of this process (who 0) or of the child (who 1). */
static int open_proc(int who, const char *name, int flags)
{
    char path[64] = "/proc/self/";
    if (strlen(name) > 32)
        return errno = ENAMETOOLONG, -1;
    if (who) {
        char digits[12], *at = digits + sizeof digits - 1;
        *at = 0;
        for (int n = plan->child; n; n /= 10)
            *--at = (char)('0' + n % 10);
        strcpy(path + 6, at);
        strcat(path, "/");
    }
    strcat(path, name);
    return open(path, flags | O_CLOEXEC);
}

static int put(int who, const char *name, const char *value)
{
    int fd = open_proc(who, name, O_WRONLY);
    if (fd < 0)
        return -1;
    ssize_t wrote = write(fd, value, strlen(value));
    int keep = errno;
    close(fd);
    errno = keep;
    return wrote < 0 ? -1 : 0;
}

/* path: uid_map, path2: gid_map; n1: whose; n2: deny setgroups, without which an unprivileged gid_map is refused,
 * user_namespaces(7) */
int step_map_ids(struct record *r)
{
    int who = (int)r->n1;
    if (r->n2 && put(who, "setgroups", "deny"))
        return fail(r, 1);
    if (put(who, "uid_map", text(r->path)) || put(who, "gid_map", text(r->path2)))
        return fail(r, 1);
    return 0;
}

/* path: a name in /proc/CHILD, such as ns/user */
int step_open_ns(struct record *r)
{
    int fd = open_proc(1, text(r->path), O_RDONLY);
    if (fd < 0)
        return fail(r, 0);
    fill(r->out, fd);
    return 0;
}

/* Outside says "go on" and hands over descriptors; inside waits for it.  data: the slots' numbers, a byte each; n1: the
 * other way round, inside says how far it has come */
int step_sync(struct record *r)
{
    union {
        char room[CMSG_SPACE(sizeof(int) * SLOTS)];
        struct cmsghdr align;
    } control;
    unsigned char byte = 1;
    struct iovec io = {&byte, 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
    const unsigned char *numbers = (const unsigned char *)text(r->data);
    size_t count = r->length < SLOTS ? r->length : SLOTS;
    int sending = (child_pidfd >= 0) != (r->n1 != 0), fds[SLOTS];
    if (count) {
        message.msg_control = control.room;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    }
    if (sending) {
        if (count) {
            struct cmsghdr *header = CMSG_FIRSTHDR(&message);
            header->cmsg_level = SOL_SOCKET;
            header->cmsg_type = SCM_RIGHTS;
            header->cmsg_len = CMSG_LEN(sizeof(int) * count);
            for (size_t i = 0; i < count; i++)
                fds[i] = slot(numbers[i]);
            memcpy(CMSG_DATA(header), fds, sizeof(int) * count);
        }
        return sendmsg(peer, &message, MSG_NOSIGNAL) < 0 ? fail(r, 0) : 0;
    }
    ssize_t got;
    do
        got = recvmsg(peer, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got <= 0 || (message.msg_flags & MSG_CTRUNC))
        return errno = ECANCELED, fail(r, 1); /* the other has died or failed: so do we */
    if (count) {
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        if (!header || header->cmsg_len != CMSG_LEN(sizeof(int) * count))
            return errno = ECANCELED, fail(r, 1);
        memcpy(fds, CMSG_DATA(header), sizeof(int) * count);
        for (size_t i = 0; i < count; i++)
            fill(numbers[i], fds[i]);
    }
    return 0;
}

int step_hostname(struct record *r)
{
    return sethostname(text(r->path), strlen(text(r->path))) ? fail(r, 0) : 0;
}
