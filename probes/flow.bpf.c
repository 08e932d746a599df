/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Flow accounting at tc, both directions: one map entry a flow and interface, an event when a flow opens. */
#include "dialect.h"
#include "records.h"
#include "maps.h"
#include "openers.h"
#include "packet.h"
#include "parse.h"
#include "inside.h"
#include "conns.h"
#include "health.h"
#include "tallies.h"
#include "known.h"

LICENSED

/* A flow of which nothing is known: the stack has no room for one. */
MAP(MT_ARRAY, blank, u32, struct flow, 1)

#define PACKET_LOOPBACK 5 /* linux/if_packet.h */

INLINE void emit(struct __sk_buff *skb, struct flow_key *k, struct flow *f, u8 kind, u32 dir, u8 tcp_flags, u64 now) {
    struct event *e = blank_event();
    if (!e) return;
    e->version = RECORD_VERSION;
    e->kind = kind;
    e->initiator = f->initiator;
    e->direction = dir;
    e->time_ns = now;
    e->key = *k;
    e->cookie[0] = f->cookie[0], e->cookie[1] = f->cookie[1];
    e->cgroup[0] = f->cgroup[0], e->cgroup[1] = f->cgroup[1];
    e->tcp_flags[dir & 1] = tcp_flags;
    e->closer = f->closer;
    e->state = f->state;
    e->length = skb->len;
    int error = PERF_OUT(events, skb, e, sizeof(*e));
    if (error && kind == KIND_OPEN) { /* not lost, only late */
        f->state |= FLOW_OPEN_LATE;
        count(STAT_OPEN_LATE, 1, 0);
    } else {
        sent(error);
    }
}

/* An opening is told at once; that of a flow in a tunnel with its first counts, which have room for the tunnel's ends. */
INLINE void open(struct __sk_buff *skb, struct flow_key *k, struct flow *f, u32 dir, u8 tcp_flags, u64 now) {
    if (k->tunnel)
        f->state |= FLOW_OPEN_LATE;
    else
        emit(skb, k, f, KIND_OPEN, dir, tcp_flags, now);
}

/* A frame to everybody: what says so for the broadcast address of a subnet, which looks like any other. */
INLINE u32 is_broadcast(struct __sk_buff *skb, struct packet *p) {
    u8 mac[6];
    if (!p->link || p->tunnel || bpf_skb_load_bytes(skb, 0, mac, 6)) return 0;
    return (mac[0] & mac[1] & mac[2] & mac[3] & mac[4] & mac[5]) == 0xff;
}

