/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Every open IP socket and the process that holds it: what existed before the agent, and accepted sockets.
 * Iterators need BTF types of the kernel: CO-RE only. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include "dialect.h"
#include "records.h"
#include "owners.h"

LICENSED

#define AF_INET 2
#define AF_INET6 10
#define TCP_LISTEN 10

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct seq_file {};
struct bpf_iter_meta {
    struct seq_file *seq;
};
struct kernfs_node {
    u64 id;
};
struct cgroup {
    struct kernfs_node *kn;
};
struct css_set {
    struct cgroup *dfl_cgrp;
};
struct task_struct {
    int tgid;
    struct task_struct *group_leader;
    char comm[16];
    struct css_set *cgroups;
};
struct file {};
struct bpf_iter__task_file {
    struct bpf_iter_meta *meta;
    struct task_struct *task;
    u32 fd;
    struct file *file;
};
struct sock_common {
    u16 skc_family;
    unsigned char skc_state;
};
struct sock {
    struct sock_common __sk_common;
};
struct socket {
    struct sock *sk;
};
#pragma clang attribute pop

SEC("iter/task_file") int socket_owners(struct bpf_iter__task_file *ctx) {
    struct file *file = ctx->file;
    struct task_struct *task = ctx->task;
    if (!file || !task) return 0;
    struct socket *socket = bpf_sock_from_file(file);
    if (!socket || !socket->sk) return 0;
    struct sock *sk = socket->sk;
    u16 family = sk->__sk_common.skc_family;
    if (family != AF_INET && family != AF_INET6) return 0;
    struct socket_owner row = {};
    row.cookie = bpf_get_socket_cookie(sk);
    row.owner.pid = task->tgid;
    row.owner.cgroup = task->cgroups->dfl_cgrp->kn->id;
    bpf_probe_read_kernel(row.owner.comm, sizeof(row.owner.comm), task->group_leader->comm);
    if (sk->__sk_common.skc_state == TCP_LISTEN) { /* one that was bound before its hook was there */
        struct owner o = row.owner;
        o.inherited = 1;
        SOCKET_NEW(listeners, sk, &o);
    }
    bpf_seq_write(ctx->meta->seq, &row, sizeof(row));
    return 0;
}
