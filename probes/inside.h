/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The packet in a packet: what a tunnel carries, and what an ICMP error quotes. One level deep. */
#pragma once
#include "maps.h"
#include "openers.h"
#include "conns.h"
#include "parse.h"

/* A packet and the one in it, in a map: what the verifier knew of the one is forgotten there, so that it does not go
 * through the other once for each way to get to it. */
struct nested {
    struct packet out, in;
};

MAP(MT_PERCPU_ARRAY, nested, u32, struct nested, 1)

#define PORT_VXLAN 4789
#define PORT_VXLAN_LINUX 8472 /* the kernel's own default, older than the standard */
#define PORT_GENEVE 6081
#define VXLAN_HAS_ID 0x08
#define VXLAN_HAS_POLICY 0x80
#define GENEVE_CONTROL 0x80
#define GRE_CHECKSUM 0x80
#define GRE_ROUTING 0x40
#define GRE_KEY 0x20
#define GRE_SEQUENCE 0x10

#define QUOTE 0xff /* in place of a tunnel: an ICMP error */

/* What may be in a packet: TUNNEL_*, QUOTE or 0. All fragments count as what is outside: the later ones have nothing of
 * what is inside. */
INLINE u8 kind_inside(struct packet *p) {
    if (p->proto == PROTO_TCP || p->part) return 0;
    if (p->proto == PROTO_UDP) {
        if (p->dport == PORT_VXLAN || p->dport == PORT_VXLAN_LINUX) return TUNNEL_VXLAN;
        return p->dport == PORT_GENEVE ? TUNNEL_GENEVE : 0;
    }
    /* unreachable, (ICMPv6:) packet too big, time exceeded, parameter problem */
    u8 type = p->icmp >> 8;
    if (p->proto == PROTO_ICMP) return type == 3 || type == 11 || type == 12 ? QUOTE : 0;
    if (p->proto == PROTO_ICMPV6) return type >= 1 && type <= 4 ? QUOTE : 0;
    if (p->proto == PROTO_IPV4 || p->proto == PROTO_IPV6) return TUNNEL_IPIP;
    return p->proto == PROTO_GRE ? TUNNEL_GRE : 0;
}

/* Reads the tunnel's own header at *off; *off becomes where the packet in it begins, *type its Ethernet type. 0 or an
 * error. Strict as the kernel is: what has unknown flags, or is no data, is something else on that port. */
INLINE int open_tunnel(struct frame *frame, struct packet *p, u8 kind, u32 *off, u16 *type) {
    u64 words;
    u8 *h = (u8 *)&words;
    if (kind == TUNNEL_IPIP) {
        *type = p->proto == PROTO_IPV4 ? ETH_IPV4 : ETH_IPV6;
        return 0;
    }
    if (kind == TUNNEL_GRE) {
        if (load(frame, *off, h, 4)) return -1;
        /* the lower four bits of the first byte, and the second one, are its version and flags nobody uses */
        if (h[0] & (GRE_ROUTING | 0x0f) || h[1]) return -1;
        *type = (u16)h[2] << 8 | h[3];
        *off += 4;
        if (h[0] & GRE_CHECKSUM) *off += 4;
        if (h[0] & GRE_KEY) {
            u32 word;
            u8 *key = (u8 *)&word;
            if (load(frame, *off, key, 4)) return -1;
            p->tunnel_id = (u32)key[0] << 24 | (u32)key[1] << 16 | (u32)key[2] << 8 | key[3];
            *off += 4;
        }
        if (h[0] & GRE_SEQUENCE) *off += 4;
        return 0;
    }
    if (load(frame, *off, h, 8)) return -1;
    *off += 8;
    p->tunnel_id = (u32)h[4] << 16 | (u32)h[5] << 8 | h[6];
    if (kind == TUNNEL_VXLAN) {
        if ((h[0] & ~VXLAN_HAS_POLICY) != VXLAN_HAS_ID || h[7]) return -1;
        if (!(h[0] & VXLAN_HAS_POLICY) && (h[1] || h[2] || h[3])) return -1;
        *type = ETH_BRIDGED;
        return 0;
    }
    /* Geneve: version 0, options in words */
    if (h[0] >> 6 || h[1] & GENEVE_CONTROL) return -1;
    *off += (h[0] & 0x3f) * 4;
    *type = (u16)h[2] << 8 | h[3];
    return 0;
}

