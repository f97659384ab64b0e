/* dolium-keep: what dolium-init becomes when somebody must stay.  It waits for the container, says how it ended, and kills
 * it when its owner's socket closes, so that not even SIGKILL of the owner leaves a container behind.
 *
 *   dolium-keep OWNER PIDFD WORD...
 *     oom=FD       eventfd of the cgroup v1 out-of-memory event
 *     mounts=FD    the container's mount namespace, only held: where memory may have run out, what files in its tmpfs take
 *                  can be counted until the owner closes its socket
 *     lease=FD     the locked lease, only held
 *     store=FD     where the upper directory of its overlay is, only held: the owner finds it there for a snapshot
 *     announce     tell the owner when the program runs: 'S', and the program's pidfd; before that 'T' and its terminal,
 *                  where it is the owner's
 *     life=MS      kill the container when it is so many milliseconds old
 *     record=FD    a directory; name=NAME: the record NAME.end is written there in the end
 *     detached     the owner leaves as soon as the program runs: it says so, for its death is none of that
 *     out=FD err=FD  what a detached container prints; log=FD where it goes, line by line, or nowhere
 *     terminal=FD  the program's terminal: the owner's, or read as `out` is; slave=FD its other end, only held until the end,
 *                  or it would be gone as soon as the program itself closes it
 *     group=DIR    a cgroup directory to remove where the owner has died
 *     end=WORD     the command that settles a detached container's end, NAME and lease appended
 *
 * The owner sends one byte, the number of a signal, to forward it, or 0 before it leaves; or 0 and eight bytes: so many milliseconds
 * the container may live from now on.  The answer at the end is one struct ending. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "ending.h"
#include "kernel.h"
#include "put.h"
#include "send.h"

enum { STREAMS = 2, LINE = 16384, WORDS = 32, LOG_MOST = 64 << 20 /* bytes: cli/logs.py */ };

/* One of the program's outputs on its way into the log. */
struct stream {
    int fd;
    const char *name;
    size_t held;
    char line[LINE];
};

static int owner, pidfd, oom = -1, mounts = -1, record = -1, log_fd = -1, terminal = -1, slave = -1;
static int detached, announce, owner_left;
static int64_t life = -1; /* CLOCK_MONOTONIC in milliseconds, when it is over */
static const char *name = "", *lease = "";
static char *groups[WORDS], *end[WORDS + 4];
static int group_count, end_count;
static struct stream streams[STREAMS];

static void send_signal(int number)
{
    syscall(NR_pidfd_send_signal, pidfd, number, NULL, 0);
}

/* A line of the log, as Kubernetes' container runtimes write it: time, stream, P(art) or F(ull), text. */
static void write_line(struct stream *stream, const char *text, size_t length, int full)
{
    char line[LINE + 80], *at = line;
    struct timespec t;
    struct tm day;
    clock_gettime(CLOCK_REALTIME, &t);
    gmtime_r(&t.tv_sec, &day);
    at = put(put_number(at, (uint64_t)day.tm_year + 1900, 4), "-");
    at = put(put_number(at, (uint64_t)day.tm_mon + 1, 2), "-");
    at = put(put_number(at, (uint64_t)day.tm_mday, 2), "T");
    at = put(put_number(at, (uint64_t)day.tm_hour, 2), ":");
    at = put(put_number(at, (uint64_t)day.tm_min, 2), ":");
    at = put(put_number(at, (uint64_t)day.tm_sec, 2), ".");
    at = put(put_number(at, (uint64_t)t.tv_nsec, 9), "Z ");
    at = put(put(at, stream->name), full ? " F " : " P ");
    memcpy(at, text, length);
    at += length;
    *at++ = '\n';
    for (char *done = line; done < at;) {
        ssize_t wrote = write(log_fd, done, (size_t)(at - done));
        if (wrote < 0 && errno != EINTR)
            return; /* a full disk must not stop the program */
        if (wrote > 0)
            done += wrote;
    }
    /* The beginning of a long log is given back to the disk; what is left stays where it is, for those who read on. */
    static size_t fresh;
    fresh += (size_t)(at - line);
    if (fresh < LOG_MOST / 64)
        return;
    fresh = 0;
    off_t all = lseek(log_fd, 0, SEEK_END);
    if (all > LOG_MOST)
        fallocate(log_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, all - LOG_MOST);
}

