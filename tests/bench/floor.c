/* The floor: a container with nothing to decide, as quick as I can write it.  It ends in the same state as
 *
 *   dolium.run([...], image=DIR, memory="64M", cpus=0.5)
 *
 * (`bench.py --check` compares what a program sees inside of both), but every path, number and order is fixed here: no plan,
 * no report, no lease on a range of ids, no keeper that outlives it.  What Dolium costs beyond it is the price of those.
 *
 *   floor DIR ID FILTER FLAGS MASKED READ_ONLY CPU MEMORY PIDS UNIFIED PROGRAM [ARGUMENT...]
 *
 * ID is the first host id of the range; FILTER a file with the seccomp program; MASKED and READ_ONLY are paths, joined by
 * colons; the four directories are where the groups go, all the same one where cgroup v2 has every controller. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include "kernel.h"

#define CAPABILITIES 0xa80425fbull /* Docker's default set */
#define NAMESPACES_BORN (CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS)
#define NAMESPACES_MADE (CLONE_NEWCGROUP | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWUTS)
enum { RO = 1, NOSUID = 2, NODEV = 4, NOEXEC = 8, SAFE = NOSUID | NODEV | NOEXEC };
enum { CPU, MEMORY, PIDS, UNIFIED, GROUPS };
enum { ROOT, DEV, FILES = 3, HANDED_OVER = 2 + FILES };

static const char *const names[GROUPS] = {"cpu", "memory", "pids", "unified"};
static const char *const file_names[FILES] = {"etc/hosts", "etc/hostname", "etc/resolv.conf"};
static char groups[GROUPS][256];
static char name[32];
static int v1, attach, peer;

static long check(long result, int line)
{
    if (result < 0) {
        dprintf(2, "floor.c:%d: %s\n", line, strerror(errno));
        exit(125); /* bench.py removes the groups */
    }
    return result;
}
#define must(call) check((long)(call), __LINE__)

static int put(const char *directory, const char *file, const char *value)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t wrote = write(fd, value, strlen(value));
    close(fd);
    return wrote < 0 ? -1 : 0;
}

static int get(const char *directory, const char *file, char *value, size_t room)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t got = read(fd, value, room - 1);
    close(fd);
    value[got > 0 ? got : 0] = 0;
    return 0;
}

/* The groups and their limits; returns the eventfd of the v1 out-of-memory event, or -1. */
static int limit(void)
{
    char text[64], path[512];
    if (!v1) {
        must(mkdir(groups[UNIFIED], 0755));
        must(put(groups[MEMORY], "memory.max", "67108864"));
        put(groups[MEMORY], "memory.swap.max", "0");
        must(put(groups[MEMORY], "memory.oom.group", "1"));
        must(put(groups[CPU], "cpu.max", "50000 100000"));
        must(put(groups[PIDS], "pids.max", "2048"));
        return -1;
    }
    for (int i = 0; i < GROUPS; i++)
        if (*groups[i])
            must(mkdir(groups[i], 0755));
    must(put(groups[MEMORY], "memory.limit_in_bytes", "67108864"));
    put(groups[MEMORY], "memory.memsw.limit_in_bytes", "67108864");
    int event = (int)must(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    snprintf(path, sizeof path, "%s/memory.oom_control", groups[MEMORY]);
    int control = (int)must(open(path, O_RDONLY | O_CLOEXEC));
    snprintf(text, sizeof text, "%d %d", event, control);
    must(put(groups[MEMORY], "cgroup.event_control", text));
    close(control);
    must(put(groups[CPU], "cpu.cfs_quota_us", "50000"));
    must(put(groups[PIDS], "pids.max", "2048"));
    return event;
}

static int new_mount(const char *kind, const char *const *options, unsigned attributes)
{
    int context = (int)must(syscall(NR_fsopen, kind, 1));
    for (; options && *options; options += 2)
        must(syscall(NR_fsconfig, context, options[1] ? FSCONFIG_SET_STRING_ : FSCONFIG_SET_FLAG_, options[0], options[1], 0));
    must(syscall(NR_fsconfig, context, FSCONFIG_SET_STRING_, "source", kind, 0));
    must(syscall(NR_fsconfig, context, FSCONFIG_CMD_CREATE_, NULL, NULL, 0));
    int mount = (int)must(syscall(NR_fsmount, context, 1, attributes));
    close(context);
    return mount;
}
#define OPTIONS(...) ((const char *const[]){__VA_ARGS__, NULL, NULL})

static void move(int mount, int root, const char *path)
{
    must(syscall(NR_move_mount, mount, "", root, path, MOVE_MOUNT_F_EMPTY_PATH_ | (*path ? 0 : MOVE_MOUNT_T_EMPTY_PATH_)));
}

static void set(int fd, const char *path, uint64_t attributes, uint64_t propagation, int users)
{
    struct mount_attr_ a = {.attr_set = attributes, .propagation = propagation, .userns_fd = (uint64_t)users};
    must(syscall(NR_mount_setattr, fd, path, (*path ? 0 : AT_EMPTY_PATH) | (users ? 0 : AT_RECURSIVE_), &a, sizeof a));
}

/* A path of the image's, symlinks and all, cannot lead out of it. */
static int open_in(int root, const char *path, uint64_t flags)
{
    struct open_how_ how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT_ | RESOLVE_NO_MAGICLINKS_};
    return (int)syscall(NR_openat2, root, path, &how, sizeof how);
}

