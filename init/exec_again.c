/* `exec` of a process that has been executed in this container before, as a health check is, from the plan that Python has kept
 * (runtime/exec_again.py): the same document, to the byte, a caller of the same rights, and the same dolium-init.  Nothing in the
 * document is understood here.  What a plan asks of Python besides HOME, Python does not keep. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel.h"
#include "put.h"
#include "verbs.h"
#include "wire.h"

#define INIT "/../lib/dolium/dolium/programs/dolium-init"
#define ROOM 256 /* of `HOME=...` in a plan, plan/program.py */

/* runtime/exec_again.py writes it; the document follows, and then the plan. */
struct kept {
    char format[8];
    uint64_t inode, size;               /* of dolium-init */
    int64_t seconds, nanoseconds;       /* of its last change */
    uint64_t users, effective, bounding; /* of the caller: its user namespace, its capabilities */
    uint32_t uid, document, plan;       /* the caller's; bytes of the two */
    int32_t home, slot, unused;         /* whose HOME is to be found out, or -1; where a pidfd is wanted */
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

/* The kept plan of that document, mapped; NULL for none. */
static const struct kept *find(const char *document, size_t length, const struct stat *init)
{
    char name[] = "exec.0";
    for (; name[5] < '4'; name[5]++) {
        struct stat st;
        int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        const struct kept *kept = fstat(fd, &st) ? MAP_FAILED : mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        close(fd);
        if (kept == MAP_FAILED)
            continue;
        if ((size_t)st.st_size > sizeof *kept && !memcmp(kept->format, "doexec1\n", 8) && kept->document == length &&
            (uint64_t)st.st_size == sizeof *kept + length + kept->plan && kept->plan > sizeof(struct header) &&
            !memcmp(kept + 1, document, length) && kept->inode == init->st_ino && kept->size == (uint64_t)init->st_size &&
            kept->seconds == init->st_ctim.tv_sec && kept->nanoseconds == init->st_ctim.tv_nsec &&
            may_the_same(kept) && kept->slot >= 0 && kept->slot < SLOTS)
            return kept;
        munmap((void *)(uintptr_t)kept, (size_t)st.st_size);
    }
    return NULL;
}

/* A copy of dolium-init that a container cannot write to (CVE-2019-5736), as core/spawn.py makes it; -1 for none. */
static int sealed(int init, off_t size)
{
    int fd = memfd_create("dolium-init", 1 | 2 | 16); /* MFD_CLOEXEC, MFD_ALLOW_SEALING, MFD_EXEC */
    if (fd < 0 && errno == EINVAL)                    /* MFD_EXEC came with Linux 6.3 */
        fd = memfd_create("dolium-init", 1 | 2);
    if (fd < 0 || fchmod(fd, 0555) || sendfile(fd, init, NULL, (size_t)size) != size ||
        fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE))
        return -1;
    return fd;
}

/* The plan in a memfd of its own, mapped; NULL for none. */
static struct header *copied(const struct kept *kept, int *fd)
{
    *fd = memfd_create("dolium-plan", 1);
    if (*fd < 0 || write(*fd, (const char *)(kept + 1) + kept->document, kept->plan) != (ssize_t)kept->plan)
        return NULL;
    struct header *plan = mmap(NULL, kept->plan, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    return plan == MAP_FAILED || plan->magic != WIRE_MAGIC || plan->size != kept->plan || plan->records > 4096 ||
        sizeof *plan + plan->records * sizeof(struct record) > kept->plan ? NULL : plan;
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
    struct record *reading = NULL, *execute = NULL, *record = (struct record *)(plan + 1);
    for (uint32_t index = 0; index < plan->records; index++, record++) {
        reading = !reading && record->op == OP_read_file ? record : reading;
        execute = !execute && record->op == OP_exec ? record : execute;
    }
    if (!reading || !execute || execute->length < ROOM || execute->data > plan->size - execute->length || reading->n3 < 0 ||
        (uint64_t)reading->n3 > reading->length || reading->data > plan->size - reading->length)
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
static __attribute__((noinline)) pid_t started(int program, int owner, int memory, int container)
{
    char path[32], numbers[2][12], *words[] = {"dolium-init", numbers[0], numbers[1], NULL}, *nothing[] = {NULL};
    *put_number(numbers[0], (uint64_t)owner, 0) = *put_number(numbers[1], (uint64_t)memory, 0) = 0;
    *put_number(put(path, "/proc/self/fd/"), (uint64_t)program, 0) = 0;
    pid_t pid = vfork();
    if (!pid) {
        fcntl(owner, F_SETFD, 0);
        fcntl(memory, F_SETFD, 0);
        fcntl(container, F_SETFD, 0);
        execve(path, words, nothing);
        _exit(127);
    }
    return pid;
}

void exec_again(const char *process, const char *pid_file)
{
    static char document[LARGEST];
    char path[PLACE], fresh[PLACE];
    struct stat st;
    pid_t first = living();
    struct rlimit largest; /* of a file: what goes beyond would end this */
    size_t length = content(AT_FDCWD, process, document, sizeof document);
    int init = beside(path, INIT) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (!first || frozen() || !length || length == sizeof document - 1 || init < 0 || fstat(init, &st) ||
        getrlimit(RLIMIT_FSIZE, &largest) || largest.rlim_cur != RLIM_INFINITY)
        python();
    umask(022);
    const struct kept *kept = find(document, length, &st);
    if (!kept)
        python();
    int program = sealed(init, st.st_size), memory, ends[2], written = -1;
    struct header *plan = copied(kept, &memory);
    int container = (int)syscall(NR_pidfd_open, first, 0);
    if (program < 0 || !plan || container < 0 || living() != first || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends))
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

    sigset_t all, before;
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before);
    signal(SIGCHLD, SIG_DFL);
    pid_t helper = started(program, ends[1], memory, container);
    close(ends[1]);
    char byte = 0;
    ssize_t got = helper < 0 ? 0 : recv(ends[0], &byte, 1, 0);
    if (got == 1 && byte == 'H' && put_home(plan, (uint64_t)kept->home))
        got = send(ends[0], "G", 1, MSG_NOSIGNAL) == 1 ? recv(ends[0], &byte, 1, 0) : 0;
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
}
