/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* How a packet is read, and counted where its flow is known. Most are plain TCP or UDP and need no more: what they run lies
 * together and stays in registers, since at an interface code and data come out of cold caches. */
#pragma once
#include "dialect.h"
#include "records.h"
#include "packet.h"
#include "parse.h"
#include "inside.h"
#include "tallies.h"

#define TRANSPORT_BYTES 16 /* of the transport header, TCP up to its window: what is shorter is not plain */

#define READ_NOT 0
#define READ_COUNTED 1 /* nothing is left to do */
#define READ_OK 2

/* A packet that was read, of which more is to be known. */
struct seen {
    struct flow_key k;
    struct tally_at at;
    u64 packets, bytes; /* on the wire */
    u32 pad; /* what is compared lies at no multiple of 8 bytes: see struct packet */
    u16 dir, active; /* 1: from b to a; the flow map of this run */
    struct packet p;
};

/* What changes more than its flow's counts. */
INLINE u32 edges_of(struct packet *p) {
    return p->tcp_flags & (TCP_SYN | TCP_FIN | TCP_RST);
}

/* Counts the packet, or has it seen: p, k and all that follows from them. */
INLINE int count_known(struct __sk_buff *skb, struct control *c, struct packet *p, u32 egress, struct seen *s) {
    struct flow_key k;
    /* In its place at once: what is copied between two lines of memory keeps the processor from asking for both. */
    struct tally_at *at = &s->at;
    u32 active, dir = set_key(&k, p);
    k.ifindex = skb->ifindex;
    /* Loopback is watched on its way out only: there both directions leave. */
    k.egress = k.ifindex == LOOPBACK_IFINDEX ? 1 : egress ^ dir;
    if (!tally_at(at, c, &k, &active)) return READ_NOT;
    u64 bytes = skb->len, packets = 1;
    if (skb->gso_size && bytes > p->headers) {
        packets = (bytes - p->headers + skb->gso_size - 1) / skb->gso_size;
        bytes += (packets - 1) * p->headers;
    }
    struct tally *t = find_tally(at, dir);
    if (t && !edges_of(p) && !p->zero_window) {
        tally(t, dir, packets, bytes, p->tcp_flags, tick_now(c));
        return READ_COUNTED;
    }
    s->k = k;
    s->p = *p;
    s->packets = packets, s->bytes = bytes;
    s->dir = dir, s->active = active;
    return READ_OK;
}

/* TCP, or UDP that is no tunnel. Of its header at `off` the first word, and TCP's fourth. */
INLINE int is_plain(struct packet *p, u32 ports, u32 rest, u32 off) {
    p->sport = BE16((u16)ports);
    p->dport = BE16((u16)(ports >> 16));
    p->headers = off + 8;
    if (p->proto == PROTO_UDP) return !kind_inside(p);
    p->tcp_flags = rest >> 8;
    p->zero_window = !(rest >> 16) && !(p->tcp_flags & (TCP_SYN | TCP_RST));
    p->headers = off + (rest >> 2 & 60);
    return p->proto == PROTO_TCP;
}

/* IPv4 without options that is no fragment. */
INLINE int is_plain_ipv4(struct __sk_buff *skb, struct packet *p, u32 link) {
    any32 *words = data_of(skb) + link;
    if ((void *)words + 20 + TRANSPORT_BYTES > end_of(skb)) return 0;
    if ((words[0] & 0xff) != 0x45 || words[1] & 0xff3f0000) return 0;
    p->family = 4;
    p->proto = words[2] >> 8;
    set_ipv4(p->src, words[3]);
    set_ipv4(p->dst, words[4]);
    return is_plain(p, words[5], words[8], link + 20);
}

/* IPv6 without extension headers. */
INLINE int is_plain_ipv6(struct __sk_buff *skb, struct packet *p, u32 link) {
    any32 *words = data_of(skb) + link;
    any64 *ends = (any64 *)(words + 2);
    if ((void *)words + IPV6_HEADER + TRANSPORT_BYTES > end_of(skb)) return 0;
    if ((words[0] & 0xf0) != 0x60) return 0;
    p->family = 6;
    p->proto = words[1] >> 16;
    p->src[0] = ends[0], p->src[1] = ends[1];
    p->dst[0] = ends[2], p->dst[1] = ends[3];
    return is_plain(p, words[10], words[13], link + IPV6_HEADER);
}

/* Any packet, whatever it is in. */
INLINE int read_any(struct __sk_buff *skb, struct control *c, u32 egress, u32 link, struct seen *s) {
    struct packet *p = &s->p;
    struct frame frame = {.skb = skb, .data = data_of(skb), .end = end_of(skb)};
    __builtin_memset(p, 0, sizeof(*p));
    p->link = link;
    if (skb->vlan_present) p->vlan = skb->vlan_tci & VLAN_ID;
    int parsed = parse(&frame, p, link, BE16((u16)skb->protocol));
    /* From here on p is in memory: in registers the verifier would know each header by its value, and follow all that
     * comes now once for each. */
    asm volatile("" : : "r"(p) : "memory");
    u8 kind = parsed == PARSE_OK ? kind_inside(p) : 0;
    if (kind) parsed = look_inside(skb, p, kind, egress);
    if (parsed == PARSE_OK) return count_known(skb, c, p, egress, s);
    count(parsed == PARSE_BROKEN ? STAT_UNPARSED : STAT_NOT_IP, 1, skb->len);
    return READ_NOT;
}

/* `link`: bytes of link header before what skb->protocol says. */
INLINE int read_packet(struct __sk_buff *skb, struct control *c, u32 egress, u32 link, struct seen *s) {
    struct packet p = {.link = link};
    if (!skb->vlan_present) {
        if (skb->protocol == BE16(ETH_IPV4) && is_plain_ipv4(skb, &p, link)) return count_known(skb, c, &p, egress, s);
        if (skb->protocol == BE16(ETH_IPV6) && is_plain_ipv6(skb, &p, link)) return count_known(skb, c, &p, egress, s);
    }
    return read_any(skb, c, egress, link, s);
}
