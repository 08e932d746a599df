/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Who opened a flow and where, for hooks that see no interface. A table of the newest: four entries to a place, by a
 * hash of the flow's ends, written over by the flow seen last instead of the one unseen for longest. Losing an entry
 * costs a guess, and one costs two cache lines, where the same in an LRU map cost half of what a new flow did. */
#pragma once
#include "dialect.h"
#include "records.h"
#include "maps.h"
#include "packet.h"

#define OPENER_BITS 14
#define OPENER_PLACES (1 << OPENER_BITS)
#define OPENER_WAYS 4
#define SECOND_SHIFT 30 /* nanoseconds to about seconds */
#define MS_SHIFT 20 /* nanoseconds to about milliseconds */

struct opener {
    u32 tag; /* the lower half of the hash; never 0 */
    u32 seen; /* about seconds, CLOCK_MONOTONIC */
    u32 opened; /* about milliseconds, modulo 2^32; 0: over, or the opening was not seen */
    /* The part of a flow_key of the first and the last interface that saw the opening: the first one is next to its
     * source, the last one next to its destination, as far as they are on this machine. */
    u32 ifindex[2];
    u16 vlan[2];
    u8 egress[2];
    u8 tunnel[2];
    u8 initiator; /* as in struct flow */
    u8 error; /* errno of an ICMP error since */
    u8 pad[2];
};

struct opener_place {
    struct opener ways[OPENER_WAYS];
};

MAP(MT_ARRAY, openers, u32, struct opener_place, OPENER_PLACES)

INLINE u64 mix(u64 hash, u64 word) {
    hash = (hash ^ word) * GOLDEN_RATIO;
    return hash ^ hash >> 32;
}

/* Of both ends, without interface. A product only carries upwards: the upper bits have seen everything. */
INLINE u64 hash_ends(struct flow_key *k) {
    u64 *a = (u64 *)k->addr_a, *b = (u64 *)k->addr_b;
    u64 rest = (u64)k->proto << 48 | (u64)k->icmp << 32 | (u64)k->port_b << 16 | k->port_a;
    return mix(mix(mix(mix(mix(hash_seed(), a[0]), a[1]), b[0]), b[1]), rest);
}

/* `at` is a constant: the verifier wants no other index. */
INLINE void saw_opening(struct opener *o, struct flow_key *k, const u32 at) {
    o->ifindex[at] = k->ifindex;
    o->vlan[at] = k->vlan;
    o->egress[at] = k->egress;
    o->tunnel[at] = k->tunnel;
}

INLINE void at_interface(struct flow_key *k, struct opener *o, const u32 at) {
    k->ifindex = o->ifindex[at];
    k->vlan = o->vlan[at];
    k->egress = o->egress[at];
    k->tunnel = o->tunnel[at];
}

INLINE struct opener_place *opener_place(u64 ends) {
    u32 index = ends >> (64 - OPENER_BITS);
    return MAP_GET(openers, &index);
}

/* `ends`: their hash. `opens`: this packet opens the flow. It passes all of our interfaces within a moment. */
INLINE void remember_opener(struct flow_key *k, u64 ends, u8 initiator, u32 opens, u64 now) {
    u32 tag = (u32)ends | 1, way = 0;
    u32 ms = (u32)(now >> MS_SHIFT) | 1;
    struct opener_place *place = opener_place(ends);
    if (!place) return;
#pragma unroll
    for (u32 i = 0; i < OPENER_WAYS; i++) {
        if (place->ways[i].tag == tag) {
            way = i;
            break;
        }
        if (place->ways[i].seen < place->ways[way].seen) way = i;
    }
    struct opener *o = &place->ways[way];
    u32 known = o->tag == tag && o->initiator == initiator;
    o->seen = now >> SECOND_SHIFT;
    if (known && !opens) return;
    if (!known || !o->opened || ms - o->opened > 1000) {
        o->tag = tag;
        o->initiator = initiator;
        o->opened = opens ? ms : 0;
        o->error = 0;
        saw_opening(o, k, 0);
    }
    saw_opening(o, k, 1);
}

INLINE struct opener *find_opener(struct flow_key *k) {
    u64 ends = hash_ends(k);
    u32 tag = (u32)ends | 1;
    struct opener_place *place = opener_place(ends);
    if (!place) return 0;
#pragma unroll
    for (u32 i = 0; i < OPENER_WAYS; i++)
        if (place->ways[i].tag == tag) return &place->ways[i];
    return 0;
}

/* Who opened the flow of an event without interface: as some interface saw it, or else a guess. */
INLINE u32 known_initiator(struct flow_key *k, u32 sender) {
    struct opener *o = find_opener(k);
    return o ? o->initiator & 1 : guess_initiator(k, sender);
}

/* An ICMP error came for the flow: an application takes what it means from the socket (SO_ERROR) before it closes it. */
INLINE void note_error(struct flow_key *k, u8 error) {
    struct opener *o = find_opener(k);
    if (o && error) o->error = error;
}