/* Reads the packet in p; PARSE_OK where there is one that is IP. */
INLINE int parse_inside(struct frame *frame, struct packet *p, u8 kind, struct packet *in) {
    u32 off = p->headers;
    u16 type = p->proto == PROTO_ICMP ? ETH_IPV4 : ETH_IPV6;
    in->quoted = kind == QUOTE;
    if (kind != QUOTE && open_tunnel(frame, p, kind, &off, &type)) return PARSE_BROKEN;
    if (type == ETH_BRIDGED) {
        u16 word;
        u8 *h = (u8 *)&word;
        if (load(frame, off + ETH_HEADER - 2, h, 2)) return PARSE_BROKEN;
        type = (u16)h[0] << 8 | h[1];
        off += ETH_HEADER;
    }
    return parse(frame, in, off, type);
}

/* An event to fill in: the stack has no room for one. Until the next one on this CPU, or 0. */
MAP(MT_PERCPU_ARRAY, told, u32, struct event, 1)
INLINE struct event *blank_event(void) {
    u32 zero = 0;
    struct event *e = MAP_GET(told, &zero);
    if (e) __builtin_memset(e, 0, sizeof(*e));
    return e;
}

/* What an ICMP error means to a connect(): 0 where nothing. */
INLINE u8 icmp_errno(struct packet *p) {
    u32 type = p->icmp >> 8, code = p->icmp & 0xff;
    u32 unreachable = p->proto == PROTO_ICMP ? 3 : 1, expired = p->proto == PROTO_ICMP ? 11 : 3;
    if (type == unreachable && code == (p->proto == PROTO_ICMP ? 3 : 4)) return ECONNREFUSED;
    if (p->proto == PROTO_ICMP && type == 3 && code == 4) return 0; /* too big */
    return type == unreachable || type == expired ? EHOSTUNREACH : 0;
}

/* `told` is the packet that an ICMP error quotes: of its flow, which the error's own may be on its way back from. */
INLINE void emit_error(struct __sk_buff *skb, struct packet *p, struct packet *told, u32 egress) {
    /* an error goes to who sent the packet; what is cut short before its ports tells of no flow */
    if (told->cut || told->src[0] != p->dst[0] || told->src[1] != p->dst[1]) return;
    struct event *e = blank_event();
    if (!e) return;
    u32 dir = set_key(&e->key, told);
    e->version = RECORD_VERSION;
    e->kind = KIND_ICMP_ERROR;
    e->direction = dir;
    e->initiator = known_initiator(&e->key, dir);
    note_error(&e->key, icmp_errno(p));
    e->key.vlan = p->vlan;
    e->key.ifindex = skb->ifindex;
    e->key.egress = skb->ifindex == LOOPBACK_IFINDEX ? 1 : !egress ^ dir;
    e->time_ns = bpf_ktime_get_ns();
    e->reason = p->icmp;
    e->cgroup[0] = p->src[0], e->cgroup[1] = p->src[1];
    u64 at = conn_at(&e->key, hash_ends(&e->key));
    struct conn *known = find_conn(&at, e->time_ns);
    if (known) e->cookie[0] = known->cookie[0], e->cookie[1] = known->cookie[1];
    e->length = skb->len;
    tell_limited(skb, e);
}

/* Makes p what a tunnel carries, where it is one; tells of an ICMP error. PARSE_ARP: that is what it carries. Else
 * PARSE_OK: something counts, be it the packet outside. */
INLINE int look_inside(struct __sk_buff *skb, struct packet *p, u8 kind, u32 egress) {
    struct frame frame = {.skb = skb};
    u32 zero = 0;
    struct nested *n = MAP_GET(nested, &zero);
    if (!n) return PARSE_OK;
    struct packet *out = &n->out, *in = &n->in;
    *out = *p;
    __builtin_memset(in, 0, sizeof(*in));
    int parsed = parse_inside(&frame, out, kind, in);
    if (kind == QUOTE) {
        if (parsed == PARSE_OK) emit_error(skb, out, in, egress);
        return PARSE_OK;
    }
    if (parsed != PARSE_OK) return parsed == PARSE_ARP ? PARSE_ARP : PARSE_OK;
    in->tunnel = kind;
    in->tunnel_id = out->tunnel_id;
    in->vlan = out->vlan;
    *p = *in;
    return PARSE_OK;
}

/* Of a flow whose first packet look_inside() has found in a tunnel: the tunnel's ends. */
INLINE void set_tunnel_ends(struct flow *f, u32 dir) {
    u32 zero = 0;
    struct nested *n = MAP_GET(nested, &zero);
    if (!n) return;
    u64 *a = f->tunnel_ends, *b = f->tunnel_ends + 2;
    if (dir) a = b, b = f->tunnel_ends;
    a[0] = n->out.src[0], a[1] = n->out.src[1];
    b[0] = n->out.dst[0], b[1] = n->out.dst[1];
}
