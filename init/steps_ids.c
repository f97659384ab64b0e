/* Steps on what the process itself is and may do, and its end: exec. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include "init.h"
#include "kernel.h"
#include "send.h"

/* Undo what the caller of dolium may have changed: ignored signals survive exec, signal(7); so do the mask, the umask and
 * the affinity.  A session of its own keeps the caller's terminal out of reach (TIOCSTI). */
int step_reset(struct record *r)
{
    const unsigned long standard[4] = {0}; /* the kernel's struct sigaction: SIG_DFL, no flags, nothing masked */
    sigset_t none;
    cpu_set_t every;
    for (int number = 1; number < _NSIG; number++)
        syscall(SYS_rt_sigaction, number, standard, NULL, 8); /* raw: musl keeps 32 to 34 to itself */
    sigemptyset(&none);
    if (sigprocmask(SIG_SETMASK, &none, NULL))
        return fail(r, 0);
    if (setsid() < 0)
        return fail(r, 1);
    memset(&every, 255, sizeof every);
    sched_setaffinity(0, sizeof every, &every); /* cpusets still bound it; refused by nothing that matters */
    umask(0);                                   /* the modes in the plan are meant as they are written */
    return 0;
}

/* n1: 1 where setgroups is denied; n2: gid; n3: uid; data: supplementary groups.  By raw calls, for this one thread. */
int step_become(struct record *r)
{
    if (!r->n1 && syscall(SYS_setgroups, r->length / sizeof(gid_t), text(r->data)))
        return fail(r, 0);
    if (syscall(SYS_setresgid, r->n2, r->n2, r->n2))
        return fail(r, 1);
    return syscall(SYS_setresuid, r->n3, r->n3, r->n3) ? fail(r, 2) : 0;
}

int step_undumpable(struct record *r)
{
    return prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) ? fail(r, 0) : 0;
}

int step_keyring(struct record *r)
{
    return syscall(SYS_keyctl, 1 /* KEYCTL_JOIN_SESSION_KEYRING */, NULL) < 0 ? fail(r, 0) : 0;
}

/* n1: resource; n2: soft; n3: hard; -1: unlimited */
int step_rlimit(struct record *r)
{
    struct rlimit limit = {(rlim_t)r->n2, (rlim_t)r->n3};
    return setrlimit((int)r->n1, &limit) ? fail(r, 0) : 0;
}

/* n1: the capabilities that may ever be had, as a bit set */
int step_bounds(struct record *r)
{
    for (int number = 0; number < 64 && prctl(PR_CAPBSET_READ, number, 0, 0, 0) >= 0; number++)
        if (!((uint64_t)r->n1 >> number & 1) && prctl(PR_CAPBSET_DROP, number, 0, 0, 0))
            return fail(r, 0);
    return 0;
}

/* n1: effective; n2: inheritable; n3: ambient; data: permitted, where it is not the effective ones */
int step_caps(struct record *r)
{
    const uint32_t header[2] = {0x20080522 /* version 3 */, 0};
    uint32_t data[6];
    uint64_t permitted = (uint64_t)r->n1;
    if (r->length == sizeof permitted)
        memcpy(&permitted, text(r->data), sizeof permitted);
    for (int half = 0; half < 2; half++) {
        data[3 * half] = (uint32_t)((uint64_t)r->n1 >> 32 * half);
        data[3 * half + 1] = (uint32_t)(permitted >> 32 * half);
        data[3 * half + 2] = (uint32_t)((uint64_t)r->n2 >> 32 * half);
    }
    if (syscall(SYS_capset, header, data))
        return fail(r, 0);
    for (int number = 0; number < 64; number++)
        if ((uint64_t)r->n3 >> number & 1 && prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number, 0, 0))
            return fail(r, 1);
    return 0;
}

int step_no_new_privs(struct record *r)
{
    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ? fail(r, 0) : 0;
}

