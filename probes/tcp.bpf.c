/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What TCP itself says: retransmits, resets, and connection attempts that failed. Raw tracepoints: no tracefs, and
 * the arguments are the same on every kernel we know. No process is taken from these hooks but where a comment says
 * that they run in it: most run in whatever the CPU was doing. */
#include "dialect.h"
#include "records.h"
#include "maps.h"
#include "conns.h"
#include "openers.h"
#include "packet.h"
#include "sock.h"
#include "owners.h"

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
    if (kind == KIND_FAIL && !reason) {
        struct opener *o = find_opener(&e.key);
        if (o) reason = o->error;
    }
    e.reason = reason;
    if (local)
        e.cookie[1] = cookie;
    else
        e.cookie[0] = cookie;
    tell_limited(ctx, &e);
}

INLINE void reverse(struct packet *p) {
    u64 a0 = p->src[0], a1 = p->src[1];
    u16 port = p->sport;
    p->src[0] = p->dst[0], p->src[1] = p->dst[1], p->sport = p->dport;
    p->dst[0] = a0, p->dst[1] = a1, p->dport = port;
}

INLINE struct retransmits *retransmits_of(u32 active, struct flow_key *k) {
    if (active) return MAP_GET(retransmits_1, k);
    return MAP_GET(retransmits_0, k);
}

INLINE struct retransmits *retransmits_from(u32 active, struct flow_key *k) {
    struct retransmits none = {};
    if (active)
        MAP_NEW(retransmits_1, k, &none);
    else
        MAP_NEW(retransmits_0, k, &none);
    return retransmits_of(active, k);
}

/* Whether a flow that no interface of ours has shown may have an entry. Others' are among them, such as those of the
 * machine's other containers: half of the map is not theirs. How many have one is in the map, too, under no flow's key,
 * so that it goes with them. */
INLINE int stranger_fits(u32 active) {
    struct flow_key none = {};
    struct retransmits *strangers = retransmits_from(active, &none);
    if (!strangers || strangers->segments[0] >= ENTRIES(retransmits_0, RETRANSMIT_ENTRIES) / 2) return 0;
    __sync_fetch_and_add(&strangers->segments[0], 1);
    return 1;
}

/* Exactly, where events are held back: for the flow's next record. */
INLINE void count_retransmit(struct packet *p, u32 netns, u32 segments) {
    struct flow_key k = {};
    u32 dir = set_key(&k, p), active = active_retransmits();
    k.ifindex = netns;
    struct retransmits *r = retransmits_of(active, &k);
    if (!r && (find_opener(&k) || stranger_fits(active))) r = retransmits_from(active, &k);
    if (r)
        __sync_fetch_and_add(&r->segments[dir & 1], segments);
    else
        count(STAT_RETRANSMITS_FULL, segments, 0);
}

INLINE int sent_again(void *ctx, void *sk, u32 segments) {
    struct packet p = {};
    u64 cookie = 0;
    u32 netns = 0;
    if (!socket_ends(sk, &p, &cookie, &netns)) return 0;
    count_retransmit(&p, netns, segments);
    tell(ctx, &p, KIND_RETRANSMIT, cookie, 1, netns, 0);
    return 0;
}

/* (sk, skb, error): the local end sends again. Kernels that tell the error (6.18 does, 6.12 does not) come here also
 * when they did not send, most often because the segment is still in a queue of this machine (EBUSY). */
PROGRAM("raw_tp/tcp_retransmit_skb") int tcp_retransmit(struct bpf_raw_tracepoint_args *ctx) {
    if (HAS_RETRANSMIT_ERROR && (int)ctx->args[2]) return 0;
    return sent_again(ctx, (void *)ctx->args[0], queued_segments((void *)ctx->args[1]));
}

/* (listener, request): a SYN-ACK again. The request has the connection's ends, and the cookie that it will have. */
PROGRAM("raw_tp/tcp_retransmit_synack") int tcp_retransmit_synack(struct bpf_raw_tracepoint_args *ctx) {
    return sent_again(ctx, (void *)ctx->args[1], 1);
}

