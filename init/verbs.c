/* dolium-verbs: `start`, `state`, `kill` and `delete` of dolium-oci, in their usual case, without the start of an interpreter; and
 * `exec` of what has been executed before (exec_again.c).
 *
 * `make install` puts it where engines look for dolium-oci.  It does what needs no message, no hook and no waiting.  Whatever else
 * is asked for, found, or goes wrong, it becomes the Python program, which begins anew: so nothing is changed here before it is
 * certain, or it is what Python would do and can do again.  What each verb is, runtime/state.py, start.py, members.py and delete.py
 * say; tests/conformance/test_verbs.py holds the two against each other.  Why: docs/decisions/0040. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "kernel.h"
#include "put.h"
#include "verbs.h"

#define PYTHON "/../lib/dolium/dolium-oci"

static char **arguments;
int directory = -1;             /* ROOT/ID */
static char document[LARGEST];  /* its state.json */

int beside(char path[PLACE], const char *rest)
{
    ssize_t length = readlink("/proc/self/exe", path, PLACE);
    char *name = length > 0 && length < PLACE ? memrchr(path, '/', (size_t)length) : NULL;
    if (!name || strlen(rest) >= (size_t)(path + PLACE - name))
        return 0;
    strcpy(name, rest);
    return 1;
}

_Noreturn void python(void)
{
    static const char wrong[] = "error: the Python program of dolium-oci cannot be run: install Dolium again\n";
    char path[PLACE];
    if (beside(path, PYTHON))
        execv(path, arguments);
    if (write(2, wrong, sizeof wrong - 1) < 0)
        _exit(2);
    _exit(1);
}

/* The number at the beginning of a text, and what follows it. */
static uint64_t number(const char *at, const char **end)
{
    uint64_t found = 0;
    const char *begin = at;
    while (*at >= '0' && *at <= '9' && at - begin < 19)
        found = found * 10 + (uint64_t)(*at++ - '0');
    *end = at == begin ? NULL : at;
    return found;
}

/* ---- JSON as core/document.py and Go write it: no space between words */

const char *past(const char *at)
{
    int depth = 0;
    do {
        if (*at == '"') {
            for (at++; *at && *at != '"'; at++)
                if (*at == '\\' && !*++at)
                    python();
            if (!*at)
                python();
        } else if (*at == '[' || *at == '{')
            depth++;
        else if (*at == ']' || *at == '}')
            depth--;
        else if (!*at)
            python();
        else if (!depth) {
            while (*at && !strchr(",]}", *at))
                at++;
            return at;
        }
        at++;
    } while (depth > 0);
    return at;
}

int next(const char *at, struct value *name, struct value *found)
{
    if (*at == '}' || (*at == '{' && at[1] == '}'))
        return 0;
    if ((*at != '{' && *at != ',') || at[1] != '"')
        python();
    *name = (struct value){at + 1, past(at + 1)};
    if (*name->end != ':')
        python();
    *found = (struct value){name->end + 1, past(name->end + 1)};
    return 1;
}

static char *put_value(char *at, struct value value)
{
    size_t length = (size_t)(value.end - value.at);
    return (char *)memcpy(at, value.at, length) + length;
}

int is(struct value value, const char *text)
{
    return (size_t)(value.end - value.at) == strlen(text) && !memcmp(value.at, text, strlen(text));
}

/* A member of an object; `at` is NULL where there is none.  A name is given as it is written, with its quotes. */
static struct value member(struct value object, const char *wanted)
{
    struct value name, found;
    for (const char *at = object.at; next(at, &name, &found); at = found.end)
        if (is(name, wanted))
            return found;
    return (struct value){NULL, NULL};
}

static struct value field(const char *wanted)
{
    struct value found = member((struct value){document, NULL}, wanted);
    if (!found.at)
        python();
    return found;
}

/* A string that is written as it is; others, in which something is escaped, are for Python. */
static char *copy(char *to, const char *end, struct value string)
{
    size_t length = (size_t)(string.end - string.at) - 2;
    if (*string.at != '"' || memchr(string.at, '\\', length + 2) || length >= (size_t)(end - to))
        python();
    to = put_value(to, (struct value){string.at + 1, string.end - 1});
    *to = 0;
    return to;
}

/* ---- a container */