/* Where the kernel's own file systems go: made if the image has not got it, and never a symlink. */
static void place(int mount, int root, const char *path)
{
    int target = open_in(root, path, O_PATH | O_NOFOLLOW | O_DIRECTORY);
    if (target < 0 && errno == ENOENT) {
        must(mkdirat(root, path, 0755));
        target = open_in(root, path, O_PATH | O_NOFOLLOW | O_DIRECTORY);
    }
    must(target);
    move(mount, target, "");
    close(target);
}

/* On the tmpfs beside the upper directory, from which they are bound. */
static int own_file(int store, const char *path, const char *content, uid_t owner)
{
    int fd = (int)must(openat(store, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    must(write(fd, content, strlen(content)));
    must(fchown(fd, owner, owner));
    close(fd);
    return (int)must(syscall(NR_open_tree, store, path, OPEN_TREE_CLONE_ | O_CLOEXEC | AT_RECURSIVE_));
}

static void overlay(const char *image, int users, uid_t owner, int *made)
{
    char hosts[128], hostname[40];
    char lower_path[40], upper[40], work[40];
    int lower = (int)must(syscall(NR_open_tree, AT_FDCWD, image, OPEN_TREE_CLONE_ | O_CLOEXEC | AT_RECURSIVE_));
    set(lower, "", MOUNT_ATTR_IDMAP_, 0, users);
    int store = new_mount("tmpfs", OPTIONS("size", "33554432", "mode", "755"), NODEV);
    if (attach) {
        move(lower, AT_FDCWD, "/");
        move(store, AT_FDCWD, "/");
    }
    must(mkdirat(store, "upper", 0755));
    must(fchownat(store, "upper", owner, owner, 0));
    must(mkdirat(store, "work", 0755));
    must(fchownat(store, "work", owner, owner, 0));
    snprintf(lower_path, sizeof lower_path, "/proc/self/fd/%d", lower);
    snprintf(upper, sizeof upper, "/proc/self/fd/%d/upper", store);
    snprintf(work, sizeof work, "/proc/self/fd/%d/work", store);
    made[ROOT] = new_mount("overlay", OPTIONS("lowerdir", lower_path, "upperdir", upper, "workdir", work), NODEV);
    must(mkdirat(store, "etc", 0755));
    snprintf(hosts, sizeof hosts, "127.0.0.1 localhost\n::1 localhost\n127.0.1.1 %s\n", name);
    snprintf(hostname, sizeof hostname, "%s\n", name);
    const char *const contents[FILES] = {hosts, hostname, "# no network\n"};
    for (int i = 0; i < FILES; i++)
        made[2 + i] = own_file(store, file_names[i], contents[i], owner);
}

static int devices(uid_t owner)
{
    static const char *const links[][2] = {{"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"},
                                           {"stderr", "/proc/self/fd/2"}, {"ptmx", "pts/ptmx"}, {"core", "/proc/kcore"}};
    static const char *const directories[] = {"pts", "shm", "mqueue"};
    static const struct { const char *name; unsigned device; } nodes[] = {
        {"null", 0x103}, {"zero", 0x105}, {"full", 0x107}, {"random", 0x108}, {"urandom", 0x109}, {"tty", 0x500}};
    char id[12];
    snprintf(id, sizeof id, "%u", owner);
    int dev = new_mount("tmpfs", OPTIONS("mode", "755", "size", "65536k", "uid", id, "gid", id), NOSUID | NOEXEC);
    for (int i = 0; i < 6; i++) {
        must(symlinkat(links[i][1], dev, links[i][0]));
        must(fchownat(dev, links[i][0], owner, owner, AT_SYMLINK_NOFOLLOW));
    }
    for (int i = 0; i < 3; i++) {
        must(mkdirat(dev, directories[i], 0755));
        must(fchownat(dev, directories[i], owner, owner, 0));
    }
    for (int i = 0; i < 6; i++) {
        must(mknodat(dev, nodes[i].name, S_IFCHR | 0666, nodes[i].device));
        must(fchownat(dev, nodes[i].name, owner, owner, 0));
    }
    return dev;
}

/* One byte, and descriptors with it. */
static void say(const int *fds, size_t count)
{
    union { char room[CMSG_SPACE(HANDED_OVER * sizeof(int))]; struct cmsghdr align; } control = {0};
    struct iovec io = {"g", 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1};
    if (count) {
        message.msg_control = control.room;
        message.msg_controllen = CMSG_SPACE(count * sizeof(int));
        struct cmsghdr *header = CMSG_FIRSTHDR(&message);
        header->cmsg_level = SOL_SOCKET;
        header->cmsg_type = SCM_RIGHTS;
        header->cmsg_len = CMSG_LEN(count * sizeof(int));
        memcpy(CMSG_DATA(header), fds, count * sizeof(int));
    }
    must(sendmsg(peer, &message, MSG_NOSIGNAL));
}

static void hear(int *fds, size_t count)
{
    union { char room[CMSG_SPACE(HANDED_OVER * sizeof(int))]; struct cmsghdr align; } control;
    char byte;
    struct iovec io = {&byte, 1};
    struct msghdr message = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control.room};
    if (must(recvmsg(peer, &message, MSG_CMSG_CLOEXEC)) != 1)
        _exit(125);
    if (count)
        memcpy(fds, CMSG_DATA(CMSG_FIRSTHDR(&message)), count * sizeof(int));
}

static void reset(void)
{
    static const long standard[8]; /* the kernel's struct sigaction, all zero: SIG_DFL */
    const uint64_t none = 0;
    cpu_set_t every;
    for (int number = 1; number < _NSIG; number++)
        syscall(SYS_rt_sigaction, number, standard, NULL, 8);
    must(syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, 8));
    must(setsid());
    memset(&every, 255, sizeof every);
    sched_setaffinity(0, sizeof every, &every);
    umask(0);
}

