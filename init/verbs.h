/* What the files of dolium-verbs share. */
#ifndef DOLIUM_VERBS_H
#define DOLIUM_VERBS_H

#include <stddef.h>
#include <sys/types.h>

#define LARGEST 65536 /* bytes of a document that is looked at */
#define PLACE 4096

extern int directory;   /* ROOT/ID */

/* The path of a file by its place beside this program; whether there can be one. */
int beside(char path[PLACE], const char *rest);

/* Become the Python program, which does it all anew. */
_Noreturn void python(void);

/* The bytes of a file, with a NUL behind them: as many as there is room for; 0 for none. */
size_t content(int at, const char *path, char *to, size_t size);

/* Its first process, if that very one lives; else 0. */
pid_t living(void);

int frozen(void);

/* A value of a document as it is written there. */
struct value { const char *at, *end; };

/* Past one value; brackets in strings are no brackets.  What is no JSON is for Python to say. */
const char *past(const char *at);

/* Of an object's pairs the next one; `at` is its bracket at first, then the end of the value before. */
int next(const char *at, struct value *name, struct value *found);

int is(struct value value, const char *text);

/* One more process in a container that runs: a detached one that the file `process` describes, its pid written to `pid_file`, unless
 * NULL; or, where `process` is NULL, a program as the container's own, which is waited for.  The exit code. */
int exec_again(const char *process, const char *pid_file, char **program);

#endif
