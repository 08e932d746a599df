/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What TCP itself says: retransmits, resets, and connection attempts that failed. Raw tracepoints: no tracefs, and
 * the arguments are the same on every kernel we know. No process is taken from these hooks but where a comment says
 * that they run in it: most run in whatever the CPU was doing. */
#include "dialect.h"
#include "records.h"
#include "maps.h"
#include "packet.h"
#include "sock.h"

LICENSED

#define TCP_SYN_SENT 2
#define TCP_CLOSE 7

/* An event about the flow of p, whose source is the end that acted. */
INLINE void tell(void *ctx, struct packet *p, u8 kind, u64 cookie, u32 actor_is_local, u32 netns, u32 reason) {
    struct event e = {};
    u32 dir = set_key(&e.key, p);
    u32 local = actor_is_local ? dir : !dir;
    e.version = RECORD_VERSION;
    e.kind = kind;
    e.time_ns = bpf_ktime_get_ns();
    e.direction = dir;
    e.initiator = kind == KIND_FAIL ? dir : known_initiator(&e.key, dir);
    e.netns = netns;
    e.reason = reason;
    if (local)
        e.cookie[1] = cookie;
    else
        e.cookie[0] = cookie;
    if (limited(&e)) return;
    sent(PERF_OUT(events, ctx, &e, sizeof(e)));
}

INLINE void reverse(struct packet *p) {
    u64 a0 = p->src[0], a1 = p->src[1];
    u16 port = p->sport;
    p->src[0] = p->dst[0], p->src[1] = p->dst[1], p->sport = p->dport;
    p->dst[0] = a0, p->dst[1] = a1, p->dport = port;
}

/* (sk, skb, ...): the local end sends again. */
PROGRAM("raw_tp/tcp_retransmit_skb") int tcp_retransmit(struct bpf_raw_tracepoint_args *ctx) {
    struct packet p = {};
    u64 cookie = 0;
    u32 netns = 0;
    if (socket_ends((void *)ctx->args[0], &p, &cookie, &netns)) tell(ctx, &p, KIND_RETRANSMIT, cookie, 1, netns, 0);
    return 0;
}

/* (sk or NULL, skb or NULL, ...): the local end sends a reset, in answer to skb where there is one. */
PROGRAM("raw_tp/tcp_send_reset") int tcp_send_reset(struct bpf_raw_tracepoint_args *ctx) {
    struct packet p = {};
    u64 cookie = 0;
    u32 netns = 0;
    void *skb = (void *)ctx->args[1];
    if (skb) {
        if (!packet_ends(skb, &p)) return 0;
        reverse(&p);
        netns = packet_netns(skb);
    } else if (!socket_ends((void *)ctx->args[0], &p, &cookie, &netns)) {
        return 0;
    }
    tell(ctx, &p, KIND_RESET, cookie, 1, netns, 0);
    return 0;
}

/* (sk): the remote end has reset the connection. */
PROGRAM("raw_tp/tcp_receive_reset") int tcp_receive_reset(struct bpf_raw_tracepoint_args *ctx) {
    struct packet p = {};
    u64 cookie = 0;
    u32 netns = 0;
    if (!socket_ends((void *)ctx->args[0], &p, &cookie, &netns)) return 0;
    reverse(&p);
    tell(ctx, &p, KIND_RESET, cookie, 0, netns, 0);
    return 0;
}

/* (sk, old state, new state): a connection attempt that ends without a connection. */
PROGRAM("raw_tp/inet_sock_set_state") int tcp_state(struct bpf_raw_tracepoint_args *ctx) {
    struct packet p = {};
    u64 cookie = 0;
    u32 netns = 0;
    int error = 0;
    void *sk = (void *)ctx->args[0];
    u16 protocol = 0;
    if ((int)ctx->args[1] != TCP_SYN_SENT || (int)ctx->args[2] != TCP_CLOSE) return 0;
    KREAD(&protocol, sk, sock, sk_protocol);
    if (protocol != PROTO_TCP || !socket_ends(sk, &p, &cookie, &netns)) return 0;
    KREAD(&error, sk, sock, sk_err);
    tell(ctx, &p, KIND_FAIL, cookie, 1, netns, error);
    return 0;
}
