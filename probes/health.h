/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* How a TCP connection does, as its packets tell: the handshake's times, and what its local sockets know. */
#pragma once
#include "dialect.h"
#include "records.h"
#include "conns.h"
#include "packet.h"
#include "owners.h"

/* A SYN that is not the first one. */
INLINE void requested(struct conn *c, u64 now) {
    c->mark_ns = now;
    c->handshake |= HANDSHAKE_REPEATED;
}

/* An RTT longer than u32 nanoseconds would have been taken for a loss, and the SYN sent again. A packet that was
 * sent twice tells nothing (Karn's rule): which of the two was answered? */
INLINE u32 round_trip(struct conn *c, u64 now) {
    return c->handshake & HANDSHAKE_REPEATED ? 0 : now - c->mark_ns;
}

/* A SYN-ACK: f waits for the ACK now, and so does each interval's first packet until it comes. */
INLINE void answered(struct flow *f, struct conn *c, u32 dir, u64 now) {
    if (!(c->state & FLOW_OPENED) || c->connect_ns || dir == c->initiator) return;
    if (c->handshake & HANDSHAKE_ANSWERED) {
        c->handshake |= HANDSHAKE_REPEATED;
    } else {
        f->rtt_ns[dir & 1] = c->rtt_ns[dir & 1] = round_trip(c, now);
        c->handshake = HANDSHAKE_ANSWERED;
    }
    c->mark_ns = now;
    f->handshake = 1;
}

/* The ACK that ends the handshake. */
INLINE void established(struct flow *f, u32 dir, u64 now) {
    f->handshake = 0;
    struct conn *c = known_conn(f->conn);
    if (!c || !(c->handshake & HANDSHAKE_ANSWERED)) return;
    f->rtt_ns[dir & 1] = c->rtt_ns[dir & 1] = round_trip(c, now);
    f->connect_ns = c->connect_ns = now - c->start_ns;
    c->handshake = 0;
}

INLINE void recall_handshake(struct flow *f, struct conn *c) {
    f->connect_ns = c->connect_ns;
    f->rtt_ns[0] = c->rtt_ns[0];
    f->rtt_ns[1] = c->rtt_ns[1];
    f->handshake = c->handshake & HANDSHAKE_ANSWERED;
}

/* Once an interval and at the end: the sender's socket, where it is on this machine. A SYN's knows no RTT, and a
 * SYN-ACK has none yet. */
INLINE void sample(struct __sk_buff *skb, struct flow *f, struct packet *p, u32 dir) {
    struct bpf_sock *sk = skb->sk;
    if (!sk || p->tcp_flags & TCP_SYN) return;
    sk = bpf_sk_fullsock(sk);
    if (!sk) return;
    f->sampled[dir & 1] = 1;
    struct bpf_tcp_sock *tcp = bpf_tcp_sock(sk);
    if (!tcp) return; /* somebody crafts TCP by a raw socket */
    f->srtt_us[dir & 1] = tcp->srtt_us >> 3;
    struct owner *o = SOCKET_GET(listeners, sk);
    u64 cookie = f->cookie[dir & 1];
    /* a look first: an LRU map takes an element for its own before it sees that it needs none */
    if (o && cookie && !MAP_GET(owners, &cookie)) MAP_NEW(owners, &cookie, o);
}
