/* How a program ended: the last thing that dolium-keep sends to the owner.  runtime/ending.py reads it, too. */
#ifndef DOLIUM_ENDING_H
#define DOLIUM_ENDING_H

#include <stdint.h>

struct ending {
    char kind;               /* 'X' */
    uint8_t oom;             /* the cgroup v1 out-of-memory event came */
    uint8_t code;            /* CLD_EXITED, CLD_KILLED or CLD_DUMPED */
    uint8_t status;          /* exit code or signal */
    uint32_t peak_kib;       /* ru_maxrss */
    uint64_t user_us, system_us;
};

#endif
