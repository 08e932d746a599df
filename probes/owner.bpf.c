/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Which process holds a socket: noted when it makes or connects one, in that process. */
#include "dialect.h"
#include "records.h"

LICENSED

#define OWNERS 65536
MAP(MT_LRU_HASH, owners, u64, struct owner, OWNERS)

#ifndef FO_BCC
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct task_struct {
    struct task_struct *group_leader;
    char comm[16];
};
#pragma clang attribute pop
#endif

INLINE void remember(u64 cookie) {
    struct owner o = {};
    void *leader = 0;
    o.pid = bpf_get_current_pid_tgid() >> 32;
    o.uid = bpf_get_current_uid_gid();
    o.cgroup = bpf_get_current_cgroup_id();
    /* the process's name: that of a thread says little ("worker-3") */
    KREAD(&leader, (void *)bpf_get_current_task(), task_struct, group_leader);
    KREAD(&o.comm, leader, task_struct, comm);
    MAP_PUT(owners, &cookie, &o);
}

/* Every path returns 1: anything else would refuse the socket. */
PROGRAM("cgroup/sock_create") int owner_sock_create(struct bpf_sock *ctx) {
    remember(bpf_get_socket_cookie(ctx));
    return 1;
}

PROGRAM("cgroup/connect4") int owner_connect4(struct bpf_sock_addr *ctx) {
    remember(bpf_get_socket_cookie(ctx));
    return 1;
}

PROGRAM("cgroup/connect6") int owner_connect6(struct bpf_sock_addr *ctx) {
    remember(bpf_get_socket_cookie(ctx));
    return 1;
}