static void become_root(void)
{
    must(syscall(SYS_setgroups, 0, NULL));
    must(syscall(SYS_setresgid, 0, 0, 0));
    must(syscall(SYS_setresuid, 0, 0, 0));
}

static void loopback(void)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
    int fd = (int)must(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    must(ioctl(fd, SIOCSIFFLAGS, &request));
    close(fd);
}

/* Ours over the image's, which is made where it is missing. */
static void bind_files(const int *files, int root)
{
    for (int i = 0; i < FILES; i++) {
        int target = open_in(root, file_names[i], O_PATH);
        if (target < 0 && errno == ENOENT) {
            close(must(open_in(root, file_names[i], O_CREAT | O_EXCL | O_WRONLY)));
            target = open_in(root, file_names[i], O_PATH);
        }
        must(target);
        move(files[i], target, "");
        close(target);
    }
}

static int cgroups(int sys)
{
    if (!v1) {
        int all = new_mount("cgroup2", NULL, SAFE | RO);
        move(all, sys, "fs/cgroup");
        return all;
    }
    int top = new_mount("tmpfs", OPTIONS("mode", "755", "size", "4k"), SAFE);
    move(top, sys, "fs/cgroup");
    for (int i = 0; i < GROUPS; i++) {
        if (!*groups[i])
            continue;
        int each = i == UNIFIED ? new_mount("cgroup2", NULL, SAFE | RO) : new_mount("cgroup", OPTIONS(names[i], NULL), SAFE | RO);
        must(mkdirat(top, names[i], 0755));
        move(each, top, names[i]);
        close(each);
    }
    set(top, "", RO, 0, 0);
    return top;
}

/* Paths of /proc and /sys, which are the kernel's and just mounted: nothing in an image can be in the way. */
static int below(const char **path, int proc, int sys)
{
    int fd = strncmp(*path, "/proc/", 6) ? sys : proc;
    *path += fd == proc ? 6 : 5;
    return fd;
}

