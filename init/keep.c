/* dolium-keep: what dolium-init becomes when somebody must stay.  It waits for the container, says how it ended, and kills
 * it when its owner's socket closes, so that not even SIGKILL of the owner leaves a container behind.
 *
 *   dolium-keep OWNER PIDFD OOM MNTNS CGROUP...     descriptors, -1 for none; the container's cgroup directories
 *
 * The owner sends one byte, the number of a signal, to forward it.  The answer at the end is one struct ending.  MNTNS is
 * only held: where memory may have run out, what files in the container's tmpfs take can be counted until the owner closes
 * its socket. */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "kernel.h"

struct ending {
    char kind;               /* 'X' */
    uint8_t oom;             /* the cgroup v1 out-of-memory event came */
    uint8_t code;            /* CLD_EXITED, CLD_KILLED or CLD_DUMPED */
    uint8_t status;          /* exit code or signal */
    uint32_t peak_kib;       /* ru_maxrss */
    uint64_t user_us, system_us;
};

static int owner, pidfd, oom;

static void send_signal(int number)
{
    syscall(NR_pidfd_send_signal, pidfd, number, NULL, 0);
}

/* Until the container has ended.  Returns whether the owner is still there. */
static int watch(struct ending *ending)
{
    struct pollfd fds[3] = {{pidfd, POLLIN, 0}, {owner, POLLIN, 0}, {oom, POLLIN, 0}};
    for (;;) {
        if (poll(fds, 3, -1) < 0)
            continue;
        if (fds[2].revents) { /* on cgroup v1 the kernel kills one process; a container dies as one */
            uint64_t count;
            if (read(oom, &count, sizeof count) == sizeof count)
                ending->oom = 1;
            fds[2].fd = -1;
            send_signal(SIGKILL);
        }
        if (fds[0].revents)
            return fds[1].fd >= 0;
        if (fds[1].revents) {
            unsigned char number;
            if (recv(owner, &number, 1, 0) == 1) {
                send_signal(number);
            } else {
                fds[1].fd = -1;
                send_signal(SIGKILL);
            }
        }
    }
}

static void reap(struct ending *ending)
{
    siginfo_t info = {0};
    struct rusage usage = {0};
    /* Raw, because only the raw call gives the usage, waitid(2). */
    while (syscall(SYS_waitid, P_PIDFD_, pidfd, &info, WEXITED, &usage) < 0 && errno == EINTR)
        ;
    ending->kind = 'X';
    ending->code = (uint8_t)info.si_code;
    ending->status = (uint8_t)info.si_status;
    ending->peak_kib = (uint32_t)usage.ru_maxrss;
    ending->user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000u + (uint64_t)usage.ru_utime.tv_usec;
    ending->system_us = (uint64_t)usage.ru_stime.tv_sec * 1000000u + (uint64_t)usage.ru_stime.tv_usec;
}

/* The owner has died: nobody else removes the cgroups.  A group stays busy for a moment after its last process. */
static void remove_groups(char **groups)
{
    const struct timespec moment = {0, 2000000};
    for (; *groups; groups++)
        for (int tries = 0; tries < 500 && rmdir(*groups) && errno == EBUSY; tries++)
            nanosleep(&moment, NULL);
}

int main(int argc, char **argv)
{
    struct ending ending = {0};
    char byte;
    if (argc < 5)
        return 2;
    for (int fd = 0; fd < 3; fd++) /* or who reads the container's output would never see its end */
        close(fd);
    owner = atoi(argv[1]);
    pidfd = atoi(argv[2]);
    oom = atoi(argv[3]);
    int present = watch(&ending);
    reap(&ending);
    if (present)
        present = send(owner, &ending, sizeof ending, MSG_NOSIGNAL) == sizeof ending;
    if (present && !ending.oom && !(ending.code == CLD_KILLED && ending.status == SIGKILL))
        return 0; /* the kernel takes the mounts apart while the owner reads */
    while (present) { /* the owner closes its end when it has read what it wants to know */
        ssize_t got = recv(owner, &byte, 1, 0);
        if (got == 0)
            return 0;
        if (got < 0 && errno != EINTR)
            break;
    }
    remove_groups(argv + 5);
    return 0;
}
