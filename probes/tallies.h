/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What a flow's packets are counted on once its first ones of an interval were seen: half a cache line, where a look into a
 * hash map takes four lines. Who finds no tally counts in the flow map, as first packets do; the drain adds the two up.
 * There is a tally for each flow that a flow map can hold: of 10,000 flows in 65,536 one in 80 has none. */
#pragma once
#include "dialect.h"
#include "records.h"
#include "maps.h"

#define TALLY_WAYS 2
#define TALLY_PLACES FLOW_ENTRIES /* first those that go with flows_0, then those with flows_1 */
#define TALLY_SHIFT 40 /* packets in the upper bits, bytes in the lower ones */
#define TALLY_AFTER 3 /* packets: with fewer it costs more than it saves */
#define TALLY_FULL (1ULL << 63 | 1ULL << 39) /* either has used half of its room */
#define TALLY_TIME 20 /* a unit of the last packet's time is 2^20 ns, a millisecond */

/* A cache line: the second way costs nothing to look at. */
struct tally_place {
    struct tally ways[TALLY_WAYS];
};

SHARED_ARRAY(tallies, struct tally_place, TALLY_PLACES)

/* Where a flow's tally is, or may be. */
struct tally_at {
    struct tally_place *place;
    u64 name;
    u32 index;
};

#define KEY_WORDS 6

/* Of a key in 64 bits, so that nobody can make two flows of one name: each word is multiplied by what nobody knows, and once
 * more with what a product does not carry down. A factor is odd whether or not the agent has said its secret. */
INLINE u64 name_tally(struct control *c, struct flow_key *k) {
    u64 *words = (u64 *)k, name = 0;
#pragma unroll
    for (u32 i = 0; i < KEY_WORDS; i++) {
        u64 factor = (2 * i + 1) * GOLDEN_RATIO + c->secrets[i], product = words[i] * factor;
        name += (product ^ product >> 32) * factor;
    }
    return name | 1;
}

/* Which flow map is *active, and where the key's tally is: of one reading, since the agent may turn both at any moment.
 * False: never, but the verifier does not know. */
INLINE u32 tally_at(struct tally_at *at, struct control *c, struct flow_key *k, u32 *active) {
    u64 turn = *(volatile u64 *)&c->first_place;
    u32 first = turn, places = turn >> 32;
    *active = first != 0;
    at->name = name_tally(c, k);
    at->index = first + ((at->name >> 32) * places >> 32);
    at->place = MAP_GET(tallies, &at->index);
    return at->place != 0;
}

/* One branch: the verifier follows each. */
INLINE int is_tally(struct tally *t, u64 name, u32 dir) {
    u64 differs = (t->name ^ name) | (t->ready[dir & 1] ^ 1) | (t->counts[dir & 1] & TALLY_FULL);
    return !differs;
}

/* The flow's tally, where this direction's packets need no more than to be counted; else 0. */
INLINE struct tally *find_tally(struct tally_at *at, u32 dir) {
    struct tally *ways = at->place->ways;
    if (is_tally(&ways[0], at->name, dir)) return &ways[0];
    return is_tally(&ways[1], at->name, dir) ? &ways[1] : 0;
}

INLINE void tally(struct tally *t, u32 dir, u64 packets, u64 bytes, u8 tcp_flags, u64 tick) {
    __sync_fetch_and_add(&t->counts[dir & 1], packets << TALLY_SHIFT | bytes);
    t->tcp_flags[dir & 1] |= tcp_flags;
    u32 last = tick >> TALLY_TIME;
    if (tick && (int)(last - t->last) > 0) t->last = last;
}

/* Among the flows of a place, and among the CPUs that see the flow: who fails tries again with its next packet. */
INLINE void keep_tally(struct flow *f, struct tally_at *at) {
    u32 way = at->place->ways[0].name != 0;
    asm volatile("" : "+r"(way));
    way &= TALLY_WAYS - 1;
    struct tally *t = &at->place->ways[way];
    if (*(volatile u64 *)&t->name || !CLAIM(&t->name, 0, at->name)) return;
    if (CLAIM(&f->tally, 0, at->index * TALLY_WAYS + way + 1))
        t->last = f->last_ns >> TALLY_TIME; /* of 32 bits: 24 days after boot 0 would be later */
    else
        __sync_fetch_and_add(&t->name, -at->name);
}

/* After a packet that was looked at. `edges`: it changed what the next ones mean, of either direction; `settled`: no more
 * is to be known of this one. */
INLINE void set_ready(struct flow *f, struct tally_at *at, u32 dir, u32 edges, u32 settled) {
    if (!f->tally && f->packets[dir & 1] > TALLY_AFTER) keep_tally(f, at);
    if (!f->tally) return;
    struct tally *t = &at->place->ways[(f->tally - 1) & (TALLY_WAYS - 1)];
    /* what two CPUs claim at once is neither's for a moment */
    if (t->name != at->name) return;
    if (edges)
        t->ready[0] = t->ready[1] = 0;
    else if (settled)
        t->ready[dir & 1] = 1;
}
