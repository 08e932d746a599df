/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Maps that every program shares, and how an event gets into the ring. */
#pragma once
#include "dialect.h"
#include "records.h"
#include "packet.h"

#ifndef FLOW_ENTRIES
#define FLOW_ENTRIES 65536
#endif

/* Two flow maps: one is written while the other, quiet, is drained (docs/internals.md). */
MAP(MT_HASH, flows_0, struct flow_key, struct flow, FLOW_ENTRIES)
MAP(MT_HASH, flows_1, struct flow_key, struct flow, FLOW_ENTRIES)
MAP(MT_ARRAY, control, u32, struct control, 1)
MAP(MT_PERCPU_ARRAY, overflow, u32, struct count, 512)
MAP(MT_PERCPU_ARRAY, stats, u32, struct stats, 1)
MAP(MT_LRU_HASH, limits, struct flow_key, struct limit, 8192)
PERF_MAP(events)

/* The keys have no interface; in its place is the network namespace of the socket. So a pod's flow has one entry, and
 * two in a flow map, its veth's and the uplink's. These maps turn when what ran at the flow maps' turn has ended: a
 * segment is counted after its packet, and its count must not come a drain later. */
#define RETRANSMIT_ENTRIES (FLOW_ENTRIES / 2)
MAP(MT_HASH, retransmits_0, struct flow_key, struct retransmits, RETRANSMIT_ENTRIES)
MAP(MT_HASH, retransmits_1, struct flow_key, struct retransmits, RETRANSMIT_ENTRIES)

/* Events that did not go into the ring, for the next drain. Two, as there are two flow maps. */
#define HELD_ENTRIES 8192
MAP(MT_HASH, held_0, struct held_key, struct event, HELD_ENTRIES)
MAP(MT_HASH, held_1, struct held_key, struct event, HELD_ENTRIES)

/* Never 0, but the verifier does not know. Who writes to one of two maps reads which one once a run: the agent may flip
 * it at any moment. */
INLINE struct control *get_control(void) {
    u32 zero = 0;
    return MAP_GET(control, &zero);
}

INLINE u32 active_map(struct control *c) {
    return c ? *(volatile u32 *)&c->first_place != 0 : 0;
}

INLINE u32 active_retransmits(void) {
    struct control *c = get_control();
    return c ? *(volatile u32 *)&c->retransmits : 0;
}

INLINE u64 hash_seed(void) {
    struct control *c = get_control();
    return c ? c->seed : 0;
}

#define GOLDEN_RATIO 0x9e3779b97f4a7c15ULL /* 2^64 by it: an odd number of no pattern */

/* CLOCK_MONOTONIC, a tick old at most; 0: the agent has just told something. The first who comes in a tick reads the clock;
 * jiffies are a word in memory. The time is in place before who looks at the tick: one of another moment is a tick older,
 * and no harm. */
INLINE u64 tick_now(struct control *c) {
    u32 tick = bpf_jiffies64();
    if (*(volatile u32 *)&c->tick != tick) {
        *(volatile u64 *)&c->tick_ns = bpf_ktime_get_ns();
        *(volatile u32 *)&c->tick = tick;
    }
    return *(volatile u64 *)&c->tick_ns;
}

#define EVENTS_PER_SECOND 5
#define SECOND_NS 1000000000ULL

INLINE void count(u32 stat, u64 packets, u64 bytes) {
    u32 zero = 0;
    struct stats *s = MAP_GET(stats, &zero);
    if (s) {
        struct count *c = &s->counts[stat & (STATS_SIZE - 1)];
        c->packets += packets;
        c->bytes += bytes;
    }
}

/* Counts what became of an event. Returns the error of the output helper. */
INLINE int sent(int error) {
    count(error ? STAT_EVENT_LOST : STAT_EVENT_SENT, 1, 0);
    return error;
}

/* At most EVENTS_PER_SECOND events of a kind for a flow go into the ring. */
INLINE int limited(struct event *e) {
    struct flow_key k = e->key;
    k.tunnel = e->kind; /* by kind, whatever it was wrapped in */
    k.ifindex ^= e->netns; /* the same addresses in another namespace are another flow */
    struct limit *l = MAP_GET(limits, &k);
    if (!l) {
        struct limit fresh = {.since_ns = e->time_ns, .sent = 1};
        MAP_PUT(limits, &k, &fresh);
        return 0;
    }
    if (e->time_ns > l->since_ns + SECOND_NS) {
        l->since_ns = e->time_ns;
        l->sent = 0;
    }
    if (l->sent >= EVENTS_PER_SECOND) return 1;
    l->sent += 1;
    return 0;
}

/* The first one of an interval stands for all that are like it. */
INLINE void hold(struct event *e) {
    struct held_key k = {.key = e->key, .reason = e->reason, .netns = e->netns};
    struct event *first;
    u32 active = active_map(get_control());
    long taken;
    k.kind = e->kind;
    k.direction = e->direction;
    if (active)
        taken = MAP_NEW(held_1, &k, e);
    else
        taken = MAP_NEW(held_0, &k, e);
    if (taken) {
        if (active)
            first = MAP_GET(held_1, &k);
        else
            first = MAP_GET(held_0, &k);
        if (!first) {
            count(STAT_HELD_FULL, 1, 0);
            return;
        }
        __sync_fetch_and_add(&first->held, 1);
    }
    count(STAT_EVENT_HELD, 1, 0);
}

/* For events that a flow can have any number of: each is told, one way or the other. */
INLINE void tell_limited(void *ctx, struct event *e) {
    if (limited(e) || PERF_OUT(events, ctx, e, sizeof(*e)))
        hold(e);
    else
        count(STAT_EVENT_SENT, 1, 0);
}
