/* dolium-init: receives a plan, walks its steps, reports numbers.  It decides no policy: what to do, on what and what counts
 * as done is in the records; words are made in Python, which has the plan.
 *
 * Two actors walk one list.  `outside` is this process, beside the container in the host's pid namespace; `inside` is its
 * child from the `clone` step on, up to exec.  The report is written into the mapping both share, so nothing is sent. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include "init.h"
#include "kernel.h"
#include "send.h"

struct header *plan;
int slots[SLOTS];
int peer = -1;
int child_pidfd = -1;
static int owner, plan_fd;
static int apart; /* this process has a copy of the plan for itself: what fails is told over the pair */

static step_function *const operations[] = {
#define STEP(name, ...) step_##name,
#include "steps.def"
#undef STEP
};

const char *text(uint32_t offset)
{
    return offset && offset < plan->size ? (const char *)plan + offset : "";
}

int slot(int number)
{
    return number >= 0 && number < SLOTS ? slots[number] : AT_FDCWD;
}

void fill(int number, int fd)
{
    if (number >= 0 && number < SLOTS)
        slots[number] = fd;
}

int fail(struct record *r, int call)
{
    r->call = (uint8_t)call;
    return errno;
}

/* A container's filter may refuse even this, and libc would try it for ever; what a trap raises ends PID 1, too. */
_Noreturn void quit(int code)
{
    syscall(SYS_exit_group, code);
    __builtin_trap();
}

static struct record *records(void)
{
    return (struct record *)(plan + 1);
}

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int accepted(const struct record *r, int error)
{
    return error == r->accept[0] || error == r->accept[1] || error == r->accept[2] || error == r->accept[3];
}

/* Run one record, and its `other` where its errno says so. */
static int perform(struct record *r)
{
    uint64_t start = now();
    int error;
#ifdef DOLIUM_FAULTS
    if (r->fault) {
        error = r->fault;
        goto done;
    }
#endif
    error = operations[r->op](r);
#ifdef DOLIUM_FAULTS
done:
#endif
    if (error && accepted(r, error)) {
        r->branch = 1;
        error = 0;
    } else if (error && error == r->other_errno && r->other > 0 && (uint32_t)r->other < plan->records) {
        r->branch = 2;
        error = perform(records() + r->other);
    }
    r->error = error;
    r->nanoseconds = (uint32_t)(now() - start);
    return error;
}

/* What a process that is apart says of the record that failed. */
struct failure {
    uint32_t index;
    struct record record;
};

static int walk(int actor, uint32_t from)
{
    for (uint32_t i = from; i < plan->records; i++) {
        struct record *r = records() + i;
        if (!(r->actor & actor))
            continue;
        if (perform(r)) {
            int none = -1;
            struct failure failure = {i, *r};
            if (apart)
                send(peer, &failure, sizeof failure, MSG_NOSIGNAL);
            __atomic_compare_exchange_n(&plan->failed, &none, (int)i, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
            return -1;
        }
    }
    return 0;
}

/* Map the plan and refuse one that does not hold together (CVE-2021-43784 was an overflow in such data). */
static int receive(void)
{
    struct stat st;
    if (fstat(plan_fd, &st) || st.st_size < (off_t)sizeof *plan || st.st_size > 1 << 30)
        return -1;
    plan = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, plan_fd, 0);
    if (plan == MAP_FAILED || plan->magic != WIRE_MAGIC || plan->size != st.st_size || plan->records > 4096
        || sizeof *plan + plan->records * sizeof(struct record) >= plan->size || ((char *)plan)[plan->size - 1])
        return -1;
    const size_t first = sizeof *plan + plan->records * sizeof(struct record);
    for (uint32_t i = 0; i < plan->records; i++) {
        const struct record *r = records() + i;
        if (r->op >= sizeof operations / sizeof *operations || r->data >= plan->size || r->length >= plan->size - r->data)
            return -1;
        if ((r->length && r->data < first) || (r->other && r->other <= (int32_t)i)) /* over the records; round in a circle */
            return -1;
    }
    for (int i = 0; i < SLOTS; i++)
        slots[i] = plan->slots[i];
    return 0;
}