static void cover(char *masked, char *read_only, int proc, int sys, int dev)
{
    struct stat st;
    int empty = new_mount("tmpfs", OPTIONS("mode", "000", "size", "4k", "nr_inodes", "2"), SAFE | RO);
    if (attach)
        move(empty, AT_FDCWD, "/dev");
    for (char *each = strtok(masked, ":"); each; each = strtok(NULL, ":")) {
        const char *path = each;
        int fd = below(&path, proc, sys);
        if (fstatat(fd, path, &st, AT_SYMLINK_NOFOLLOW))
            continue;
        int directory = S_ISDIR(st.st_mode);
        int copy = (int)must(syscall(NR_open_tree, directory ? empty : dev, directory ? "" : "null",
                                     OPEN_TREE_CLONE_ | O_CLOEXEC | (directory ? AT_EMPTY_PATH : 0)));
        move(copy, fd, path);
        close(copy);
    }
    for (char *each = strtok(read_only, ":"); each; each = strtok(NULL, ":")) {
        const char *path = each;
        int fd = below(&path, proc, sys);
        int copy = (int)syscall(NR_open_tree, fd, path, OPEN_TREE_CLONE_ | O_CLOEXEC | AT_RECURSIVE_);
        if (copy < 0)
            continue;
        set(copy, "", RO, 0, 0);
        move(copy, fd, path);
        close(copy);
    }
}

struct sock { unsigned short length; const void *program; };

static void drop(const struct sock *filter, int flags)
{
    const uint32_t header[2] = {0x20080522, 0};
    const uint32_t held = (uint32_t)CAPABILITIES, data[6] = {held, held, 0, 0, 0, 0};
    for (int number = 0;; number++)
        if (!(CAPABILITIES >> number & 1) && prctl(PR_CAPBSET_DROP, number, 0, 0, 0))
            break;
    become_root();
    must(syscall(SYS_capset, header, data));
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
    umask(022);
    must(prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0));
    must(syscall(SYS_seccomp, 1, flags, filter));
}

static _Noreturn void inside(char **argv, const int *tasks, const struct sock *filter)
{
    static const char *const path[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"};
    int fds[HANDED_OVER];
    char host[64], program[256];
    reset();
    hear(NULL, 0); /* the ids are mapped */
    become_root();
    must(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0));
    for (int i = 0; i < UNIFIED; i++)
        if (tasks[i] >= 0)
            must(write(tasks[i], "0", 1));
    must(unshare(NAMESPACES_MADE));
    syscall(SYS_keyctl, 1, NULL);
    must(sethostname(name, strlen(name)));
    loopback();
    hear(fds, HANDED_OVER); /* the rootfs, /dev and our files are there */
    int root = fds[ROOT], dev = fds[DEV];
    set(AT_FDCWD, "/", 0, MS_PRIVATE, 0);
    move(root, AT_FDCWD, "/");
    bind_files(fds + 2, root);
    int proc = new_mount("proc", NULL, SAFE);
    place(proc, root, "proc");
    place(dev, root, "dev");
    int mount = new_mount("devpts", OPTIONS("newinstance", NULL, "ptmxmode", "0666", "mode", "0620", "gid", "5"), NOSUID | NOEXEC);
    move(mount, dev, "pts");
    mount = new_mount("tmpfs", OPTIONS("mode", "1777", "size", "65536k"), SAFE);
    move(mount, dev, "shm");
    mount = new_mount("mqueue", NULL, SAFE);
    move(mount, dev, "mqueue");
    int sys = new_mount("sysfs", NULL, SAFE | RO);
    place(sys, root, "sys");
    cgroups(sys);
    cover(argv[5], argv[6], proc, sys, dev);
    must(fchdir(root));
    must(syscall(SYS_pivot_root, ".", "."));
    must(umount2(".", MNT_DETACH));
    must(chdir("/"));
    snprintf(host, sizeof host, "HOSTNAME=%s", name);
    char *env[] = {"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", host, "HOME=/root", NULL};
    drop(filter, atoi(argv[4]));
    for (int i = 0; i < 6; i++) {
        snprintf(program, sizeof program, "%s/%s", path[i], argv[11]);
        execve(program, argv + 11, env);
    }
    _exit(127);
}