/* (sk or NULL, skb or NULL, ...): the local end sends a reset, in answer to skb where there is one. */
PROGRAM("raw_tp/tcp_send_reset") int tcp_send_reset(struct bpf_raw_tracepoint_args *ctx) {
    struct packet p = {};
    u64 cookie = 0;
    u32 netns = 0, ifindex = 0;
    void *skb = (void *)ctx->args[1];
    if (skb) {
        if (!packet_ends(skb, &p)) return 0;
        reverse(&p);
        netns = packet_netns(skb, &ifindex);
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

/* Closes the flow at an interface, with its next record where it had packets since the last one. */
INLINE void time_out(void *ctx, struct event *e) {
    struct flow *f;
    u64 at = conn_at(&e->key, hash_ends(&e->key));
    struct conn *c = find_conn(&at, e->time_ns);
    if (!c || ended(c->fin[0], c->fin[1], c->closer)) return;
    c->closer = e->closer;
    if (active_map(get_control()))
        f = MAP_GET(flows_1, &e->key);
    else
        f = MAP_GET(flows_0, &e->key);
    if (f)
        f->closer = e->closer;
    else
        sent(PERF_OUT(events, ctx, e, sizeof(*e)));
}

/* Why a socket gave up a connection: nobody answered, or what an ICMP error or its neighbour table said of that. Other
 * errors come with a reset, or with an application that closes. */
INLINE u8 gave_up(int error) {
    if (error == ETIMEDOUT) return CLOSER_TIMEOUT;
    int unreachable = error == EHOSTUNREACH || error == ENETUNREACH || error == ECONNREFUSED || error == EHOSTDOWN;
    return unreachable || error == EACCES ? CLOSER_UNREACHABLE : CLOSER_NONE;
}

/* A connection whose other end went silent: no packet tells of its end. */
INLINE void give_up(void *ctx, struct packet *p, u64 cookie, u8 closer) {
    struct event e = {};
    u32 dir = set_key(&e.key, p);
    struct opener *o = find_opener(&e.key);
    if (!o) return;
    o->opened = 0; /* a new one with the same ends is another connection */
    e.version = RECORD_VERSION;
    e.kind = KIND_CLOSE;
    e.time_ns = bpf_ktime_get_ns();
    e.direction = dir;
    e.initiator = o->initiator & 1;
    e.closer = closer;
    if (dir)
        e.cookie[1] = cookie;
    else
        e.cookie[0] = cookie;
    at_interface(&e.key, o, 0);
    time_out(ctx, &e);
    if (o->ifindex[0] == o->ifindex[1] && o->vlan[0] == o->vlan[1]) return;
    at_interface(&e.key, o, 1);
    time_out(ctx, &e);
}

/* (sk, old state, new state): connections that end without a packet, and attempts that end without a connection. */
PROGRAM("raw_tp/inet_sock_set_state") int tcp_state(struct bpf_raw_tracepoint_args *ctx) {
    struct packet p = {};
    u64 cookie = 0;
    u32 netns = 0;
    int error = 0, before = ctx->args[1], now = ctx->args[2];
    void *sk = (void *)ctx->args[0];
    u16 protocol = 0;
    if (now == TCP_SYN_SENT) {
        KREAD(&cookie, sk, sock_common, skc_cookie);
        MAP_DEL(attempts, &cookie);
        return 0;
    }
    if (now != TCP_CLOSE) return 0;
    KREAD(&error, sk, sock, sk_err);
    u8 closer = gave_up(error);
    if (before != TCP_SYN_SENT && !closer) return 0;
    KREAD(&protocol, sk, sock, sk_protocol);
    if (protocol != PROTO_TCP || !socket_ends(sk, &p, &cookie, &netns)) return 0;
    if (before == TCP_SYN_SENT)
        tell(ctx, &p, KIND_FAIL, cookie, 1, netns, error);
    else
        give_up(ctx, &p, cookie, closer);
    return 0;
}