size_t content(int at, const char *path, char *to, size_t size)
{
    int fd = openat(at, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return 0;
    size_t length = 0;
    ssize_t got;
    while (length < size - 1 && (got = read(fd, to + length, size - 1 - length)) > 0)
        length += (size_t)got;
    close(fd);
    to[length] = 0;
    return length;
}

static void load(void)
{
    size_t length = content(directory, "state.json", document, sizeof document);
    if (!length || length == sizeof document - 1 || strlen(document) != length || *document != '{' || past(document) != document + length ||
        !is(field("\"format\""), "1"))
        python();
}

/* Nobody else changes it until this process ends; the directory may have been removed meanwhile, then nothing is in it. */
static void lock(void)
{
    if (flock(directory, LOCK_EX | LOCK_NB))
        python();
    load();
}

/* Its first process, if that very one lives; else 0. */
pid_t living(void)
{
    struct value found = field("\"pid\"");
    const char *at = found.at;
    if (is(found, "null"))
        return 0;
    if (*at++ != '[')
        python();
    uint64_t pid = number(at, &at);
    if (!at || *at++ != ',' || pid > INT32_MAX)
        python();
    uint64_t started = number(at, &at);
    if (!at || *at++ != ',')
        python();
    char path[64], text[4096], boot[64];
    copy(boot, boot + sizeof boot, (struct value){at, past(at)});
    if (content(AT_FDCWD, "/proc/sys/kernel/random/boot_id", text, sizeof text) < 36 || strncmp(text, boot, 36))
        return 0;
    strcpy(put_number(put(path, "/proc/"), pid, 0), "/stat");
    if (!content(AT_FDCWD, path, text, sizeof text) || !(at = strrchr(text, ')')))
        return 0;
    char letter = at[1] ? at[2] : 0;
    for (int index = 0; index < 20 && at; index++) /* its name may hold anything; the letter is the first field after it */
        at = strchr(at + 1, ' ');
    if (!at || number(at + 1, &at) != started || letter == 'Z' || letter == 'X')
        return 0;
    return (pid_t)pid;
}

int frozen(void)
{
    struct value groups = field("\"groups\""), version = member(field("\"versions\""), "\"freezer\"");
    struct value first = member(groups, "\"freezer\""), group = version.at && is(version, "1") && first.at ? first : member(groups, "\"unified\"");
    if (!group.at)
        return 0;
    char path[4096], text[32], *end = copy(path, path + sizeof path - 32, group);
    strcpy(end, group.at == first.at ? "/freezer.state" : "/cgroup.freeze");
    if (!content(AT_FDCWD, path, text, sizeof text))
        return 0;
    return group.at == first.at ? !strncmp(text, "FR", 2) : *text == '1';
}

static int has_hooks(const char *kind)
{
    struct value hooks = field("\"hooks\"");
    return memmem(hooks.at, (size_t)(hooks.end - hooks.at), kind, strlen(kind)) != NULL;
}

/* ---- the verbs; each returns where it has done all */

static void start(void)
{
    lock();
    struct value status = field("\"status\"");
    if (getenv("NOTIFY_SOCKET") || !is(status, "\"created\"") || !living() || frozen() || has_hooks("\"startContainer\"") || has_hooks("\"poststart\""))
        python();
    static char changed[LARGEST + 16];
    char *end = put_value(changed, (struct value){document, status.at}), answer[4096];
    end = put(put(end, "\"started\""), status.end);
    int fd = openat(directory, "state.json.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || write(fd, changed, (size_t)(end - changed)) != end - changed || close(fd))
        python();
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strcpy(put_number(put(address.sun_path, "/proc/self/fd/"), (uint64_t)directory, 0), "/start");
    int client = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    /* It is written down first: who has heard of the program finds that it runs. */
    if (client < 0 || connect(client, (struct sockaddr *)&address, sizeof address) ||
        renameat(directory, "state.json.new", directory, "state.json") || send(client, "G", 1, MSG_NOSIGNAL) != 1)
        python();
    ssize_t length = recv(client, answer, sizeof answer, 0);
    if (length < 0)
        python();
    if (!length)
        return;
    fd = openat(directory, "answer", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600); /* why it could not: Python says it */
    if (fd >= 0 && write(fd, answer, (size_t)length) != length)
        unlinkat(directory, "answer", 0);
    python();
}

static void state(const char *identity)
{
    pid_t pid = living();
    struct value written = field("\"status\"");
    const char *status = "stopped";
    if (pid)
        status = is(written, "\"creating\"") ? "creating" : frozen() ? "paused" : is(written, "\"created\"") ? "created" : "running";
    else if (is(written, "\"creating\""))
        python();
    static char text[LARGEST + 1024];
    char *end = put(put(text, "{\"ociVersion\":\"1.3.0\",\"id\":\""), identity);
    end = put_number(put(end, "\",\"pid\":"), (uint64_t)pid, 0);
    end = put(put(put(end, ",\"status\":\""), status), "\"");
    static const char *const shown[] = {"\"bundle\"", "\"rootfs\"", "\"created\"", "\"annotations\""};
    for (int index = 0; index < 4; index++)
        end = put_value(put(put(put(end, ","), shown[index]), ":"), field(shown[index]));
    struct value owner = field("\"owner\"");
    end = put(end, ",\"owner\":\"");
    end = put(is(owner, "0") ? put(end, "root") : put_value(end, owner), "\"}\n");
    for (char *at = text; at < end;) {
        ssize_t wrote = write(1, at, (size_t)(end - at));
        if (wrote < 0 && errno != EINTR)
            return;
        at += wrote > 0 ? wrote : 0;
    }
}

static void kill_it(int signal)
{
    pid_t pid = living();
    if (!pid || is(field("\"status\""), "\"creating\"") || (signal == 9 && frozen()))
        python();
    int fd = (int)syscall(NR_pidfd_open, pid, 0);
    if (fd < 0 || living() != pid || (syscall(NR_pidfd_send_signal, fd, signal, NULL, 0) && errno != ESRCH))
        python();
}

static void delete(int root, const char *identity)
{
    static const char *const files[] = {"start", "notify/notify.sock", "exec.0", "exec.1", "exec.2", "exec.3", "exec.new",
        "config.json", "config.json.new", "answer", "state.json.new", "state.json"}; /* runtime/state.py has them, too */
    lock();
    if (living() || is(field("\"status\""), "\"creating\"") || member((struct value){document, NULL}, "\"unit\"").at || has_hooks("\"poststop\""))
        python();
    struct value groups = field("\"groups\""), name, found;
    char path[4096];
    for (const char *at = groups.at; next(at, &name, &found); at = found.end) {
        copy(path, path + sizeof path, found);
        if (rmdir(path) && errno != ENOENT) /* somebody is left in it */
            python();
    }
    for (size_t index = 0; index < sizeof files / sizeof *files; index++)
        if (unlinkat(directory, files[index], 0) && errno != ENOENT)
            python();
    if ((unlinkat(directory, "notify", AT_REMOVEDIR) && errno != ENOENT) || unlinkat(root, identity, AT_REMOVEDIR))
        python();
}

/* ---- the command line, as far as engines write it so */

static int signal_of(const char *word)
{
    static const struct { const char *name; int number; } known[] = {{"HUP", 1}, {"INT", 2}, {"QUIT", 3}, {"KILL", 9}, {"USR1", 10},
        {"USR2", 12}, {"TERM", 15}, {"CONT", 18}, {"STOP", 19}, {"WINCH", 28}};
    const char *end;
    uint64_t found = number(word, &end);
    if (end && !*end && found <= 64)
        return (int)found;
    if (!strncmp(word, "SIG", 3))
        word += 3;
    for (size_t index = 0; index < sizeof known / sizeof *known; index++)
        if (!strcmp(known[index].name, word))
            return known[index].number;
    python();
}

int main(int count, char **words)
{
    arguments = words;
    for (int fd = 0; fd < 3; fd++) /* one that is closed would be given to the next thing opened */
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
            python();
    const char *root = "", *verb = NULL, *said[2] = {NULL, NULL}, *process = NULL, *pid_file = NULL;
    char **program = NULL;
    int force = 0, detached = 0, given = 0, is_exec = 0;
    for (int index = 1; index < count; index++) {
        char *word = words[index], *equals = strchr(word, '=');
        if (is_exec && given) { /* the rest is the program's */
            program = words + index + !strcmp(word, "--");
            break;
        }
        if (*word != '-' && !verb) {
            verb = word;
            is_exec = !strcmp(verb, "exec");
        } else if (*word != '-') {
            if (given == 2)
                python();
            said[given++] = word;
        } else if (verb && !is_exec) {
            if (strcmp(verb, "delete") || (strcmp(word, "--force") && strcmp(word, "-f")))
                python();
            force = 1;
        } else if (is_exec && (!strcmp(word, "--detach") || !strcmp(word, "-d"))) {
            detached = 1;
        } else if (is_exec || (strcmp(word, "--debug") && strcmp(word, "--systemd-cgroup"))) {
            struct value name = {word, equals ? equals : word + strlen(word)};
            const char *value = equals ? equals + 1 : words[++index];
            if (!value)
                python();
            if (is_exec && (is(name, "--process") || is(name, "-p")))
                process = value;
            else if (is_exec && is(name, "--pid-file"))
                pid_file = value;
            else if (is_exec)
                python();
            else if (is(name, "--root"))
                root = value;
            else if (is(name, "--log-format") ? strcmp(value, "json") && strcmp(value, "text") : !is(name, "--log") && !is(name, "--cgroup-manager"))
                python();
        }
    }
    struct stat run;
    if (!*root) { /* that of a user's own, or below a user namespace, is for Python to find */
        if (geteuid() || stat("/run", &run) || run.st_uid)
            python();
        root = "/run/dolium/oci";
    }
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.";
    const char *identity = said[0];
    if (!verb || !given || !*identity || *identity == '.' || strlen(identity) > 255 || identity[strspn(identity, letters)])
        python();
    int is_kill = !strcmp(verb, "kill");
    if ((given == 2 && !is_kill) || (is_exec && (program ? process || detached || pid_file || !*program : !process || !*process || !detached || (pid_file && !*pid_file))) ||
        (!is_kill && !is_exec && strcmp(verb, "start") && strcmp(verb, "state") && strcmp(verb, "delete")))
        python();
    int signal = said[1] ? signal_of(said[1]) : 15;
    int top = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    directory = top < 0 ? -1 : openat(top, identity, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0) {
        if (top >= 0 && errno == ENOENT && force)
            return 0;
        python();
    }
    load();
    if (is_kill)
        kill_it(signal);
    else if (is_exec)
        return exec_again(process, pid_file, program);
    else if (!strcmp(verb, "start"))
        start();
    else if (!strcmp(verb, "state"))
        state(identity);
    else
        delete(top, identity);
    return 0;
}