/* Everything above the descriptors that the plan knows is the caller's leak; what it knows must not outlive an exec. */
static void seal_descriptors(void)
{
    int highest = owner > plan_fd ? owner : plan_fd;
    for (int i = 0; i < SLOTS; i++)
        if (slots[i] > highest)
            highest = slots[i];
    for (int fd = 3; fd <= highest; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
    syscall(NR_close_range, highest + 1, ~0u, 0);
}

/* inside: make the pair's other end ours, walk; exec closes the pair, which tells outside. */
static _Noreturn void live_inside(uint32_t from)
{
    walk(INSIDE, from);
    quit(1);
}

int step_clone(struct record *r)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
        return fail(r, 0);
    struct clone_args_ args = {
        .flags = (uint64_t)r->n1 | CLONE_PIDFD_, .pidfd = (uint64_t)(uintptr_t)&child_pidfd, .exit_signal = SIGCHLD,
    };
    if (r->fd >= 0) {
        args.flags |= CLONE_INTO_CGROUP_;
        args.cgroup = (uint64_t)slot(r->fd);
    }
    long pid = syscall(NR_clone3, &args, sizeof args);
    if (pid < 0)
        return fail(r, 0);
    peer = pair[pid != 0];
    close(pair[pid == 0]);
    if (pid == 0)
        live_inside((uint32_t)(r - records()) + 1);
    plan->child = (int32_t)pid;
    return 0;
}

/* Wait until inside has become the program (its end of the pair closes at exec) or has failed.  Who is apart lives where
 * others may have hold of it: of what it says only that a step of its own failed, and how, is believed. */
static int settle(void)
{
    struct failure failure;
    ssize_t got;
    while ((got = recv(peer, &failure, sizeof failure, 0)) < 0 && errno == EINTR)
        ;
    if (got == sizeof failure && failure.index < plan->records && plan->failed < 0) {
        struct record *r = records() + failure.index;
        if (r->actor & INSIDE) {
            r->error = failure.record.error;
            r->call = failure.record.call;
            r->item = failure.record.item;
            plan->failed = (int32_t)failure.index;
        }
    }
    return plan->failed >= 0 || plan->phase != PHASE_EXEC;
}

