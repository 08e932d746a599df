/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The process that a hook runs in, as the owner of a socket. */
#pragma once
#include "dialect.h"
#include "owners.h"

#ifndef FO_BCC
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct ns_common {
    unsigned int inum;
};
struct net {
    struct ns_common ns;
};
struct nsproxy {
    struct net *net_ns;
};
struct task_struct {
    unsigned int flags;
    struct task_struct *group_leader;
    struct nsproxy *nsproxy;
    char comm[16];
};
#pragma clang attribute pop
#endif

INLINE void describe(struct owner *o) {
    void *leader = 0;
    o->pid = bpf_get_current_pid_tgid() >> 32;
    o->uid = bpf_get_current_uid_gid();
    o->cgroup = bpf_get_current_cgroup_id();
    /* the process's name: that of a thread says little ("worker-3") */
    KREAD(&leader, (void *)bpf_get_current_task(), task_struct, group_leader);
    KREAD(&o->comm, leader, task_struct, comm);
}

INLINE void remember(u64 cookie) {
    struct owner o = {};
    describe(&o);
    struct owner *known = MAP_GET(owners, &cookie);
    if (known) /* the process that made the socket connects it: nothing new, and no new entry */
        *known = o;
    else
        MAP_PUT(owners, &cookie, &o);
}

#define PF_KTHREAD 0x00200000 /* linux/sched.h */

/* Of an accepted socket, which is made in whatever the CPU was doing: who connects, accepts or closes it. The kernel's
 * own threads close what others let go of in an interrupt. */
INLINE void remember_holder(u64 cookie) {
    u32 flags = 0;
    struct owner *known = MAP_GET(owners, &cookie);
    if (known && !known->inherited) return;
    KREAD(&flags, (void *)bpf_get_current_task(), task_struct, flags);
    if (!(flags & PF_KTHREAD)) remember(cookie);
}