/* data: struct sock_filter[]; n1: flags; fd: with SECCOMP_FILTER_FLAG_NEW_LISTENER, the socket of who is to listen.  It is
 * handed over here and at once: until somebody has it, a call that the filter asks about would wait for ever. */
int step_seccomp(struct record *r)
{
    struct { unsigned short length; const void *filter; } program = {(unsigned short)(r->length / 8), text(r->data)};
    long listener = syscall(SYS_seccomp, 1 /* SECCOMP_SET_MODE_FILTER */, r->n1, &program);
    if (listener < 0)
        return fail(r, 0);
    if (r->fd < 0)
        return 0;
    return send_descriptor(slot(r->fd), 0, (int)listener) < 0 || close((int)listener) ? fail(r, 1) : 0;
}

/* Never through a magic link such as /proc/self/fd/N, and after it the working directory must have a name below `/`
 * (CVE-2024-21626).  fd: the rootfs, which is `/` by now; n1: 1 where it is only for who has not come there before */
int step_chdir(struct record *r)
{
    static int there;
    char path[4096];
    if (r->n1 && there)
        return 0;
    int directory = open_in(slot(r->fd), text(r->path), O_PATH | O_DIRECTORY);
    if (directory < 0)
        return fail(r, 0);
    int error = fchdir(directory) ? fail(r, 0) : 0;
    close(directory);
    if (error)
        return error;
    if (syscall(SYS_getcwd, path, sizeof path) < 0 || path[0] != '/')
        return errno = ENOENT, fail(r, 1);
    there = 1;
    return 0;
}

int step_umask(struct record *r)
{
    umask((mode_t)r->n1);
    return 0;
}

/* Die with dolium-keep.  After every change of ids, which clears the setting, prctl(2). */
int step_die_with(struct record *r)
{
    char byte;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
        return fail(r, 0);
    if (recv(peer, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0) /* it died before we asked */
        return errno = ESRCH, fail(r, 1);
    return 0;
}

static pid_t main_child;

static void forward(int number)
{
    kill(main_child, number);
}

/* fd: a cgroup v2 directory; data: a program of BPF that says yes or no to each use of a device there (bpf(2)).  Programs of
 * the groups above keep their say. */
int step_device_filter(struct record *r)
{
    const struct {
        uint32_t type, count;
        uint64_t instructions, license, no_log, no_version;
    } load = {BPF_PROG_TYPE_CGROUP_DEVICE_, r->length / 8, (uintptr_t)text(r->data), (uintptr_t)"", 0, 0};
    int program = (int)syscall(SYS_bpf, BPF_PROG_LOAD_, &load, sizeof load);
    if (program < 0)
        return fail(r, 0);
    const struct {
        uint32_t group, program, type, flags;
    } attach = {(uint32_t)slot(r->fd), (uint32_t)program, BPF_CGROUP_DEVICE_, BPF_F_ALLOW_MULTI_};
    int failed = syscall(SYS_bpf, BPF_PROG_ATTACH_, &attach, sizeof attach) ? fail(r, 1) : 0;
    close(program);
    return failed;
}

/* --init: this process stays as PID 1, reaps orphans and forwards signals; its child goes on to exec. */
int step_reap(struct record *r)
{
    int status;
    pid_t ended;
    sigset_t all, none;
    sigfillset(&all);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &all, NULL);
    main_child = fork();
    if (main_child < 0)
        return fail(r, 0);
    if (main_child == 0) {
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        return 0;
    }
    struct sigaction action = {.sa_handler = forward, .sa_flags = SA_RESTART};
    for (int number = 1; number < _NSIG; number++)
        if (number != SIGCHLD && number != SIGKILL && number != SIGSTOP && !(number >= SIGSEGV && number <= SIGSEGV))
            sigaction(number, &action, NULL);
    syscall(NR_close_range, 3, ~0u, 0); /* the pair above all: its end tells outside that exec has happened */
    munmap(plan, plan->size);
    sigprocmask(SIG_SETMASK, &none, NULL);
    while ((ended = wait(&status)) != main_child)
        if (ended < 0 && errno != EINTR)
            quit(125);
    quit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

/* Instead of exec, where no program is wanted yet: stay as PID 1 and reap whoever is left to it, until it is killed. */
int step_idle(struct record *r)
{
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    if (sigprocmask(SIG_BLOCK, &child, NULL))
        return fail(r, 0);
    plan->phase = PHASE_EXEC;
    munmap(plan, plan->size);
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0); /* as an exec would: who is not root may join its namespaces only so, ptrace(2) */
    syscall(NR_close_range, 3, ~0u, 0); /* the pair above all: its end tells outside that this place is reached */
    for (;;)
        if (waitpid(-1, NULL, WNOHANG) <= 0)
            sigwaitinfo(&child, NULL);
}

