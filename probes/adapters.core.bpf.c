/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Owners where the kernel has no cgroup hooks for us: no cgroup v2 is mounted, or it refuses. These hooks get a
 * socket that the verifier knows, so that it can be asked for its cookie; a kprobe's argument cannot. CO-RE only. */
#include "dialect.h"
#include "records.h"
#include "owners.h"
#include "process.h"

LICENSED

#define TCP_SYN_SENT 2
#define TCP_LISTEN 10

/* (sk, old state, new state): these two states are entered by connect() and listen() themselves. */
SEC("tp_btf/inet_sock_set_state") int owner_state(u64 *ctx) {
    void *sk = (void *)ctx[0];
    int now = ctx[2];
    if (now == TCP_SYN_SENT) remember(bpf_get_socket_cookie(sk));
    if (now == TCP_LISTEN) {
        struct owner o = {};
        describe(&o);
        remember(bpf_get_socket_cookie(sk));
        o.inherited = 1;
        SOCKET_NEW(listeners, sk, &o);
    }
    return 0;
}

INLINE int remember_sender(void *sk) {
    u64 cookie = bpf_get_socket_cookie(sk);
    if (!MAP_GET(owners, &cookie)) remember(cookie);
    return 0;
}

/* (sk, message, length) */
SEC("fentry/udp_sendmsg") int owner_udp4(u64 *ctx) {
    return remember_sender((void *)ctx[0]);
}

SEC("fentry/udpv6_sendmsg") int owner_udp6(u64 *ctx) {
    return remember_sender((void *)ctx[0]);
}
