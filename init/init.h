/* What the files of dolium-init share. */
#ifndef DOLIUM_INIT_H
#define DOLIUM_INIT_H

#include <stddef.h>
#include "wire.h"

extern struct header *plan;
extern int slots[SLOTS];
extern int peer;        /* outside's and inside's ends of one SOCK_SEQPACKET pair: sync, and end-of-file at exec */
extern int child_pidfd;

/* A step returns 0 or the errno of the call that failed, whose place in steps.def it leaves in r->call. */
typedef int step_function(struct record *r);
#define STEP(name, ...) step_function step_##name;
#include "steps.def"
#undef STEP

const char *text(uint32_t offset);                      /* "" for 0 */
int slot(int number);                                   /* the descriptor in a slot; AT_FDCWD for none */
void fill(int number, int fd);                          /* put a descriptor into a slot */
int open_in(int root, const char *path, uint64_t flags);/* openat2(RESOLVE_IN_ROOT), or -1 */
int open_parent(int root, const char *path, const char **leaf); /* the directory a path's last component is in */
int make_directories(int root, const char *path, unsigned mode); /* mkdir -p; what exists stays as it is */
int make_parents(int root, const char *path);
const char *after(const char *at);                      /* the next string of a list */
int fail(struct record *r, int call);                   /* note the call, return errno */
_Noreturn void quit(int code);                          /* end this process */
int accepted(const struct record *r, int error);        /* whether that errno counts as done */

#endif