/* Take what is there; closes the stream at its end.  Returns whether there was something. */
static int pump(struct stream *stream)
{
    ssize_t got = read(stream->fd, stream->line + stream->held, LINE - stream->held);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return errno == EINTR;
    if (got > 0)
        stream->held += (size_t)got;
    char *at = stream->line, *stop = stream->line + stream->held, *newline;
    while ((newline = memchr(at, '\n', (size_t)(stop - at)))) {
        write_line(stream, at, (size_t)(newline - at), 1);
        at = newline + 1;
    }
    stream->held = (size_t)(stop - at);
    memmove(stream->line, at, stream->held);
    if (stream->held == LINE || (got <= 0 && stream->held)) {
        write_line(stream, stream->line, stream->held, 0);
        stream->held = 0;
    }
    if (got <= 0) { /* EIO is how a terminal ends */
        close(stream->fd);
        stream->fd = -1;
    }
    return got > 0;
}

static int64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Milliseconds for poll(2): until the container's life is over; not more than the day that fits an int. */
static int patience(void)
{
    if (life < 0)
        return -1;
    int64_t left = life - now();
    return left < 0 ? 0 : left > 86400000 ? 86400000 : (int)left;
}

/* Until the container has ended.  Returns whether the owner is still there. */
static int watch(struct ending *ending)
{
    struct pollfd fds[3 + STREAMS] = {{pidfd, POLLIN, 0}, {owner, POLLIN, 0}, {oom, POLLIN, 0}};
    for (;;) {
        for (int i = 0; i < STREAMS; i++)
            fds[3 + i] = (struct pollfd){streams[i].fd, POLLIN, 0};
        if (poll(fds, 3 + STREAMS, patience()) < 0)
            continue;
        if (life >= 0 && now() >= life) {
            life = -1;
            send_signal(SIGKILL);
        }
        if (fds[2].revents) { /* on cgroup v1 the kernel kills one process; a container dies as one */
            uint64_t count;
            if (read(oom, &count, sizeof count) == sizeof count)
                ending->oom = 1;
            fds[2].fd = -1;
            send_signal(SIGKILL);
        }
        for (int i = 0; i < STREAMS; i++)
            if (fds[3 + i].revents)
                pump(&streams[i]);
        if (fds[0].revents)
            return fds[1].fd >= 0;
        if (fds[1].revents) {
            unsigned char said[9];
            ssize_t got = recv(owner, said, sizeof said, 0);
            if (got == sizeof said) {
                memcpy(&life, said + 1, sizeof life);
                life += now();
            } else if (got == 1) {
                if (said[0])
                    send_signal(said[0]);
                else
                    owner_left = 1;
            } else {
                fds[1].fd = -1;
                if (!owner_left)
                    send_signal(SIGKILL);
            }
        }
    }
}

/* Whether the owner has left, or does; a container can be quicker than that.  It neither leaves nor reads what is sent where it
 * dies or gives up. */
static int leaves(void)
{
    unsigned char number = 1;
    ssize_t got = 1;
    while (!owner_left && (got == 1 || (got < 0 && errno == EINTR))) {
        got = recv(owner, &number, 1, 0);
        owner_left = got == 1 && !number;
    }
    return owner_left;
}

static void reap(struct ending *ending)
{
    siginfo_t info = {0};
    struct rusage usage = {0};
    /* Raw, because only the raw call gives the usage, waitid(2). */
    while (syscall(SYS_waitid, P_PIDFD_, pidfd, &info, WEXITED, &usage) < 0 && errno == EINTR)
        ;
    if (!info.si_code) { /* somebody else has buried it, and knows how it ended: what nobody knows is no success */
        info.si_code = CLD_KILLED;
        info.si_status = SIGKILL;
    }
    ending->kind = 'X';
    ending->code = (uint8_t)info.si_code;
    ending->status = (uint8_t)info.si_status;
    ending->peak_kib = (uint32_t)usage.ru_maxrss;
    ending->user_us = (uint64_t)usage.ru_utime.tv_sec * 1000000u + (uint64_t)usage.ru_utime.tv_usec;
    ending->system_us = (uint64_t)usage.ru_stime.tv_sec * 1000000u + (uint64_t)usage.ru_stime.tv_usec;
}

