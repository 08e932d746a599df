/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* VLAN tags, IPv4 with options, IPv6 with extension headers, fragments; TCP, UDP, SCTP, ICMP. */
#pragma once
#include "packet.h"
#include "fragments.h"

#define PARSE_OK 0
#define PARSE_NOT_IP 1
#define PARSE_BROKEN 2
#define PARSE_ARP 3 /* not IP either, but what a tunnel of Ethernet cannot do without */

#define ETH_HEADER 14
#define VLAN_TAGS 2 /* besides one that the kernel has taken out of the packet */
#define VLAN_TAG 4
#define VLAN_ID 0xfff
#define IPV6_HEADER 40

/* A packet, and where its linear part is: read once, since that cannot move while we look. `data` 0: not to be read
 * from there. The verifier follows an offset into it by value, all that comes then once for each; not so the helper's. */
struct frame {
    struct __sk_buff *skb;
    void *data, *end;
};

/* Where the linear part begins and ends. The context has both as 32 bits, and the compiler would move them as such: no
 * pointers then. */
INLINE void *data_of(struct __sk_buff *skb) {
    void *data = (void *)(long)skb->data;
    asm volatile("" : "+r"(data));
    return data;
}

INLINE void *end_of(struct __sk_buff *skb) {
    void *end = (void *)(long)skb->data_end;
    asm volatile("" : "+r"(end));
    return end;
}

typedef u64 __attribute__((may_alias)) any64;
typedef u32 __attribute__((may_alias)) any32;
typedef u16 __attribute__((may_alias)) any16;

/* Copies n (a constant) bytes at `off`: straight from the packet where they lie in its linear part. `to` is aligned as n
 * is. 0 or an error. By words, wherever they begin: the compiler would do it by bytes, which is a third of the headers'
 * cost. x86, arm64, ppc64 and s390 can do that; elsewhere the verifier may refuse it (HAVE_EFFICIENT_UNALIGNED_ACCESS). */
INLINE int load(struct frame *frame, u32 off, void *to, u32 n) {
    if (frame->data && off < 256 && frame->data + off + n <= frame->end) {
        void *from = frame->data + off;
        u32 step = n % 8 == 0 ? 8 : n % 4 == 0 ? 4 : 2;
#pragma unroll
        for (u32 i = 0; i < n / step; i++) {
            if (step == 8)
                ((any64 *)to)[i] = ((any64 *)from)[i];
            else if (step == 4)
                ((any32 *)to)[i] = ((any32 *)from)[i];
            else
                ((any16 *)to)[i] = ((any16 *)from)[i];
        }
        return 0;
    }
    return bpf_skb_load_bytes(frame->skb, off, to, n);
}

/* Reads the transport header at `off`. A packet cut short there keeps its addresses and has no ports. */
INLINE void parse_transport(struct frame *frame, struct packet *p, u32 off) {
    u64 words[2]; /* TCP up to its window */
    u8 *h = (u8 *)words;
    p->headers = off;
    if (p->proto == PROTO_TCP) {
        /* ICMP quotes no more than 8 bytes of it */
        u32 whole = !load(frame, off, h, 16);
        if (!whole && load(frame, off, h, 4)) goto cut;
        p->sport = (u16)h[0] << 8 | h[1];
        p->dport = (u16)h[2] << 8 | h[3];
        if (!whole) return;
        p->tcp_flags = h[13];
        p->zero_window = !h[14] && !h[15] && !(h[13] & (TCP_SYN | TCP_RST));
        p->headers = off + (h[12] >> 4) * 4;
    } else if (p->proto == PROTO_UDP || p->proto == PROTO_SCTP) {
        if (load(frame, off, h, 4)) goto cut;
        p->sport = (u16)h[0] << 8 | h[1];
        p->dport = (u16)h[2] << 8 | h[3];
        p->headers = off + (p->proto == PROTO_UDP ? 8 : 12);
    } else if (p->proto == PROTO_ICMP || p->proto == PROTO_ICMPV6) {
        if (load(frame, off, h, 2)) goto cut;
        u16 identifier = 0;
        if (!load(frame, off + 4, h + 4, 2)) identifier = (u16)h[4] << 8 | h[5];
        set_icmp(p, h[0], h[1], identifier);
        p->headers = off + 8;
    }
    return;
cut:
    p->cut = 1;
}