/* A group stays busy for a moment after its last process. */
static void remove_groups(void)
{
    const struct timespec moment = {0, 50000};
    for (int i = v1 ? 0 : UNIFIED; i < GROUPS; i++)
        for (int tries = 0; *groups[i] && tries < 2000 && rmdir(groups[i]) && errno == EBUSY; tries++)
            nanosleep(&moment, NULL);
}

static void own_pipes(uid_t owner)
{
    struct statfs fs;
    for (int fd = 0; fd < 3; fd++)
        if (!fstatfs(fd, &fs) && fs.f_type == PIPEFS_MAGIC_)
            must(fchown(fd, owner, owner));
}

int main(int argc, char **argv)
{
    static char bytes[65536], counted[4096];
    char text[64], path[64];
    int pair[2], pidfd, tasks[GROUPS] = {-1, -1, -1, -1}, unified = -1;
    struct utsname kernel;
    siginfo_t info = {0};
    if (argc < 12 || uname(&kernel))
        return 125;
    char *minor;
    long major = strtol(kernel.release, &minor, 10);
    attach = major < 6 || (major == 6 && atoi(minor + 1) < 15); /* until 6.15 mounts must be attached to be copied or layered */
    uid_t owner = (uid_t)atoi(argv[2]);
    snprintf(name, sizeof name, "floor-%d", getpid());
    v1 = strcmp(argv[8], argv[10]) != 0;
    for (int i = 0; i < GROUPS; i++)
        if (*argv[7 + i])
            snprintf(groups[i], sizeof groups[i], "%s/%s", argv[7 + i], name);
    int filter_file = (int)must(open(argv[3], O_RDONLY | O_CLOEXEC));
    struct sock filter = {(unsigned short)(must(read(filter_file, bytes, sizeof bytes)) / 8), bytes};
    close(filter_file);
    umask(0);

    limit();
    if (*groups[UNIFIED])
        unified = (int)must(open(groups[UNIFIED], O_PATH | O_DIRECTORY | O_CLOEXEC));
    for (int i = 0; v1 && i < UNIFIED; i++) {
        snprintf((char *)counted, sizeof counted, "%s/tasks", groups[i]);
        tasks[i] = (int)must(open(counted, O_WRONLY | O_CLOEXEC));
    }
    if (attach) {
        must(unshare(CLONE_NEWNS));
        set(AT_FDCWD, "/", 0, MS_SLAVE, 0);
    }
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    struct clone_args_ args = {.flags = NAMESPACES_BORN | CLONE_PIDFD_ | (unified >= 0 ? CLONE_INTO_CGROUP_ : 0),
                               .pidfd = (uint64_t)(uintptr_t)&pidfd, .exit_signal = SIGCHLD, .cgroup = (uint64_t)unified};
    long pid = must(syscall(NR_clone3, &args, sizeof args));
    peer = pair[pid != 0];
    close(pair[pid == 0]);
    if (!pid)
        inside(argv, tasks, &filter);

    snprintf(path, sizeof path, "/proc/%ld", pid);
    snprintf(text, sizeof text, "0 %u 65536\n", owner);
    must(put(path, "uid_map", text));
    must(put(path, "gid_map", text));
    say(NULL, 0);
    snprintf(path, sizeof path, "/proc/%ld/ns/user", pid);
    int users = (int)must(open(path, O_RDONLY | O_CLOEXEC));
    snprintf(path, sizeof path, "/proc/%ld/ns/mnt", pid); /* held, so that its tmpfs files can be counted in the end */
    must(open(path, O_RDONLY | O_CLOEXEC));
    int made[HANDED_OVER];
    overlay(argv[1], users, owner, made);
    made[DEV] = devices(owner);
    own_pipes(owner);
    say(made, HANDED_OVER);

    while (waitid(P_PIDFD_, (id_t)pidfd, &info, WEXITED) < 0 && errno == EINTR)
        ;
    if (v1) {
        must(get(groups[MEMORY], "memory.max_usage_in_bytes", counted, sizeof counted));
        must(get(groups[MEMORY], "memory.oom_control", counted, sizeof counted));
    } else {
        get(groups[MEMORY], "memory.peak", counted, sizeof counted);
        must(get(groups[MEMORY], "memory.events", counted, sizeof counted));
    }
    if (*groups[UNIFIED])
        must(get(groups[UNIFIED], "cpu.stat", counted, sizeof counted));
    remove_groups();
    return info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
}
