/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Ethernet, one VLAN tag, IPv4 with options, IPv6 with extension headers, fragments; TCP, UDP, SCTP, ICMP. */
#pragma once
#include "packet.h"

#define PARSE_OK 0
#define PARSE_NOT_IP 1
#define PARSE_BROKEN 2

#define ETH_HEADER 14
#define VLAN_TAG 4
#define IPV6_HEADER 40
#define EXTENSION_HEADERS 6 /* more than RFC 8200 recommends; a packet with still more is counted as unparsed */

/* Copies n (a constant) bytes at `off`: straight from the packet where they lie in its linear part. 0 or an error. */
INLINE int load(struct __sk_buff *skb, u32 off, void *to, u32 n) {
    void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
    if (off < 256 && data + off + n <= end) {
        __builtin_memcpy(to, data + off, n);
        return 0;
    }
    return bpf_skb_load_bytes(skb, off, to, n);
}

/* Reads the transport header at `off`. A packet cut short there keeps its addresses and has no ports. */
INLINE void parse_transport(struct __sk_buff *skb, struct packet *p, u32 off) {
    u8 h[16];
    p->headers = off;
    if (p->proto == PROTO_TCP) {
        if (load(skb, off, h, 16)) return;
        p->sport = (u16)h[0] << 8 | h[1];
        p->dport = (u16)h[2] << 8 | h[3];
        p->tcp_flags = h[13];
        p->zero_window = !h[14] && !h[15] && !(h[13] & (TCP_SYN | TCP_RST));
        p->headers = off + (h[12] >> 4) * 4;
    } else if (p->proto == PROTO_UDP || p->proto == PROTO_SCTP) {
        if (load(skb, off, h, 4)) return;
        p->sport = (u16)h[0] << 8 | h[1];
        p->dport = (u16)h[2] << 8 | h[3];
        p->headers = off + (p->proto == PROTO_UDP ? 8 : 12);
    } else if (p->proto == PROTO_ICMP || p->proto == PROTO_ICMPV6) {
        if (load(skb, off, h, 2)) return;
        u16 identifier = 0;
        if (!load(skb, off + 4, h + 4, 2)) identifier = (u16)h[4] << 8 | h[5];
        set_icmp(p, h[0], h[1], identifier);
    }
}

INLINE int parse_ipv4(struct __sk_buff *skb, struct packet *p, u32 off) {
    u32 words[5];
    u8 *h = (u8 *)words;
    if (load(skb, off, h, 20)) return PARSE_BROKEN;
    u32 length = (h[0] & 15) * 4;
    if (h[0] >> 4 != 4 || length < 20) return PARSE_BROKEN;
    p->family = 4;
    p->proto = h[9];
    set_ipv4(p->src, words[3]);
    set_ipv4(p->dst, words[4]);
    p->headers = off + length;
    if (h[6] & 0x1f || h[7]) return PARSE_OK; /* a later fragment has no transport header */
    parse_transport(skb, p, off + length);
    return PARSE_OK;
}

INLINE int parse_ipv6(struct __sk_buff *skb, struct packet *p, u32 off) {
    u64 words[5];
    u8 *h = (u8 *)words;
    if (load(skb, off, h, IPV6_HEADER)) return PARSE_BROKEN;
    if (h[0] >> 4 != 6) return PARSE_BROKEN;
    p->family = 6;
    p->src[0] = words[1], p->src[1] = words[2];
    p->dst[0] = words[3], p->dst[1] = words[4];
    u8 next = h[6];
    off += IPV6_HEADER;
#pragma unroll
    for (int i = 0; i < EXTENSION_HEADERS; i++) {
        /* hop-by-hop, routing, authentication, destination options; fragment is of fixed size */
        if (next != 0 && next != 43 && next != 44 && next != 51 && next != 60) break;
        u8 e[4];
        if (load(skb, off, e, 4)) {
            p->proto = next;
            p->headers = off;
            return PARSE_OK;
        }
        u32 length = next == 44 ? 8 : next == 51 ? (e[1] + 2) * 4 : (e[1] + 1) * 8;
        u32 later = next == 44 && ((u32)e[2] << 8 | (e[3] & 0xf8));
        next = e[0];
        off += length;
        if (later) {
            p->proto = next;
            p->headers = off;
            return PARSE_OK;
        }
    }
    p->proto = next;
    parse_transport(skb, p, off);
    return PARSE_OK;
}

/* Reads a frame that starts with an Ethernet header. */
INLINE int parse(struct __sk_buff *skb, struct packet *p) {
    u32 off = ETH_HEADER;
    u16 type = BE16((u16)skb->protocol);
    if (skb->vlan_present) {
        p->vlan = skb->vlan_tci & 0xfff;
    } else if (type == ETH_8021Q || type == ETH_8021AD) {
        u8 tag[4];
        if (load(skb, off, tag, 4)) return PARSE_BROKEN;
        p->vlan = ((u16)tag[0] << 8 | tag[1]) & 0xfff;
        type = (u16)tag[2] << 8 | tag[3];
        off += VLAN_TAG;
    }
    if (type == ETH_IPV4) return parse_ipv4(skb, p, off);
    if (type == ETH_IPV6) return parse_ipv6(skb, p, off);
    return PARSE_NOT_IP;
}