/* Split `count` strings off a run of them, which ends at `end`, into an array that ends with NULL; fewer are an end too. */
static const char *take(const char **array, const char *at, const char *end, int64_t count)
{
    int64_t i = 0;
    for (; i < count && at < end; i++, at += strlen(at) + 1)
        array[i] = at;
    array[i] = NULL;
    return at;
}

/* data: candidates, tried as exec does: that there is something to run is said before it is run.  It must be a file that
 * this user may execute; what is in it only exec can tell. */
int step_probe(struct record *r)
{
    const char *all = text(r->data), *end = all + r->length;
    struct stat st;
    int telling = ENOENT;
    for (; all < end; all = after(all)) {
        if (!access(all, X_OK)) {
            if (!stat(all, &st) && S_ISREG(st.st_mode))
                return 0;
            telling = EACCES;
        } else if (errno != ENOENT && errno != ENOTDIR) {
            telling = errno;
        }
    }
    errno = telling;
    return fail(r, 0);
}

/* A system call of which all that matters is its number (n1) and its arguments.  data: six of them in 64 bits each, then what
 * some of them point to: the smallest number stands for its address, and that plus 1 + N for the descriptor in slot N */
int step_call(struct record *r)
{
    int64_t given[6];
    const char *data = text(r->data);
    if (r->length < sizeof given)
        return errno = EINVAL, fail(r, 0);
    memcpy(given, data, sizeof given);
    for (int i = 0; i < 6; i++) {
        if (given[i] == INT64_MIN)
            given[i] = (int64_t)(uintptr_t)(data + sizeof given);
        else if (given[i] < INT64_MIN + 1 + SLOTS)
            given[i] = slot((int)(given[i] - INT64_MIN - 1));
    }
    return syscall(r->n1, given[0], given[1], given[2], given[3], given[4], given[5]) < 0 ? fail(r, 0) : 0;
}

/* data: candidates, arguments, environment; n1, n2, n3: how many of each.  Candidates are tried in order, as PATH is:
 * one that is not there or not executable is passed over, and the more telling of the errors is kept. */
int step_exec(struct record *r)
{
    const char *all = text(r->data), *end = all + r->length;
    if (r->n1 < 0 || r->n2 < 0 || r->n3 < 0 || r->n1 > r->length || r->n2 > r->length || r->n3 > r->length)
        return errno = EINVAL, fail(r, 0);
    size_t room = (size_t)(r->n1 + r->n2 + r->n3 + 3) * sizeof(char *);
    const char **array = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (array == MAP_FAILED)
        return fail(r, 0);
    const char **argv = array + r->n1 + 1, **env = argv + r->n2 + 1;
    take(env, take(argv, take(array, all, end, r->n1), end, r->n2), end, r->n3);
    int telling = ENOENT;
    plan->phase = PHASE_EXEC;
    for (r->branch = 0; r->branch < r->n1 && array[r->branch]; r->branch++) {
        execve(array[r->branch], (char *const *)argv, (char *const *)env);
        if (errno != ENOENT && errno != ENOTDIR)
            telling = errno;
        if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
            break;
    }
    plan->phase = PHASE_SETUP;
    errno = telling;
    return fail(r, 0);
}
