/* Steps on the network: words of rtnetlink(7) that Python has written, and network namespaces. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "init.h"

/* netlink(7), rtnetlink(7): musl has no headers of the kernel's */
enum { ROUTE_ = 0, SOL_NETLINK_ = 270, EXT_ACK_ = 11, CAP_ACK_ = 10, ERROR_ = 2, ACK_TLVS_ = 0x200, ACK_MESSAGE_ = 1 };
enum { NEWLINK_ = 16, OPERSTATE_ = 16, OPER_UNKNOWN_ = 0, OPER_UP_ = 6, LINK_SIZE_ = 16 };
struct message { uint32_t length; uint16_t type, flags; uint32_t sequence, port; };
struct attribute { uint16_t length, type; };
#define ALIGNED(size) (((size_t)(size) + 3) & ~(size_t)3)

int step_loopback(struct record *r)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail(r, 0);
    if (ioctl(fd, SIOCSIFFLAGS, &request))
        return fail(r, 1);
    close(fd);
    return 0;
}

/* fd: a network namespace to go into */
int step_enter_net(struct record *r)
{
    return setns(slot(r->fd), CLONE_NEWNET) ? fail(r, 0) : 0;
}

/* A socket of rtnetlink in the namespace `there`, or in our own; we ourselves stay where we are. */
static int speak_in(int there)
{
    const int on = 1;
    int home = -1, fd;
    if (there >= 0 && ((home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) < 0 || setns(there, CLONE_NEWNET)))
        return -1;
    fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, ROUTE_);
    if (home >= 0) {
        if (setns(home, CLONE_NEWNET))
            return -1;
        close(home);
    }
    if (fd >= 0) {
        setsockopt(fd, SOL_NETLINK_, CAP_ACK_, &on, sizeof on); /* only nicer answers */
        setsockopt(fd, SOL_NETLINK_, EXT_ACK_, &on, sizeof on);
    }
    return fd;
}

/* The content of an attribute in a message, the attributes of which begin at `from`; its size in *size; NULL for none */
static const char *find(const struct message *m, size_t from, int type, size_t *size)
{
    const char *at = (const char *)m + from, *end = (const char *)m + m->length;
    while (at + sizeof(struct attribute) <= end) {
        const struct attribute *a = (const struct attribute *)at;
        if (a->length < sizeof *a || a->length > end - at)
            break;
        *size = a->length - sizeof *a;
        if (a->type == type)
            return at + sizeof *a;
        at += ALIGNED(a->length);
    }
    return NULL;
}

/* The kernel's own words about what it refused. */
static void take_words(const struct message *m)
{
    size_t size;
    const char *words = m->flags & ACK_TLVS_ ? find(m, sizeof *m + 4 + sizeof *m, ACK_MESSAGE_, &size) : NULL;
    if (words) {
        plan->message_length = (uint32_t)strnlen(words, size < MESSAGE ? size : MESSAGE);
        memcpy(plan->message, words, plan->message_length);
    }
}

/* Whether the device that a message tells of carries packets, RFC 2863. */
static int is_operational(const struct message *m)
{
    size_t size;
    const char *state = find(m, sizeof *m + LINK_SIZE_, OPERSTATE_, &size);
    return !state || !size || *state == OPER_UP_ || *state == OPER_UNKNOWN_;
}

/* Send a batch and take the answers; 0, or the errno of the first message that was refused, its place in r->item.
 * *up: whether all devices that were asked about are operational */
static int exchange(struct record *r, int fd, const char *data, int *up)
{
    static char room[32768] __attribute__((aligned(8)));
    uint32_t last = 0;
    for (size_t at = 0; at + sizeof(struct message) <= r->length; ) {
        const struct message *m = (const struct message *)(data + at);
        if (m->length < sizeof *m || m->length > r->length - at)
            return errno = EINVAL, fail(r, 4);
        last = m->sequence;
        at += ALIGNED(m->length);
    }
    if (send(fd, data, r->length, 0) < 0)
        return fail(r, 4);
    for (uint32_t answered = 0; answered != last; ) {
        ssize_t got = recv(fd, room, sizeof room, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail(r, 5);
        for (size_t at = 0; at + sizeof(struct message) <= (size_t)got; ) {
            const struct message *m = (const struct message *)(room + at);
            if (m->length < sizeof *m || m->length > (size_t)got - at)
                return errno = EPROTO, fail(r, 5);
            at += ALIGNED(m->length);
            if (m->type == NEWLINK_)
                *up &= is_operational(m);
            if (m->type != ERROR_ || m->length < sizeof *m + 4)
                continue;
            int error = -*(const int32_t *)(m + 1);
            answered = m->sequence;
            if (error && !accepted(r, error)) {
                take_words(m);
                r->item = (uint16_t)(answered - 1);
                return errno = error, fail(r, 5);
            }
        }
    }
    return 0;
}

/* data: a batch of rtnetlink, numbered from 1, every message to be acknowledged; fd: the namespace to speak in, none for
 * our own; fd2: a slot whose descriptor goes into the batch at n1; path: a device whose index goes in at n2; n3: how many
 * milliseconds to ask again, until the devices asked about are operational */
int step_netlink(struct record *r)
{
    static char data[4096] __attribute__((aligned(8)));
    int fd = speak_in(r->fd >= 0 ? slot(r->fd) : -1), error, up;
    if (fd < 0)
        return fail(r, 1);
    if (r->length > sizeof data || r->n1 < 0 || r->n2 < 0 || r->n1 + 4 > r->length || r->n2 + 4 > r->length)
        return close(fd), errno = EINVAL, fail(r, 4);
    memcpy(data, text(r->data), r->length);
    if (r->fd2 >= 0)
        memcpy(data + r->n1, &(int){slot(r->fd2)}, sizeof(int));
    if (*text(r->path)) {
        struct ifreq request = {0};
        strncpy(request.ifr_name, text(r->path), IFNAMSIZ - 1);
        if (ioctl(fd, SIOCGIFINDEX, &request))
            return error = fail(r, 3), close(fd), error;
        memcpy(data + r->n2, &request.ifr_ifindex, sizeof(int));
    }
    for (int64_t left = r->n3; ; left--) {
        up = 1;
        error = exchange(r, fd, data, &up);
        if (error || up || left <= 0)
            break;
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
    close(fd);
    return error;
}