/* NAME.end: what the owner would be told, and when it was, for whoever asks later.  Whole or not at all. */
static void write_record(const struct ending *ending)
{
    char fresh[128], final[128], text[160], *at = text;
    struct timespec t;
    if (strlen(name) > 100)
        return;
    clock_gettime(CLOCK_REALTIME, &t);
    const uint64_t numbers[] = {ending->code, ending->status, ending->oom, ending->peak_kib, ending->user_us, ending->system_us};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        at = put(put_number(at, numbers[i], 1), " ");
    at = put(put_number(put(put_number(at, (uint64_t)t.tv_sec, 1), "."), (uint64_t)t.tv_nsec, 9), "\n");
    *put(put(final, name), ".end") = 0;
    *put(put(fresh, final), ".new") = 0;
    int fd = openat(record, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return;
    if (write(fd, text, (size_t)(at - text)) == at - text)
        renameat(record, fresh, record, final);
    close(fd);
}

/* The groups that programs of a Sandbox had below the container's. */
static void remove_below(const char *group)
{
    struct entry { uint64_t inode, offset; uint16_t length; uint8_t type; char name[]; } *each; /* getdents64(2) */
    static _Alignas(struct entry) char room[4096];
    int directory = open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (long got; (got = syscall(SYS_getdents64, directory, room, sizeof room)) > 0;)
        for (char *at = room; at < room + got; at += each->length) {
            each = (struct entry *)at;
            if (each->type == 4 /* DT_DIR */ && each->name[0] != '.')
                unlinkat(directory, each->name, AT_REMOVEDIR);
        }
    close(directory);
}

/* The owner has died: nobody else removes the cgroups.  A group stays busy for a moment after its last process. */
static void remove_groups(void)
{
    const struct timespec moment = {0, 2000000};
    for (int i = 0; i < group_count; i++)
        for (int tries = 0; tries < 500 && rmdir(groups[i]) && errno == EBUSY; tries++) {
            remove_below(groups[i]);
            nanosleep(&moment, NULL);
        }
}

static void read_words(int count, char **words)
{
    streams[0].name = "stdout";
    streams[1].name = "stderr";
    streams[0].fd = streams[1].fd = -1;
    for (int i = 0; i < count; i++) {
        char *value = strchr(words[i], '=');
        const char *word = words[i];
        if (value)
            *value++ = 0;
        else
            value = words[i];
        if (!strcmp(word, "oom"))
            oom = atoi(value);
        else if (!strcmp(word, "mounts"))
            mounts = atoi(value);
        else if (!strcmp(word, "lease"))
            lease = value;
        else if (!strcmp(word, "announce"))
            announce = 1;
        else if (!strcmp(word, "life"))
            life = now() + atoll(value);
        else if (!strcmp(word, "record"))
            record = atoi(value);
        else if (!strcmp(word, "name"))
            name = value;
        else if (!strcmp(word, "detached"))
            detached = 1;
        else if (!strcmp(word, "out"))
            streams[0].fd = atoi(value);
        else if (!strcmp(word, "err"))
            streams[1].fd = atoi(value);
        else if (!strcmp(word, "terminal"))
            terminal = atoi(value);
        else if (!strcmp(word, "slave"))
            slave = atoi(value);
        else if (!strcmp(word, "log"))
            log_fd = atoi(value);
        else if (!strcmp(word, "group") && group_count < WORDS)
            groups[group_count++] = value;
        else if (!strcmp(word, "end") && end_count < WORDS)
            end[end_count++] = value;
    }
}

/* The last act of who watched over a detached container: to become the command that settles what is left of it. */
static void settle(void)
{
    static char *const environment[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", NULL};
    sigset_t all;
    sigfillset(&all);
    sigprocmask(SIG_UNBLOCK, &all, NULL);
    end[end_count] = (char *)name;
    end[end_count + 1] = (char *)lease;
    fcntl(open("/dev/null", O_RDWR), F_DUPFD, 1);
    fcntl(0, F_DUPFD, 2);
    execve(end[0], end, environment);
}

int main(int argc, char **argv)
{
    struct ending ending = {0};
    char byte;
    if (argc < 3)
        return 2;
    prctl(PR_SET_NAME, argv[0]); /* it was started by the number of a descriptor */
    owner = atoi(argv[1]);
    pidfd = atoi(argv[2]);
    read_words(argc - 3, argv + 3);
    for (int fd = 0; fd < 3; fd++) /* or who reads the container's output would never see its end */
        close(fd);
    if (detached) {
        setsid();
        if (terminal >= 0)
            streams[0].fd = terminal;
    }
    if (announce && terminal >= 0 && !detached) { /* when the owner closes it, it must be gone: so does a terminal hang up */
        send_descriptor(owner, 'T', terminal);
        close(terminal);
    }
    if (announce)
        send_descriptor(owner, 'S', pidfd);
    int present = watch(&ending);
    reap(&ending);
    close(slave);
    for (int i = 0; i < STREAMS; i++)
        if (streams[i].fd >= 0) { /* all that it wrote is in the pipe; who else holds its end is not waited for */
            fcntl(streams[i].fd, F_SETFL, O_NONBLOCK);
            while (pump(&streams[i]))
                ;
        }
    if (record >= 0)
        write_record(&ending);
    if (end_count && leaves()) /* else the owner is dead, or still has the lock that this wants: the next command settles it */
        settle();
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
    remove_groups();
    return 0;
}
