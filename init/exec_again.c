/* `exec` of a process that differs from one before in its words only, from the plan that Python has kept of that one
 * (runtime/exec_again.py): a detached one of a document, all else of which is the same, to the byte, or one that is waited for, and
 * is as the container's own.  The rights of the caller and dolium-init are the same, too.  Only the words are understood here.  What a
 * plan asks of Python besides HOME, Python does not keep. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ending.h"
#include "kernel.h"
#include "put.h"
#include "verbs.h"
#include "wire.h"
#include "words.h"

#define PROGRAMS "/../lib/dolium/dolium/programs/"
#define ROOM 256 /* of `HOME=...` in a plan, plan/program.py */

/* runtime/exec_again.py writes it; the document follows, and then the plan. */
struct kept { /* no document: as the container's own process */
    char format[8];
    uint64_t inode, size;               /* of dolium-init */
    int64_t seconds, nanoseconds;       /* of its last change */
    uint64_t users, effective, bounding; /* of the caller: its user namespace, its capabilities */
    uint32_t uid, document, plan;       /* the caller's; bytes of the two */
    int32_t home, slot, keep;           /* whose HOME is to be found out, or -1; where a pidfd and dolium-keep are wanted, or -1 */
};

_Static_assert(sizeof(struct kept) == 88, "runtime/exec_again.py packs 88 bytes");

enum {
#define STEP(name, ...) OP_##name,
#include "steps.def"
#undef STEP
};

/* Whether this process may what the one might that had the plan made. */
static int may_the_same(const struct kept *kept)
{
    struct { uint32_t version; int32_t pid; } header = {0x20080522, 0}; /* capget(2), its version 3 */
    struct { uint32_t effective, permitted, inheritable; } sets[2];
    struct stat users;
    uint64_t bounding = 0;
    for (int number = 0, has; number < 64 && (has = prctl(PR_CAPBSET_READ, number, 0, 0, 0)) >= 0; number++)
        bounding |= (uint64_t)has << number;
    return kept->uid == geteuid() && kept->bounding == bounding && !stat("/proc/self/ns/user", &users) && kept->users == users.st_ino &&
        !syscall(SYS_capget, &header, sets) && kept->effective == (sets[0].effective | (uint64_t)sets[1].effective << 32);
}

/* Whether a kept document is the same but for its words. */
static int differs_in_words(const struct kept *kept, const char *document, size_t length, struct value words)
{
    const char *other = (const char *)(kept + 1);
    if (!length || !kept->document)
        return length == kept->document;
    size_t before = (size_t)(words.at - document), after = length - (size_t)(words.end - document);
    return kept->document > before + after && !memcmp(other, document, before) && other[before] == '[' &&
        !memcmp(other + kept->document - after, words.end, after) && past(other + before) == other + kept->document - after;
}

/* The kept plan for that document, mapped; NULL for none. */
static const struct kept *find(const char *document, size_t length, struct value words, const struct stat *init)
{
    char name[] = "exec.0";
    for (; name[5] < '4'; name[5]++) {
        struct stat st;
        int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        const struct kept *kept = fstat(fd, &st) ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        if (kept != MAP_FAILED && (size_t)st.st_size > sizeof *kept && !memcmp(kept->format, "doexec1\n", 8) &&
            (uint64_t)st.st_size == sizeof *kept + (uint64_t)kept->document + kept->plan && kept->plan > sizeof(struct header) &&
            kept->inode == init->st_ino && kept->size == (uint64_t)init->st_size && kept->seconds == init->st_ctim.tv_sec &&
            kept->nanoseconds == init->st_ctim.tv_nsec && kept->slot >= 0 && kept->slot < SLOTS && kept->keep < SLOTS && may_the_same(kept) &&
            differs_in_words(kept, document, length, words)) {
            utimensat(directory, name, NULL, 0); /* the one that was of no use for longest is given up first */
            return kept;
        }
    }
    return NULL;
}

/* A helper as it is installed, opened; -1 for none. */
static int installed(const char *name, struct stat *st)
{
    char path[PLACE];
    int fd = beside(path, name) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    return fd >= 0 && fstat(fd, st) ? -1 : fd;
}

