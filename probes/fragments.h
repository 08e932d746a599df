/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Only the first fragment of a packet has ports. They are kept for the later ones, which count in the same flow. One
 * that comes before its first, or after very many others, counts in a flow without ports. */
#pragma once
#include "packet.h"

#define FRAGMENT_ENTRIES 4096

struct fragment_key {
    u64 src[2], dst[2];
    u32 id;
    u8 proto, pad[3];
};

struct fragment {
    u16 sport, dport, icmp;
    u8 proto, pad;
};

MAP(MT_LRU_HASH, fragments, struct fragment_key, struct fragment, FRAGMENT_ENTRIES)

/* `proto` is what the fragment's own header says; behind it IPv6 may have more headers in the first fragment. */
INLINE void set_fragment_key(struct fragment_key *k, struct packet *p, u32 id, u8 proto) {
    k->src[0] = p->src[0], k->src[1] = p->src[1];
    k->dst[0] = p->dst[0], k->dst[1] = p->dst[1];
    k->id = id;
    k->proto = proto;
}

INLINE void remember_fragment(struct packet *p, u32 id, u8 proto) {
    struct fragment_key k = {};
    struct fragment f = {.sport = p->sport, .dport = p->dport, .icmp = p->icmp, .proto = p->proto};
    set_fragment_key(&k, p, id, proto);
    MAP_PUT(fragments, &k, &f);
}

INLINE void recall_fragment(struct packet *p, u32 id, u8 proto) {
    struct fragment_key k = {};
    set_fragment_key(&k, p, id, proto);
    struct fragment *f = MAP_GET(fragments, &k);
    if (!f) return;
    p->sport = f->sport, p->dport = f->dport;
    p->icmp = f->icmp;
    p->proto = f->proto;
}