/* Wait for the end of the child; its wait status. */
static int bury(void)
{
    siginfo_t info = {0};
    while (waitid(P_PIDFD_, (id_t)child_pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    close(child_pidfd);
    child_pidfd = -1;
    return info.si_code == CLD_EXITED ? info.si_status << 8 : info.si_status;
}

/* Until here the child has done everything from a place where nobody in the container could see it.  Now it makes another,
 * in the container's PID namespace, with nothing that is not the program's but the pair and a private view of the plan
 * (CVE-2016-9962), and is gone.  The other is outside's child too (CLONE_PARENT), which has a pidfd of it from here on.
 * By clone(2): a filter that is loaded already may refuse clone3.  n2: how many descriptors from 3 on are the program's too */
int step_born(struct record *r)
{
    if (child_pidfd >= 0) { /* outside */
        plan->status = bury();
        if (plan->status) {
            settle();
            return errno = ECHILD, fail(r, 2);
        }
        plan->status = -1;
        plan->phase = PHASE_EXEC;
        plan->child = (int32_t)r->n1;
        child_pidfd = (int)syscall(NR_pidfd_open, plan->child, 0); /* nobody else can have reaped it */
        return child_pidfd < 0 ? fail(r, 3) : 0;
    }
    struct header *shared = mmap(NULL, plan->size, PROT_READ | PROT_WRITE, MAP_SHARED, plan_fd, 0);
    if (shared == MAP_FAILED || madvise(shared, plan->size, MADV_DONTFORK)
        || mmap(plan, plan->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, plan_fd, 0) == MAP_FAILED)
        return fail(r, 0);
    apart = 1;
    if (peer > 3 + r->n2)
        syscall(NR_close_range, 3 + r->n2, peer - 1, 0);
    syscall(NR_close_range, peer + 1, ~0u, 0);
    long pid = syscall(SYS_clone, CLONE_PARENT_, 0, 0, 0, 0);
    if (pid < 0)
        return fail(r, 1);
    if (pid > 0) {
        ((struct record *)((char *)shared + ((char *)r - (char *)plan)))->n1 = pid; /* the header's own is outside's to write */
        quit(0);
    }
    return setsid() < 0 ? fail(r, 4) : 0;
}

/* fd: a slot whose descriptor the owner gets.  Said as dolium-keep does that the program runs. */
int step_offer(struct record *r)
{
    return send_descriptor(owner, 'S', slot(r->fd)) < 0 ? fail(r, 0) : 0;
}

/* dolium-init OWNER PLAN: the descriptors of the owner's socket and of the plan */
int main(int argc, char **argv)
{
    sigset_t all;
    prctl(PR_SET_NAME, argv[0]); /* it was started by the number of a descriptor */
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL); /* a Ctrl-C at the terminal is the owner's to forward */
    if (argc != 3)
        return 2;
    owner = atoi(argv[1]);
    plan_fd = atoi(argv[2]);
    if (receive())
        return 2;
    seal_descriptors();
    int failed = walk(OUTSIDE, 0);
    /* Only a failure, or a plan without `keep`, comes back here; of the latter inside ends by itself. */
    if (child_pidfd >= 0) {
        if (failed)
            syscall(NR_pidfd_send_signal, child_pidfd, SIGKILL, NULL, 0);
        plan->status = bury();
    }
    send(owner, "F", 1, MSG_NOSIGNAL);
    return failed ? 1 : 0;
}

/* outside asks Python, whose steps come next in the plan, and goes on when that says so.  An owner that dies meanwhile, or
 * gives up, closes its end: then nothing goes on. */
int step_ask(struct record *r)
{
    char byte;
    ssize_t got;
    if (send(owner, "H", 1, MSG_NOSIGNAL) < 0)
        return fail(r, 0);
    while ((got = recv(owner, &byte, 1, 0)) < 0 && errno == EINTR)
        ;
    return got == 1 ? 0 : (errno = ECANCELED, fail(r, 1));
}

/* inside, created, waits for `start`: one message on a connection to the socket in slot fd, over which what fails from here
 * on is told; exec closes it.  n1: how many descriptors from 3 on are the program's */
int step_wait_start(struct record *r)
{
    char byte;
    int listener = slot(r->fd), low = listener < peer ? listener : peer, high = listener < peer ? peer : listener, waiting;
    syscall(NR_close_range, 3 + r->n1, low - 1, 0); /* nothing of the host's stays open while it waits */
    syscall(NR_close_range, low + 1, high - 1, 0);
    syscall(NR_close_range, high + 1, ~0u, 0);
    while ((waiting = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) < 0)
        if (errno != EINTR)
            return fail(r, 0);
    close(listener);
    if (recv(waiting, &byte, 1, 0) != 1)
        return fail(r, 1);
    peer = waiting;
    apart = 1;
    return 0;
}

/* inside, made in advance, waits until its owner has written into the records that follow what is to run: one message on the
 * socket in slot fd, with the program's 0, 1 and 2.  An owner that closes it wants nothing */
int step_wait_command(struct record *r)
{
    union {
        char room[CMSG_SPACE(sizeof(int) * 3)];
        struct cmsghdr align;
    } control;
    char byte;
    struct iovec io = {&byte, 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    const struct cmsghdr *header = &control.align;
    int from = slot(r->fd), fds[3];
    ssize_t got;
    syscall(NR_close_range, 3, from - 1, 0); /* nothing of the host's stays open while it waits */
    syscall(NR_close_range, from + 1, ~0u, 0);
    while ((got = recvmsg(from, &message, MSG_CMSG_CLOEXEC)) < 0 && errno == EINTR)
        ;
    if (got != 1 || message.msg_controllen < header->cmsg_len || header->cmsg_len != CMSG_LEN(sizeof fds))
        return errno = ECANCELED, fail(r, 0);
    memcpy(fds, CMSG_DATA(&control.align), sizeof fds);
    for (int i = 0; i < 3; i++)
        if (dup2(fds[i], i) < 0)
            return fail(r, 1);
    return 0;
}

/* outside goes as soon as the program runs, or (n1) at once: nobody watches over it */
int step_leave(struct record *r)
{
    if (!r->n1 && settle())
        return fail(r, 0), ECHILD;
    close(child_pidfd);
    child_pidfd = -1;
    return 0;
}

/* A number as text, at the end of room for it. */
static char *digits(char room[12], int n)
{
    char *at = room + 11;
    *at = 0;
    do
        *--at = (char)('0' + n % 10);
    while (n /= 10);
    return at;
}

/* outside's last step: when the program runs, or (n1) at once, become dolium-keep.  data: its words; of one that ends in ={SLOT}
 * the slot's descriptor takes the place of the braces, and is kept open */
int step_keep(struct record *r)
{
    static char numbers[2][12], room[1024];
    static const char *argv[64] = {"dolium-keep"};
    size_t count = 3, used = 0;
    if (!r->n1 && settle())
        return fail(r, 0), ECHILD;
    argv[1] = digits(numbers[0], owner);
    argv[2] = digits(numbers[1], child_pidfd);
    fcntl(owner, F_SETFD, 0);
    fcntl(child_pidfd, F_SETFD, 0);
    for (const char *at = text(r->data), *end = at + r->length; at < end && count < 63; at += strlen(at) + 1) {
        const char *value = strchr(at, '=');
        argv[count++] = at;
        if (!value || value[1] != '{')
            continue;
        int fd = slot(atoi(value + 2));
        char number[12], *shown = digits(number, fd < 0 ? 0 : fd);
        size_t key = (size_t)(value + 1 - at);
        if (fd < 0 || used + key + sizeof number > sizeof room)
            return errno = EINVAL, fail(r, 0);
        argv[count - 1] = memcpy(room + used, at, key);
        strcpy(room + used + key, shown);
        used += key + strlen(shown) + 1;
        fcntl(fd, F_SETFD, 0); /* of the lease the lock says that somebody lives */
    }
    static char *const nothing[] = {NULL};
    syscall(SYS_execveat, slot(r->fd), "", argv, nothing, AT_EMPTY_PATH);
    return fail(r, 0);
}
