/* The plan as it travels: one memfd, written by core/wire.py, mapped by dolium-init, which writes its report into the same
 * records.  All offsets count from the start of the mapping; 0 means "none".  Strings end with NUL. */
#ifndef DOLIUM_WIRE_H
#define DOLIUM_WIRE_H

#include <stdint.h>

#define WIRE_MAGIC 0x326c6f64u /* "dol2" */
#define SLOTS 250
#define MESSAGE 164

enum { OUTSIDE = 1, INSIDE = 2 };             /* actors, as bits: a sync is both's */
enum { PHASE_SETUP = 0, PHASE_EXEC = 1 };     /* the child sets PHASE_EXEC just before execve */

struct header {
    uint32_t magic, size, records, message_length;
    int32_t failed;                           /* report: index of the record that failed, or -1 */
    int32_t phase;                            /* report */
    int32_t child;                            /* report: the child's pid as the helper sees it */
    int32_t status;                           /* report: wait status of a child that died before exec, or -1 */
    int16_t slots[SLOTS];                     /* descriptors that spawn passed in, or -1 */
    char message[MESSAGE];                    /* report: what the kernel's mount API said about a failure */
};

struct record {
    uint16_t op;
    uint8_t actor;                            /* 0: run only as another record's `other` */
    uint8_t call;                             /* report: which system call of the operation failed */
    int16_t accept[4];                        /* errnos that count as done */
    int16_t other_errno;                      /* on this errno run the record `other` instead */
    int16_t out, fd, fd2;                     /* slots */
    uint32_t path, path2, data, length;       /* strings; data may hold NULs */
    int32_t error;                            /* report: errno, 0 for done */
    int64_t n1, n2, n3;
    uint32_t nanoseconds;                     /* report */
    uint16_t branch;                          /* report: 0 as planned, 1 accepted errno, 2 other; exec: candidate */
    uint16_t fault;                           /* errno to fail with, unmade; only in the build for tests */
    uint16_t item;                            /* report: which item of a list failed */
    int16_t other;
    uint16_t unused[2];
};

_Static_assert(sizeof(struct header) == 32 + 2 * SLOTS + MESSAGE, "header has no holes");
_Static_assert(sizeof(struct header) % 8 == 0, "the records after it are aligned");
_Static_assert(sizeof(struct record) == 80, "core/wire.py packs 80 bytes");

#endif