/* The first packet of an interval: what is known of the flow from before, or its opening. */
INLINE void begin(struct __sk_buff *skb, struct flow_key *k, struct flow *f, struct packet *p, u32 dir, u64 now) {
    u64 ends = hash_ends(k), at = conn_at(k, ends);
    fetch_places(at, ends);
    struct conn *known = find_conn(&at, now);
    f->conn = at;
    u32 opens = p->proto == PROTO_TCP ? (p->tcp_flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN : 1;
    if (known) {
        u32 over = ended(known->fin[0], known->fin[1], known->closer);
        u32 idle = now > known->last_ns + IDLE_NS; /* another CPU may have been here with a later time */
        if (!(opens && (idle || (over && p->proto == PROTO_TCP)))) {
            f->start_ns = known->start_ns;
            f->initiator = known->initiator;
            f->fin[0] = known->fin[0];
            f->fin[1] = known->fin[1];
            f->closer = known->closer;
            f->state = (known->state & ~FLOW_OPEN_LATE) | (over ? FLOW_CLOSED_BEFORE : 0);
            recall_handshake(f, known);
            f->cookie[(dir ^ 1) & 1] = known->cookie[(dir ^ 1) & 1];
            if (f->cookie[dir & 1]) known->cookie[dir & 1] = f->cookie[dir & 1];
            known->last_ns = now;
            remember_opener(k, ends, f->initiator, 0, now);
            return;
        }
    }
    struct conn fresh = {.start_ns = now, .last_ns = now, .mark_ns = now, .cookie = {f->cookie[0], f->cookie[1]}};
    if (opens) {
        fresh.state = FLOW_OPENED;
        fresh.initiator = dir;
        if (is_broadcast(skb, p)) fresh.state |= FLOW_BROADCAST;
        /* an answer from a service's port, seen first because we came late; nobody answers for many */
        else if (p->proto == PROTO_UDP && !is_group(p->dst, p->family))
            fresh.initiator = guess_initiator(k, dir);
    } else {
        fresh.state = FLOW_GUESSED;
        if ((p->tcp_flags & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK))
            fresh.initiator = !dir;
        else
            fresh.initiator = guess_initiator(k, dir);
    }
    f->start_ns = now;
    f->initiator = fresh.initiator;
    f->state = fresh.state;
    if (known)
        *known = fresh;
    else
        f->conn = keep_conn(at, &fresh, now);
    remember_opener(k, ends, f->initiator, opens, now);
    if (opens) open(skb, k, f, dir, p->tcp_flags, now);
}

/* A direction's first packet of an interval that the other one began: the cookie is of then, or of an interval before. */
INLINE void sent_by(struct __sk_buff *skb, struct flow *f, u32 dir) {
    u64 cookie = bpf_get_socket_cookie(skb);
    if (!cookie) return;
    f->cookie[dir & 1] = cookie;
    f->cgroup[dir & 1] = bpf_skb_cgroup_id(skb);
    struct conn *c = known_conn(f->conn);
    if (c) c->cookie[dir & 1] = cookie;
}

/* SYN, SYN-ACK, FIN and RST. Stores are idempotent bytes, one writer's each, so that CPUs cannot undo each other. */
INLINE void edge(struct __sk_buff *skb, struct flow_key *k, struct flow *f, struct packet *p, u32 dir, u64 now) {
    u8 flags = p->tcp_flags;
    u32 opens = (flags & (TCP_SYN | TCP_ACK | TCP_RST)) == TCP_SYN;
    if (opens && f->start_ns == now) return; /* begin() has told */
    struct conn *c = known_conn(f->conn);
    if (opens) {
        /* the same ports again within one interval: close the old connection, open the new one */
        if (!ended(f->fin[0], f->fin[1], f->closer)) {
            if (c) requested(c, now);
            return;
        }
        if (!(f->state & FLOW_CLOSED_BEFORE)) emit(skb, k, f, KIND_CLOSE, dir, 0, now);
        if (f->state & FLOW_OPEN_LATE) count(STAT_EVENT_LOST, 1, 0); /* an entry tells of one opening only */
        f->fin[0] = f->fin[1] = 0;
        f->closer = CLOSER_NONE;
        f->state = FLOW_OPENED;
        f->initiator = dir;
        f->start_ns = now;
        struct conn fresh = {.start_ns = now, .last_ns = now, .mark_ns = now, .state = FLOW_OPENED, .initiator = dir};
        recall_handshake(f, &fresh);
        if (c)
            *c = fresh;
        else
            count(STAT_FORGOTTEN, 1, 0);
        f->cookie[0] = f->cookie[1] = f->cgroup[0] = f->cgroup[1] = 0; /* they may be others' now */
        sent_by(skb, f, dir);
        remember_opener(k, hash_ends(k), f->initiator, 1, now);
        open(skb, k, f, dir, flags, now);
        return;
    }
    if (flags & TCP_SYN) {
        if (!f->cookie[dir & 1]) sent_by(skb, f, dir);
        if (c) answered(f, c, dir, now);
    }
    f->sampled[dir & 1] = 0; /* once more, for the close */
    u8 closer = 0;
    if (ended(f->fin[0], f->fin[1], f->closer)) return; /* stragglers do not change how it ended */
    if (flags & TCP_RST)
        closer = dir ? CLOSER_RST_B : CLOSER_RST_A;
    else if (flags & TCP_FIN) {
        f->fin[dir & 1] = 1;
        if (c) c->fin[dir & 1] = 1;
        if (!f->closer) closer = dir ? CLOSER_FIN_B : CLOSER_FIN_A;
    }
    if (closer) {
        f->closer = closer;
        if (c) c->closer = closer;
    }
}

/* Sets *now where it had to read the clock. `active`: all of this must go to one map. */
INLINE struct flow *flow_entry(struct __sk_buff *skb, struct flow_key *k, struct packet *p, u32 dir, u32 active,
                               u64 *now) {
    struct flow *f;
    if (active)
        f = MAP_GET(flows_1, k);
    else
        f = MAP_GET(flows_0, k);
    if (f) return f;
    *now = bpf_ktime_get_ns();
    u32 zero = 0;
    struct flow *fresh = MAP_GET(blank, &zero);
    if (!fresh) return 0;
    long error;
    if (active)
        error = MAP_NEW(flows_1, k, fresh);
    else
        error = MAP_NEW(flows_0, k, fresh);
    if (active)
        f = MAP_GET(flows_1, k);
    else
        f = MAP_GET(flows_0, k);
    if (f && !error) {
        f->cookie[dir & 1] = bpf_get_socket_cookie(skb);
        f->cgroup[dir & 1] = bpf_skb_cgroup_id(skb);
        if (p->tunnel) set_tunnel_ends(f, dir);
        begin(skb, k, f, p, dir, *now);
    }
    return f;
}

/* `link`: bytes of link header before what skb->protocol says. */
INLINE int account(struct __sk_buff *skb, u32 egress, u32 link) {
    /* the copy of a multicast that the sender gets itself: no link header, and counted on its way out */
    if (skb->pkt_type == PACKET_LOOPBACK) return -1;
    struct control *c = get_control();
    struct seen s;
    if (!c || read_packet(skb, c, egress, link, &s) != READ_OK) return -1;
    asm volatile("" : : "r"(&s) : "memory"); /* the verifier is to forget what s was read from */
    u32 dir = s.dir, edges = edges_of(&s.p);
    u64 now = 0;
    struct flow *f = flow_entry(skb, &s.k, &s.p, dir, s.active, &now);
    if (!f) {
        u32 index = (u32)s.p.proto * 2 + egress;
        struct count *over = MAP_GET(overflow, &index);
        if (over) {
            over->packets += s.packets;
            over->bytes += s.bytes;
        }
        count(STAT_MAP_FULL, s.packets, s.bytes);
        return -1;
    }
    u32 first = !f->packets[dir & 1];
    if (first && (!now || !f->cookie[dir & 1])) sent_by(skb, f, dir);
    if (first && s.p.tunnel) f->tunnel_id[dir & 1] = s.p.tunnel_id;
    __sync_fetch_and_add(&f->packets[dir & 1], s.packets);
    __sync_fetch_and_add(&f->bytes[dir & 1], s.bytes);
    u8 connects = 0;
    if (s.p.proto == PROTO_TCP) {
        f->tcp_flags[dir & 1] |= s.p.tcp_flags;
        connects = f->handshake && dir == f->initiator;
    }
    /* The exact clock costs a third of all this: read where the moment matters, such as a reply's. Else a tick will
     * do, which is a few milliseconds old: never before what was exact. */
    u64 tick = tick_now(c);
    if (first || edges || connects) {
        if (!now) now = bpf_ktime_get_ns();
        f->last_ns = now;
        if (edges)
            edge(skb, &s.k, f, &s.p, dir, now);
        else if (connects)
            established(f, dir, now);
    } else if (tick > f->last_ns) {
        f->last_ns = tick;
    }
    if (s.p.proto == PROTO_TCP) {
        if (!f->sampled[dir & 1]) sample(skb, f, &s.p, dir); /* after edge(), which asks for one more */
        if (s.p.zero_window) __sync_fetch_and_add(&f->zero_windows[dir & 1], 1);
    }
    /* where there is a socket, its RTT comes first */
    set_ready(f, &s.at, dir, edges, s.p.proto != PROTO_TCP || f->sampled[dir & 1] || !skb->sk);
    return -1; /* TC_ACT_UNSPEC: what becomes of the packet is not ours to say */
}

PROGRAM("tc") int flow_ingress(struct __sk_buff *skb) {
    return account(skb, 0, ETH_HEADER);
}

PROGRAM("tc") int flow_egress(struct __sk_buff *skb) {
    return account(skb, 1, ETH_HEADER);
}

/* For links whose packets have no link header: tun, WireGuard, PPP, IPIP, GRE ... */
PROGRAM("tc") int flow_ingress_l3(struct __sk_buff *skb) {
    return account(skb, 0, 0);
}

PROGRAM("tc") int flow_egress_l3(struct __sk_buff *skb) {
    return account(skb, 1, 0);
}
