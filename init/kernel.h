/* The kernel's interfaces that musl's headers lack: numbers are the same on every 64-bit machine we know. */
#ifndef DOLIUM_KERNEL_H
#define DOLIUM_KERNEL_H

#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NR_open_tree 428
#define NR_move_mount 429
#define NR_fsopen 430
#define NR_fsconfig 431
#define NR_fsmount 432
#define NR_pidfd_send_signal 424
#define NR_pidfd_open 434
#define NR_clone3 435
#define NR_close_range 436
#define NR_openat2 437
#define NR_mount_setattr 442

#define RESOLVE_NO_XDEV_ 0x01
#define RESOLVE_NO_MAGICLINKS_ 0x02
#define RESOLVE_NO_SYMLINKS_ 0x04
#define RESOLVE_BENEATH_ 0x08
#define RESOLVE_IN_ROOT_ 0x10
#define OPEN_TREE_CLONE_ 1
#define AT_RECURSIVE_ 0x8000
#define MOVE_MOUNT_F_EMPTY_PATH_ 0x04
#define MOVE_MOUNT_T_EMPTY_PATH_ 0x40
#define FSCONFIG_SET_FLAG_ 0
#define FSCONFIG_SET_STRING_ 1
#define FSCONFIG_CMD_CREATE_ 6
#define MOUNT_ATTR_RDONLY_ 0x01
#define MOUNT_ATTR_IDMAP_ 0x00100000
#define CLONE_INTO_CGROUP_ 0x200000000ull
#define CLONE_PIDFD_ 0x00001000
#define CLONE_PARENT_ 0x00008000
#define SECBIT_NO_SETUID_FIXUP_ 4
#define PIPEFS_MAGIC_ 0x50495045
#define DEVPTS_MAGIC_ 0x1cd1
#define P_PIDFD_ 3
#define BPF_PROG_LOAD_ 5
#define BPF_PROG_ATTACH_ 8
#define BPF_PROG_TYPE_CGROUP_DEVICE_ 15
#define BPF_CGROUP_DEVICE_ 6
#define BPF_F_ALLOW_MULTI_ 2

struct open_how_ { uint64_t flags, mode, resolve; };
struct mount_attr_ { uint64_t attr_set, attr_clr, propagation, userns_fd; };
struct clone_args_ {
    uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup;
};

#endif