/* What follows the IP headers of a packet, or of one fragment of it. */
INLINE int parse_rest(struct frame *frame, struct packet *p, u32 off, u32 later, u32 more, u32 id, u8 proto) {
    if (later) {
        p->part = 1;
        p->headers = off;
        recall_fragment(p, id, proto);
        return PARSE_OK;
    }
    parse_transport(frame, p, off);
    if (more) {
        p->part = 1;
        if (!p->quoted) remember_fragment(p, id, proto);
    }
    return PARSE_OK;
}

INLINE int parse_ipv4(struct frame *frame, struct packet *p, u32 off) {
    u32 words[5];
    u8 *h = (u8 *)words;
    if (load(frame, off, h, 20)) return PARSE_BROKEN;
    u32 length = (h[0] & 15) * 4;
    if (h[0] >> 4 != 4 || length < 20) return PARSE_BROKEN;
    p->family = 4;
    p->proto = h[9];
    set_ipv4(p->src, words[3]);
    set_ipv4(p->dst, words[4]);
    return parse_rest(frame, p, off + length, h[6] & 0x1f || h[7], h[6] & 0x20, words[1] & 0xffff, p->proto);
}

INLINE int parse_ipv6(struct frame *frame, struct packet *p, u32 off) {
    u64 words[5];
    u8 *h = (u8 *)words;
    if (load(frame, off, h, IPV6_HEADER)) return PARSE_BROKEN;
    if (h[0] >> 4 != 6) return PARSE_BROKEN;
    p->family = 6;
    p->src[0] = words[1], p->src[1] = words[2];
    p->dst[0] = words[3], p->dst[1] = words[4];
    u8 next = h[6];
    u32 fragment[2] = {}; /* the fragment header, where there is one */
    u8 *f = (u8 *)fragment;
    off += IPV6_HEADER;
#pragma unroll
    for (int i = 0; i < EXTENSION_HEADERS; i++) {
        if (!is_extension(next)) break;
        /* none is shorter than 8 bytes. Not by load(): for these rare headers it would double what is to verify */
        u32 header[2];
        u8 *e = (u8 *)header;
        if (bpf_skb_load_bytes(frame->skb, off, e, 8)) {
            p->proto = next;
            p->headers = off;
            p->cut = 1;
            return PARSE_OK;
        }
        if (next == PROTO_FRAGMENT) fragment[0] = header[0], fragment[1] = header[1];
        off += extension_bytes(next, e[1]);
        next = e[0];
        if (f[2] || f[3] & 0xf8) break;
    }
    p->proto = next;
    return parse_rest(frame, p, off, f[2] || f[3] & 0xf8, f[3] & 1, fragment[1], f[0]);
}

/* Reads what begins at `off`: VLAN tags or an IP header, as the Ethernet type before it says. */
INLINE int parse(struct frame *frame, struct packet *p, u32 off, u16 type) {
#pragma unroll
    for (int i = 0; i < VLAN_TAGS; i++) {
        if (type != ETH_8021Q && type != ETH_8021AD) break;
        u32 word;
        u8 *tag = (u8 *)&word;
        if (load(frame, off, tag, 4)) return PARSE_BROKEN;
        /* the outer VLAN; id 0 is no VLAN but a mere priority */
        if (!p->vlan) p->vlan = ((u16)tag[0] << 8 | tag[1]) & VLAN_ID;
        type = (u16)tag[2] << 8 | tag[3];
        off += VLAN_TAG;
    }
    if (type == ETH_IPV4) return parse_ipv4(frame, p, off);
    if (type == ETH_IPV6) return parse_ipv6(frame, p, off);
    if (type == ETH_ARP) return PARSE_ARP;
    return type == ETH_8021Q || type == ETH_8021AD ? PARSE_BROKEN : PARSE_NOT_IP;
}
