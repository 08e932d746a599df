/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What must outlive a drain: a table of the connections seen last, sixteen to a place. A new one takes the room of the
 * one in its place that was unseen for longest. There are four ways for each flow that a flow map can hold: of so many,
 * less than one in a million finds its place full. No lock and no list: an LRU map cost 0.6 us more for a SYN. Of two CPUs
 * that take one way at once, one or none gets it; the other one's connection is counted as forgotten. */
#pragma once
#include "dialect.h"
#include "records.h"
#include "maps.h"
#include "openers.h"

#define CONN_WAYS 16
#define CONN_PLACES (FLOW_ENTRIES / 4) /* four ways for each flow */

/* A conversation without connections (UDP, ICMP ...) that was silent for so long opens anew; so does a SYN on a
 * connection whose end was not seen. */
#define IDLE_NS (60 * SECOND_NS)

struct conn_mark {
    u32 tag; /* the lower half of the hash; never 0 */
    u32 seen; /* about seconds, CLOCK_MONOTONIC */
} __attribute__((aligned(8)));

struct conn_place {
    struct conn_mark marks[CONN_WAYS];
    struct conn ways[CONN_WAYS];
};

MAP(MT_ARRAY, conns, u32, struct conn_place, CONN_PLACES)

INLINE int ended(u8 fin_a, u8 fin_b, u8 closer) {
    return (fin_a && fin_b) || closer >= CLOSER_RST_A;
}

/* Where the connection is, or may be: place, way and tag in 28, 4 and 32 bits. `ends`: hash of its ends. */
INLINE u64 conn_at(struct flow_key *k, u64 ends) {
    u64 where = (u64)k->ifindex << 32 | (u64)k->vlan << 16 | (u64)k->egress << 8 | k->tunnel;
    return mix(ends, where) | 1;
}

INLINE struct conn_place *conn_place(u64 at) {
    u32 index = (at >> 36) * ENTRIES(conns, CONN_PLACES) >> 28;
    return MAP_GET(conns, &index);
}

/* The barriers keep the compiler from branches (or from the sign's shift): the verifier would follow each way. */
INLINE struct conn *conn_way(struct conn_place *place, u32 way) {
    struct conn *c = &place->ways[way & (CONN_WAYS - 1)];
    asm volatile("" : "+r"(c));
    return c;
}

/* Has the processor fetch all that is looked up for a new connection at once: each by itself is not in its cache. */
INLINE void fetch_places(u64 at, u64 ends) {
    struct conn_place *place = conn_place(at);
    struct opener_place *opener = opener_place(ends);
    if (!place || !opener) return;
    volatile u32 *marks = &place->marks[0].tag, *ways = (volatile u32 *)opener;
    asm volatile("" : : "r"(marks[0]), "r"(marks[CONN_WAYS]), "r"(ways[0]), "r"(ways[sizeof(*opener) / 8]));
}

/* The one that find_conn() or keep_conn() has put there; 0 where another one is by now. */
INLINE struct conn *known_conn(u64 at) {
    struct conn_place *place = conn_place(at);
    u32 way = at >> 32 & (CONN_WAYS - 1);
    if (!at || !place || place->marks[way].tag != (u32)at) return 0;
    return conn_way(place, way);
}

/* *at becomes where it is. */
INLINE struct conn *find_conn(u64 *at, u64 now) {
    struct conn_place *place = conn_place(*at);
    if (!place) return 0;
    u64 way = 0;
#pragma unroll
    for (u32 i = 0; i < CONN_WAYS; i++) {
        u64 differs = place->marks[i].tag ^ (u32)*at;
        asm volatile("" : "+r"(differs));
        way |= (differs - 1) >> 60 & i; /* all of the upper bits where nothing differs */
    }
    asm volatile("" : "+r"(way));
    way &= CONN_WAYS - 1;
    if (place->marks[way].tag != (u32)*at) return 0;
    place->marks[way].seen = now >> SECOND_SHIFT;
    *at = (*at & ~(15ULL << 32)) | way << 32;
    return conn_way(place, way);
}

/* Keeps a connection that find_conn() did not find. Returns where; 0 where another CPU was at that way. */
INLINE u64 keep_conn(u64 at, struct conn *fresh, u64 now) {
    struct conn_place *place = conn_place(at);
    if (!place) return 0;
    u64 oldest = ~0ULL >> 1;
#pragma unroll
    for (u32 i = 0; i < CONN_WAYS; i++) {
        u64 older = ((u64)place->marks[i].seen << 4 | i) - oldest;
        u64 is = older >> 63;
        asm volatile("" : "+r"(is));
        oldest += older * is;
    }
    u32 way = oldest & (CONN_WAYS - 1);
    u64 *mark = (u64 *)&place->marks[way], old = *(volatile u64 *)mark;
    if (old >> 32 != oldest >> 4 || !CLAIM(mark, old, (now >> SECOND_SHIFT) << 32 | (u32)at)) {
        count(STAT_FORGOTTEN, 1, 0);
        return 0;
    }
    struct conn *c = conn_way(place, way);
    if (old && now < c->last_ns + IDLE_NS && !ended(c->fin[0], c->fin[1], c->closer)) count(STAT_FORGOTTEN, 1, 0);
    *c = *fresh;
    return (at & ~(15ULL << 32)) | (u64)way << 32;
}
