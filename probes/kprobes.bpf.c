/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Owners where the kernel has neither cgroup hooks for us nor typed tracing (tp_btf, fentry). A kprobe cannot make a
 * socket's cookie, but it can read one: by the time that connect() or accept() returns, or the socket is released, its
 * packets have passed a tc hook, which made it. */
#include "dialect.h"
#include "records.h"
#include "owners.h"
#include "process.h"

LICENSED

#ifndef FO_BCC
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
typedef struct {
    long long counter;
} atomic64_t;
struct sock_common {
    atomic64_t skc_cookie;
};
struct sock;
struct socket {
    struct sock *sk;
};
#pragma clang attribute pop
#endif

/* The socket that a thread (pid << 32 | tid) connects: a kretprobe no longer knows it. LRU: returns may be missed. */
MAP(MT_LRU_HASH, connecting, u64, u64, 4096)

INLINE int holds(void *sk) {
    u64 cookie = 0;
    if (!sk) return 0;
    KREAD(&cookie, sk, sock_common, skc_cookie);
    if (cookie) remember_holder(cookie);
    return 0;
}

INLINE int connects(u64 *ctx) {
    u64 thread = bpf_get_current_pid_tgid(), sk = (u64)ARGUMENT(ctx);
    MAP_PUT(connecting, &thread, &sk);
    return 0;
}

INLINE int connected(void) {
    u64 thread = bpf_get_current_pid_tgid();
    u64 *sk = MAP_GET(connecting, &thread);
    if (!sk) return 0;
    holds((void *)*sk);
    MAP_DEL(connecting, &thread);
    return 0;
}

/* (sk, address, length) */
PROGRAM("kprobe") int owner_connects4(u64 *ctx) {
    return connects(ctx);
}

PROGRAM("kretprobe") int owner_connected4(u64 *ctx) {
    return connected();
}

PROGRAM("kprobe") int owner_connects6(u64 *ctx) {
    return connects(ctx);
}

PROGRAM("kretprobe") int owner_connected6(u64 *ctx) {
    return connected();
}

/* Returns the accepted socket, or NULL. */
PROGRAM("kretprobe") int owner_accepted(u64 *ctx) {
    return holds(RETURNED(ctx));
}

/* (socket): TCP and UDP, IPv4 and IPv6 */
PROGRAM("kprobe") int owner_released(u64 *ctx) {
    void *sk = 0;
    KREAD(&sk, ARGUMENT(ctx), socket, sk);
    return holds(sk);
}