/* A copy of a helper that a container cannot write to (CVE-2019-5736), as core/spawn.py makes it; -1 for none. */
static int sealed(const char *name, int program, off_t size)
{
    int fd = memfd_create(name, 1 | 2 | 16); /* MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_EXEC */
    if (fd < 0 && errno == EINVAL)           /* MFD_EXEC came with Linux 6.3 */
        fd = memfd_create(name, 1 | 2);
    if (fd < 0 || fchmod(fd, 0555) || sendfile(fd, program, NULL, (size_t)size) != size ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
        return -1;
    return fd;
}

static struct record *first_of(struct header *plan, int op)
{
    struct record *record = (struct record *)(plan + 1);
    for (uint32_t index = 0; index < plan->records; index++, record++)
        if (record->op == op)
            return record->data < plan->size && record->length < plan->size - record->data ? record : NULL;
    return NULL;
}

/* The plan in a memfd of its own, mapped, with these words; NULL where that cannot be. */
static struct header *copied(const struct kept *kept, int *fd)
{
    const size_t most = kept->plan + MOST_WORDS;
    *fd = memfd_create("dolium-plan", 1);
    if (*fd < 0 || write(*fd, (const char *)(kept + 1) + kept->document, kept->plan) != (ssize_t)kept->plan || ftruncate(*fd, (off_t)most))
        return NULL;
    struct header *plan = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (plan == MAP_FAILED || plan->magic != WIRE_MAGIC || plan->size != kept->plan || plan->records > 4096 ||
        sizeof *plan + plan->records * sizeof(struct record) > kept->plan)
        return NULL;
    struct record *execute = first_of(plan, OP_exec);
    char *end = execute ? put_words((char *)plan + kept->plan, plan, execute) : NULL;
    if (!end)
        return NULL;
    plan->size = (uint32_t)(end + 1 - (char *)plan);
    return ftruncate(*fd, plan->size) ? NULL : plan;
}

/* The home of a user in the text of passwd(5), as runtime/home.py finds it: up to `end`. */
static const char *home_of(const char *text, const char *limit, uint64_t uid, const char **end)
{
    char wanted[24];
    *put_number(wanted, uid, 0) = 0;
    while (text < limit) {
        const char *line = memchr(text, '\n', (size_t)(limit - text)), *fields[7] = {text};
        line = line ? line : limit;
        int count = 1;
        for (const char *at = text; count < 7 && (at = memchr(at, ':', (size_t)(line - at))); count++)
            fields[count] = ++at;
        *end = count == 7 ? fields[6] - 1 : line;
        if (count > 5 && (size_t)(fields[3] - fields[2]) == strlen(wanted) + 1 && !memcmp(fields[2], wanted, strlen(wanted)) &&
            !memchr(fields[5], 0, (size_t)(*end - fields[5])))
            return fields[5];
        text = line + 1;
    }
    *end = NULL;
    return NULL;
}

/* dolium-init has read the container's passwd: what is to be found in it is put into the plan.  Whether that could be. */
static int put_home(struct header *plan, uint64_t uid)
{
    struct record *reading = first_of(plan, OP_read_file), *execute = first_of(plan, OP_exec);
    if (!reading || !execute || execute->length < ROOM || reading->n3 < 0 || (uint64_t)reading->n3 > reading->length)
        return 0;
    char *to = (char *)plan + execute->data + execute->length - ROOM;
    const char *text = (const char *)plan + reading->data, *end, *home = home_of(text, text + reading->n3, uid, &end);
    if (home && end > home && end - home < ROOM - 6) /* else it is `HOME=/`, as it stands there */
        memcpy(put(to, "HOME="), home, (size_t)(end - home));
    return 1;
}

static _Noreturn void wrong(const char *what)
{
    _exit(write(2, what, strlen(what)) < 0 ? 254 : 255);
}

/* dolium-init on a plan, with the descriptors that it is to have; a function of its own because of vfork(2). */
static __attribute__((noinline)) pid_t started(int program, int owner, int memory, int container, int keep)
{
    char path[32], numbers[2][12], *words[] = {"dolium-init", numbers[0], numbers[1], NULL}, *nothing[] = {NULL};
    *put_number(numbers[0], (uint64_t)owner, 0) = *put_number(numbers[1], (uint64_t)memory, 0) = 0;
    *put_number(put(path, "/proc/self/fd/"), (uint64_t)program, 0) = 0;
    pid_t pid = vfork();
    if (!pid) {
        fcntl(owner, F_SETFD, 0);
        fcntl(memory, F_SETFD, 0);
        fcntl(container, F_SETFD, 0);
        fcntl(keep, F_SETFD, 0);
        execve(path, words, nothing);
        _exit(127);
    }
    return pid;
}

/* Wait for the end of the program, and send on to it what signals come: its exit code. */
static int watched(int keep, const sigset_t *before)
{
    static const int forwarded[] = {SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGTERM, SIGCONT, SIGWINCH}; /* cli/oci_life.py */
    sigset_t ours, mask = *before;
    sigemptyset(&ours);
    for (size_t index = 0; index < sizeof forwarded / sizeof *forwarded; index++) {
        sigaddset(&ours, forwarded[index]);
        sigaddset(&mask, forwarded[index]);
    }
    struct pollfd waiting[] = {{keep, POLLIN, 0}, {signalfd(-1, &ours, SFD_CLOEXEC), POLLIN, 0}};
    sigprocmask(SIG_SETMASK, &mask, NULL);
    for (;;) {
        struct signalfd_siginfo arrived;
        struct ending ending;
        if (poll(waiting, 2, -1) < 0)
            continue;
        if (waiting[0].revents) {
            if (recv(keep, &ending, sizeof ending, 0) != sizeof ending || ending.kind != 'X')
                wrong("error: dolium-keep was killed, and the process with it\n");
            return ending.code == CLD_EXITED ? ending.status : 128 + ending.status;
        }
        if (waiting[1].revents && read(waiting[1].fd, &arrived, sizeof arrived) == sizeof arrived)
            send(keep, &(char){(char)arrived.ssi_signo}, 1, MSG_NOSIGNAL);
    }
}

/* What is asked for, heard; the length of its document, which is read into `document`. */
static size_t asked(const char *process, char **program, char document[LARGEST], struct value *words)
{
    if (process) {
        size_t length = content(AT_FDCWD, process, document, LARGEST);
        if (!length || length == LARGEST - 1 || !(*words = words_of(document)).at)
            python();
        hear_document(*words);
        return length;
    }
    hear_program(program);
    return 0;
}

int exec_again(const char *process, const char *pid_file, char **program)
{
    static char document[LARGEST];
    char fresh[PLACE];
    struct stat st, keep_st;
    struct value words = {NULL, NULL};
    pid_t first = living();
    struct rlimit largest; /* of a file: what goes beyond would end this */
    size_t length = asked(process, program, document, &words);
    int init = installed(PROGRAMS "dolium-init", &st);
    if (!first || frozen() || init < 0 || getrlimit(RLIMIT_FSIZE, &largest) || largest.rlim_cur != RLIM_INFINITY)
        python();
    umask(022);
    const struct kept *kept = find(document, length, words, &st);
    if (!kept)
        python();
    int copy = sealed("dolium-init", init, st.st_size), memory, ends[2], written = -1, keep = -1;
    if (kept->keep >= 0) {
        int its = installed(PROGRAMS "dolium-keep", &keep_st);
        if (its < 0 || (keep = sealed("dolium-keep", its, keep_st.st_size)) < 0)
            python();
    }
    struct header *plan = copied(kept, &memory);
    int container = (int)syscall(NR_pidfd_open, first, 0);
    if (copy < 0 || !plan || container < 0 || living() != first || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
        python();
    if (pid_file) {
        if (strlen(pid_file) > sizeof fresh - 32)
            python();
        *put_number(put(put(fresh, pid_file), "."), (uint64_t)getpid(), 0) = 0;
        if ((written = open(fresh, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) < 0)
            python();
    }
    memset(plan->slots, 0xff, sizeof plan->slots);
    plan->slots[kept->slot] = (int16_t)container;
    if (keep >= 0)
        plan->slots[kept->keep] = (int16_t)keep;

    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    signal(SIGCHLD, SIG_DFL);
    pid_t helper = started(copy, ends[1], memory, container, keep);
    close(ends[1]);
    char byte = 0;
    ssize_t got = helper < 0 ? 0 : recv(ends[0], &byte, 1, 0);
    if (got == 1 && byte == 'H' && put_home(plan, (uint64_t)kept->home))
        got = send(ends[0], "G", 1, MSG_NOSIGNAL) == 1 ? recv(ends[0], &byte, 1, 0) : 0;
    if (got == 1 && byte == 'S') { /* with a pidfd, which is not taken */
        int code = watched(ends[0], &before);
        close(ends[0]);
        waitpid(helper, NULL, 0);
        return code;
    }
    close(ends[0]);
    if (helper > 0)
        waitpid(helper, NULL, 0); /* only with its end is the process the caller's to wait for */
    if (got != 1 || byte != 'F' || plan->failed >= 0) {
        if (written >= 0)
            unlink(fresh);
        if (plan->failed < 0 && plan->child)
            wrong("error: dolium-init was killed while it started the process\n"); /* which may run */
        sigprocmask(SIG_SETMASK, &before, NULL);
        python(); /* nothing has run: it says why */
    }
    char number[12], *end = put_number(number, (uint64_t)plan->child, 0);
    if (written >= 0 && (write(written, number, (size_t)(end - number)) != end - number || rename(fresh, pid_file)))
        wrong("error: --pid-file cannot be written; the process runs\n");
    return 0;
}
