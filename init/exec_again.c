/* `exec` of a process that differs from one before in its words only, from the plan that Python has kept of that one
 * (runtime/exec_again.py): all else of the document is the same, to the byte, and so are the rights of the caller and dolium-init.
 * Only the words are understood here.  What a plan asks of Python besides HOME, Python does not keep. */
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
#define PATHS 64 /* where a program may be */
#define MOST (1u << 20) /* bytes of words, paths and environment */

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

/* The words of a process, as they are written in its document. */
static struct value words_of(const char *document)
{
    struct value name, found, words = {NULL, NULL};
    for (const char *at = document; next(at, &name, &found); at = found.end) {
        if (!is(name, "\"args\""))
            continue;
        if (words.at || *found.at != '[') /* the last one counts in JSON */
            python();
        words = found;
    }
    return words;
}

/* Whether a kept document is the same but for its words. */
static int differs_in_words(const struct kept *kept, const char *document, size_t length, struct value words)
{
    const char *other = (const char *)(kept + 1);
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
            kept->nanoseconds == init->st_ctim.tv_nsec && kept->slot >= 0 && kept->slot < SLOTS && may_the_same(kept) &&
            differs_in_words(kept, document, length, words))
            return kept;
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

static struct record *first_of(struct header *plan, int op)
{
    struct record *record = (struct record *)(plan + 1);
    for (uint32_t index = 0; index < plan->records; index++, record++)
        if (record->op == op)
            return record->data < plan->size && record->length < plan->size - record->data ? record : NULL;
    return NULL;
}

/* A string of JSON as it is meant, with a NUL behind it; where that ends.  What is beyond ASCII and escaped is for Python. */
static char *meant(char *to, struct value string)
{
    static const char escaped[] = "\"\"\\\\//b\bf\fn\nr\rt\t", digits[] = "0123456789abcdef";
    if (*string.at != '"')
        python();
    for (const char *at = string.at + 1; at < string.end - 1; at++) {
        unsigned char letter = (unsigned char)*at;
        if (letter < ' ')
            python();
        if (letter == '\\' && *++at == 'u') {
            const char *high, *low;
            if (string.end - at < 6 || at[1] != '0' || at[2] != '0' || at[3] > '7' || !(high = strchr(digits, at[3])) ||
                !(low = strchr(digits, at[4] | ' ')))
                python();
            letter = (unsigned char)((high - digits) << 4 | (low - digits));
            at += 4;
        } else if (letter == '\\') {
            const char *pair = escaped;
            while (*pair && *pair != *at)
                pair += 2;
            letter = *pair ? (unsigned char)pair[1] : 0;
        }
        if (!letter)
            python();
        *to++ = (char)letter;
    }
    *to++ = 0;
    return to;
}
/* The words of what is executed, each with a NUL behind it, in place of those in the plan: its strings are the paths where the
 * program may be, then its words, then all else (plan/program.py).  Where that ends; NULL where it cannot be. */
static char *put_words(char *to, const struct header *plan, struct record *execute, struct value words)
{
    static char said[LARGEST];
    char *end = said, *begin = to;
    int64_t count = 0;
    for (const char *at = words.at; *at != ']'; count++) {
        struct value word = {at + 1, past(at + 1)};
        end = meant(end, word);
        at = word.end;
    }
    const char *path = (const char *)plan + execute->data, *limit = path + execute->length, *name = path, *rest;
    if (!*said || execute->n1 < 1 || execute->n1 > PATHS || execute->n2 < 1 || execute->length > MOST)
        return NULL;
    for (int64_t index = 0; index < execute->n1; index++, name++)
        if (!(name = memchr(name, 0, (size_t)(limit - name))))
            return NULL;
    rest = name;
    for (int64_t index = 0; index < execute->n2; index++, rest++)
        if (!(rest = memchr(rest, 0, (size_t)(limit - rest))))
            return NULL;
    if (!strchr(said, '/') != !strchr(name, '/')) /* the one is looked for, the other not */
        return NULL;
    for (; path < name; path += strlen(path) + 1) {
        if (strlen(path) < strlen(name))
            return NULL;
        size_t above = strlen(path) - strlen(name);
        memcpy(to, path, above);
        to = put(to + above, said);
        *to++ = 0;
    }
    memcpy(to, said, (size_t)(end - said));
    to += end - said;
    memcpy(to, rest, (size_t)(limit - rest));
    to += limit - rest;
    execute->data = (uint32_t)(begin - (const char *)plan);
    execute->length = (uint32_t)(to - begin);
    execute->n2 = count;
    return to;
}

/* The plan in a memfd of its own, mapped, with these words; NULL where that cannot be. */
static struct header *copied(const struct kept *kept, struct value words, int *fd)
{
    const size_t most = kept->plan + 2 * MOST + (PATHS + 2) * (size_t)LARGEST;
    *fd = memfd_create("dolium-plan", 1);
    if (*fd < 0 || write(*fd, (const char *)(kept + 1) + kept->document, kept->plan) != (ssize_t)kept->plan || ftruncate(*fd, (off_t)most))
        return NULL;
    struct header *plan = mmap(NULL, most, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    if (plan == MAP_FAILED || plan->magic != WIRE_MAGIC || plan->size != kept->plan || plan->records > 4096 ||
        sizeof *plan + plan->records * sizeof(struct record) > kept->plan)
        return NULL;
    struct record *execute = first_of(plan, OP_exec);
    char *end = execute ? put_words((char *)plan + kept->plan, plan, execute, words) : NULL;
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
    struct value words = words_of(document);
    const struct kept *kept = words.at ? find(document, length, words, &st) : NULL;
    if (!kept)
        python();
    int program = sealed(init, st.st_size), memory, ends[2], written = -1;
    struct header *plan = copied(kept, words, &memory);
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
