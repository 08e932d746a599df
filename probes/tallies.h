/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What a flow's packets are counted on once its first ones of an interval were seen: one cache line to find and to write,
 * where a look into a hash map takes four. Who finds no tally counts in the flow map, as first packets do; the drain adds
 * the two up. There is half a tally for each flow that a flow map can hold: of 10,000 flows in 65,536 one in 22 has none. */
#pragma once
#include "dialect.h"
#include "records.h"
#include "maps.h"
#include "openers.h"

#define TALLY_WAYS 2
#define TALLY_PLACES (FLOW_ENTRIES / 2) /* first those that go with flows_0, then those with flows_1 */
#define TALLY_SHIFT 40 /* packets in the upper bits, bytes in the lower ones */
#define TALLY_AFTER 3 /* packets: with fewer it costs more than it saves */
#define TALLY_FULL (1ULL << 63 | 1ULL << 39) /* either has used half of its room */

struct tally_place {
    struct tally ways[TALLY_WAYS];
};

SHARED_ARRAY(tallies, struct tally_place, TALLY_PLACES)

/* Where a flow's tally is, or may be. */
struct tally_at {
    struct tally_place *place;
    u64 name[3];
    u32 index;
};

/* Of two words a hash that nobody can aim at: what differs is multiplied by what nobody knows, and once more with what a
 * product does not carry down, before the other word comes. */
INLINE u64 hash_address(u64 *words, u64 factor) {
    u64 hash = words[0] * factor;
    hash = (hash ^ hash >> 32) * factor;
    hash = (hash ^ words[1]) * factor;
    hash = (hash ^ hash >> 32) * factor;
    return hash ^ hash >> 32;
}

/* All of a key in three words: but for IPv6 addresses exactly. */
INLINE void name_tally(struct flow_key *k, u64 *name) {
    u64 *words = (u64 *)k, factor = hash_factor();
    if (k->family == 4)
        name[0] = (words[1] >> 32 << 32) | words[3] >> 32;
    else
        name[0] = hash_address(words, factor) * factor ^ hash_address(words + 2, factor);
    name[1] = words[4];
    name[2] = words[5];
}

/* `active`: the flow map of this run. False: never, but the verifier does not know. */
INLINE u32 tally_at(struct tally_at *at, struct flow_key *k, u32 active) {
    name_tally(k, at->name);
    u64 sum = (at->name[0] ^ hash_seed()) + at->name[1] * GOLDEN_RATIO + at->name[2];
    u64 hash = (sum ^ sum >> 32) * GOLDEN_RATIO >> 32, places = ENTRIES(tallies, TALLY_PLACES) >> 1;
    at->index = (active ? places : 0) + (hash * places >> 32);
    at->place = MAP_GET(tallies, &at->index);
    return at->place != 0;
}

/* One branch: the verifier follows each. */
INLINE int is_tally(struct tally *t, u64 *name, u32 dir) {
    u64 differs = (t->name[0] ^ name[0]) | (t->name[1] ^ name[1]) | (t->name[2] ^ name[2]) | (t->ready[dir & 1] ^ 1) |
                  (t->counts[dir & 1] & TALLY_FULL);
    return !differs;
}

/* The flow's tally, where this direction's packets need no more than to be counted; else 0. */
INLINE struct tally *find_tally(struct tally_at *at, u32 dir) {
    struct tally *ways = at->place->ways;
    if (is_tally(&ways[0], at->name, dir)) return &ways[0];
    return is_tally(&ways[1], at->name, dir) ? &ways[1] : 0;
}

INLINE void tally(struct tally *t, u32 dir, u64 packets, u64 bytes, u8 tcp_flags) {
    __sync_fetch_and_add(&t->counts[dir & 1], packets << TALLY_SHIFT | bytes);
    t->tcp_flags[dir & 1] |= tcp_flags;
    u64 tick = tick_now();
    if (tick > t->last_ns) t->last_ns = tick;
}

/* Among the flows of a place, and among the CPUs that see the flow: who fails tries again with its next packet. */
INLINE void keep_tally(struct flow *f, struct tally_at *at) {
    u32 way = at->place->ways[0].claim != 0, mine = (u32)at->name[1] | 1;
    asm volatile("" : "+r"(way));
    way &= TALLY_WAYS - 1;
    struct tally *t = &at->place->ways[way];
    if (*(volatile u32 *)&t->claim || !CLAIM(&t->claim, 0, mine)) return;
    if (!CLAIM(&f->tally, 0, at->index * TALLY_WAYS + way + 1)) {
        __sync_fetch_and_add(&t->claim, -mine);
        return;
    }
    t->name[0] = at->name[0], t->name[1] = at->name[1], t->name[2] = at->name[2];
}

/* After a packet that was looked at. `edges`: it changed what the next ones mean, of either direction; `settled`: no more
 * is to be known of this one. */
INLINE void set_ready(struct flow *f, struct tally_at *at, u32 dir, u32 edges, u32 settled) {
    if (!f->tally && f->packets[dir & 1] > TALLY_AFTER) keep_tally(f, at);
    if (!f->tally) return;
    struct tally *t = &at->place->ways[(f->tally - 1) & (TALLY_WAYS - 1)];
    if (t->name[0] != at->name[0] || t->name[1] != at->name[1] || t->name[2] != at->name[2]) return;
    if (edges)
        t->ready[0] = t->ready[1] = 0;
    else if (settled)
        t->ready[dir & 1] = 1;
}
