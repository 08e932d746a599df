/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Packets that the kernel threw away, with its reason. The interface is of e.netns, which may not be the observed
 * namespace: user space leaves it out then. */
#include "dialect.h"
#include "records.h"
#include "maps.h"
#include "openers.h"
#include "packet.h"
#include "sock.h"

LICENSED

/* 1: tell of this reason, 2: but for pings, 3: only where the packet's route says why. Filled by user space from the
 * running kernel's own names of reasons. Those of routes come behind the kernel's, by the route's errno. */
#define NOT_ECHO 2
#define BY_ROUTE 3
#define DROP_REASONS 512
MAP(MT_ARRAY, drop_filter, u32, u32, DROP_REASONS)

INLINE int is_echo(struct packet *p) {
    return (p->proto == PROTO_ICMP && p->icmp >> 8 == 8) || (p->proto == PROTO_ICMPV6 && p->icmp >> 8 == 128);
}

/* A packet that is forwarded has its route with it; of one that leads nowhere the kernel gives no reason. IPv6 has errors
 * as negative numbers. Returns 0 where the route is not why. */
INLINE u32 route_reason(void *skb) {
    u64 route = 0;
    short error = 0;
    KREAD(&route, skb, sk_buff, _skb_refdst);
    route &= ~7ULL; /* flags */
    if (!(route >> 63)) return 0;
    KREAD(&error, (void *)route, dst_entry, error);
    if (error < 0) error = -error;
    int leads_nowhere =
        error == EACCES || error == EINVAL || error == EHOSTUNREACH; /* prohibit, blackhole, unreachable */
    if (!leads_nowhere) return 0;
    return DROP_REASONS + error;
}

INLINE int drop(struct bpf_raw_tracepoint_args *ctx, u32 reason, u32 wanted) {
    struct packet p = {};
    void *skb = (void *)ctx->args[0];
    if (!packet_ends(skb, &p)) return 0;
    if (wanted == NOT_ECHO && is_echo(&p)) return 0;
    struct event e = {};
    u32 dir = set_key(&e.key, &p);
    e.version = RECORD_VERSION;
    e.kind = KIND_DROP;
    e.time_ns = bpf_ktime_get_ns();
    e.direction = dir;
    e.initiator = known_initiator(&e.key, dir);
    e.reason = reason;
    KREAD(&e.length, skb, sk_buff, len);
    e.netns = packet_netns(skb, &e.key.ifindex);
    u16 both = (u16)p.tcp_flags << (dir ? 8 : 0);
    __builtin_memcpy(e.tcp_flags, &both, 2);
    tell_limited(ctx, &e);
    return 0;
}

/* (skb, location, reason, ...) */
PROGRAM("raw_tp/kfree_skb") int skb_drop(struct bpf_raw_tracepoint_args *ctx) {
    u32 reason = ctx->args[2];
    /* reasons of subsystems have their number in the upper half: always told */
    u32 wanted = 1;
    if (reason < DROP_REASONS) {
        u32 *listed = MAP_GET(drop_filter, &reason);
        if (!listed || !*listed) return 0;
        wanted = *listed;
        if (wanted == BY_ROUTE && !(reason = route_reason((void *)ctx->args[0]))) return 0;
    }
    return drop(ctx, reason, wanted);
}

/* Whether a packet was on its way to a socket of this machine: then its IP header is behind it. */
INLINE int delivered(void *skb) {
    u8 *head = 0, *data = 0;
    u16 network = 0;
    KREAD(&head, skb, sk_buff, head);
    KREAD(&data, skb, sk_buff, data);
    KREAD(&network, skb, sk_buff, network_header);
    return data > head + network;
}

/* (skb, location): before Linux 5.17, where reading a third argument is refused. What came as far as to a socket and is a
 * ping is an answer that a raw socket has got: NO_SOCKET later on. */
PROGRAM("raw_tp/kfree_skb") int skb_drop_plain(struct bpf_raw_tracepoint_args *ctx) {
    void *skb = (void *)ctx->args[0];
    return drop(ctx, route_reason(skb), delivered(skb) ? NOT_ECHO : 1);
}
