/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* What is read off a packet, and how its two ends become a flow key. */
#pragma once
#include "dialect.h"
#include "records.h"

#define PROTO_ICMP 1
#define PROTO_IPV4 4
#define PROTO_TCP 6
#define PROTO_UDP 17
#define PROTO_IPV6 41
#define PROTO_FRAGMENT 44
#define PROTO_GRE 47
#define PROTO_ICMPV6 58
#define PROTO_SCTP 132

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4
#define TCP_ACK 16

#define LOOPBACK_IFINDEX 1 /* in every network namespace: net/core/dev.h */

#define EXTENSION_HEADERS 6 /* more than RFC 8200 recommends; one more is taken for the packet's protocol */

#define ETH_IPV4 0x0800
#define ETH_ARP 0x0806
#define ETH_BRIDGED 0x6558 /* an Ethernet frame, in a tunnel */
#define ETH_IPV6 0x86dd
#define ETH_8021Q 0x8100
#define ETH_8021AD 0x88a8

/* errno.h of every architecture that we know */
#define EACCES 13
#define EINVAL 22
#define ENETUNREACH 101
#define ETIMEDOUT 110
#define ECONNREFUSED 111
#define EHOSTDOWN 112
#define EHOSTUNREACH 113

/* What is compared lies at no multiple of 8 bytes: there the verifier would know what it was compared with, and follow all
 * that comes then once for each value. */
struct packet {
    u64 src[2], dst[2]; /* IPv4 as ::ffff:a.b.c.d */
    u16 sport, dport;
    u16 vlan, icmp;
    u32 headers; /* bytes before the payload: repeated in each GSO segment */
    u8 proto, family, tcp_flags, zero_window;
    u32 tunnel_id;
    u8 tunnel, link; /* TUNNEL_*: what it is in; bytes of its link header */
    u8 part, cut, quoted; /* it is a fragment; it has no transport header; it is what an ICMP error quotes */
};

INLINE void set_ipv4(u64 *address, u32 value) {
    u32 *words = (u32 *)address;
    words[0] = 0;
    words[1] = 0;
    words[2] = 0xffff0000; /* bytes 00 00 ff ff, little-endian */
    words[3] = value;
}

/* IPv6: hop-by-hop, routing, fragment, authentication, destination options. */
INLINE int is_extension(u8 type) {
    return type == 0 || type == 43 || type == PROTO_FRAGMENT || type == 51 || type == 60;
}

/* Bytes of such a header; `length` is its second byte. A fragment header is of fixed size. */
INLINE u32 extension_bytes(u8 type, u8 length) {
    if (type == PROTO_FRAGMENT) return 8;
    return type == 51 ? (length + 2) * 4 : (length + 1) * 8;
}

/* Whether an address stands for many: 224.0.0.0/4, 255.255.255.255, ff00::/8. */
INLINE int is_group(u64 *address, u8 family) {
    u8 *bytes = (u8 *)address;
    if (family == 4) return bytes[12] >> 4 == 14 || ((u32 *)address)[3] == 0xffffffff;
    return bytes[0] == 0xff;
}

/* ICMP: echo requests and replies share a flow (identifier as ports, the request's type); others stand alone. */
INLINE void set_icmp(struct packet *p, u8 type, u8 code, u16 identifier) {
    u8 request = p->proto == PROTO_ICMP ? 8 : 128, reply = p->proto == PROTO_ICMP ? 0 : 129;
    if (type == reply) type = request;
    p->icmp = (u16)type << 8 | code;
    if (type == request) p->sport = p->dport = identifier;
}

/* 1: a < b. Without a branch, and so below: the verifier would follow all that comes, once for each direction. */
INLINE u64 is_less(u64 a, u64 b) {
    return ((~a & b) | ((~a | b) & (a - b))) >> 63;
}

/* Fills the key from the packet's ends. Returns 0: the packet goes from a to b, 1: from b to a. */
INLINE u32 set_key(struct flow_key *k, struct packet *p) {
    u64 *a = (u64 *)k->addr_a, *b = (u64 *)k->addr_b;
    u64 differ[2] = {p->src[0] ^ p->dst[0], p->src[1] ^ p->dst[1]}, ports = p->sport ^ p->dport;
    u64 same = is_less(differ[0], 1), swapped = is_less(p->dst[1], p->src[1]);
    swapped |= is_less(differ[1], 1) & is_less(p->dport, p->sport);
    swapped = is_less(p->dst[0], p->src[0]) | (same & swapped);
    asm volatile("" : "+r"(swapped));
    u64 mask = -swapped;
    a[0] = p->src[0] ^ (differ[0] & mask), b[0] = p->dst[0] ^ (differ[0] & mask);
    a[1] = p->src[1] ^ (differ[1] & mask), b[1] = p->dst[1] ^ (differ[1] & mask);
    k->port_a = p->sport ^ (ports & mask), k->port_b = p->dport ^ (ports & mask);
    k->vlan = p->vlan;
    k->icmp = p->icmp;
    k->proto = p->proto;
    k->family = p->family;
    k->tunnel = p->tunnel;
    return swapped;
}

/* Who opened a flow whose opening was not seen? The end with the service's port was opened by the other one. */
INLINE u32 guess_initiator(struct flow_key *k, u32 sender) {
    u16 a = k->port_a, b = k->port_b;
    if (a == b) return sender;
    if (a < 1024 || b < 1024) return a < b; /* the larger port is the client's */
    if ((a >= 32768) != (b >= 32768)) return a < 32768;
    return sender;
}
