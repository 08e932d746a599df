/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Ends of a kernel socket or of a kernel packet, by reads of kernel structs (offsets from the running kernel's BTF). */
#pragma once
#include "dialect.h"
#include "packet.h"

#define AF_INET 2
#define AF_INET6 10

#ifndef FO_BCC
#include <linux/in6.h>
/* Only the members we touch: libbpf finds their real offsets. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
typedef struct {
    long long counter;
} atomic64_t;
struct ns_common {
    unsigned int inum;
};
struct net {
    struct ns_common ns;
};
typedef struct {
    struct net *net;
} possible_net_t;
struct sock_common {
    u32 skc_daddr;
    u32 skc_rcv_saddr;
    u16 skc_dport;
    u16 skc_num;
    unsigned short skc_family;
    possible_net_t skc_net;
    struct in6_addr skc_v6_daddr;
    struct in6_addr skc_v6_rcv_saddr;
    atomic64_t skc_cookie;
};
struct sock {
    int sk_err;
    u16 sk_protocol;
};
struct inet_sock {
    u16 inet_sport;
};
struct net_device {
    int ifindex;
    possible_net_t nd_net;
};
struct tcp_skb_cb {
    u16 tcp_gso_segs;
};
struct dst_entry {
    short error;
};
struct sk_buff {
    struct net_device *dev;
    struct sock *sk;
    char cb[48];
    unsigned long _skb_refdst;
    unsigned char *head, *data;
    u16 network_header;
    u16 protocol;
    unsigned int len;
};
#pragma clang attribute pop
#endif

INLINE u32 netns_inode(void *net) {
    u32 inode = 0;
    if (!net) return 0;
    void *ns = KADDR(net, net, ns);
    KREAD(&inode, ns, ns_common, inum);
    return inode;
}

/* Of a packet that the kernel holds: the namespace of its device, or of its socket; 0 where it has neither. *ifindex
 * becomes the device's, which counts in that namespace. */
INLINE u32 packet_netns(void *skb, u32 *ifindex) {
    void *dev = 0, *sk = 0, *net = 0;
    KREAD(&dev, skb, sk_buff, dev);
    /* UDP keeps something else in the place of dev while the packet waits in a socket: no kernel address */
    if ((u64)dev >> 63) {
        KREAD(&net, dev, net_device, nd_net);
        KREAD(ifindex, dev, net_device, ifindex);
    } else {
        KREAD(&sk, skb, sk_buff, sk);
        if (sk) KREAD(&net, sk, sock_common, skc_net);
    }
    return netns_inode(net);
}

/* Segments that a packet in TCP's send queue makes. */
INLINE u32 queued_segments(void *skb) {
    u16 segments = 0;
    void *cb = KADDR(skb, sk_buff, cb);
    KREAD(&segments, cb, tcp_skb_cb, tcp_gso_segs);
    return segments ? segments : 1;
}

/* src is the local end, dst the remote one. Returns 0 where the socket is not IP. */
INLINE int socket_ends(void *sk, struct packet *p, u64 *cookie, u32 *netns) {
    u16 family = 0, port = 0;
    u32 v4 = 0;
    void *net = 0;
    KREAD(&family, sk, sock_common, skc_family);
    if (family == AF_INET) {
        KREAD(&v4, sk, sock_common, skc_rcv_saddr);
        set_ipv4(p->src, v4);
        KREAD(&v4, sk, sock_common, skc_daddr);
        set_ipv4(p->dst, v4);
        p->family = 4;
    } else if (family == AF_INET6) {
        KREAD(&p->src, sk, sock_common, skc_v6_rcv_saddr);
        KREAD(&p->dst, sk, sock_common, skc_v6_daddr);
        /* an IPv4 connection of an IPv6 socket */
        p->family = !p->dst[0] && (u32)p->dst[1] == 0xffff0000 ? 4 : 6;
    } else {
        return 0;
    }
    KREAD(&port, sk, sock_common, skc_num);
    p->sport = port;
    if (!port) { /* a closing socket has given its port back; inet_sport still tells it */
        KREAD(&port, sk, inet_sock, inet_sport);
        p->sport = BE16(port);
    }
    KREAD(&port, sk, sock_common, skc_dport);
    p->dport = BE16(port);
    p->proto = PROTO_TCP;
    KREAD(cookie, sk, sock_common, skc_cookie);
    KREAD(&net, sk, sock_common, skc_net);
    *netns = netns_inode(net);
    return 1;
}

INLINE void kernel_transport(void *at, struct packet *p) {
    u8 h[8] = {};
    if (bpf_probe_read_kernel(h, 8, at)) return;
    if (p->proto == PROTO_TCP || p->proto == PROTO_UDP || p->proto == PROTO_SCTP) {
        p->sport = (u16)h[0] << 8 | h[1];
        p->dport = (u16)h[2] << 8 | h[3];
        u8 flags = 0;
        if (p->proto == PROTO_TCP && !bpf_probe_read_kernel(&flags, 1, at + 13)) p->tcp_flags = flags;
    } else if (p->proto == PROTO_ICMP || p->proto == PROTO_ICMPV6) {
        set_icmp(p, h[0], h[1], (u16)h[4] << 8 | h[5]);
    }
}

/* The ends of a packet that the kernel holds, from its network header. Returns 0 where it is not IP. */
INLINE int packet_ends(void *skb, struct packet *p) {
    unsigned char *head = 0;
    u16 network = 0, type = 0;
    u32 w[10] = {};
    u8 *h = (u8 *)w;
    KREAD(&head, skb, sk_buff, head);
    KREAD(&network, skb, sk_buff, network_header);
    KREAD(&type, skb, sk_buff, protocol);
    type = BE16(type);
    void *at = head + network;
    if (!head || network == 0xffff) return 0;
    if (type == ETH_IPV4) {
        if (bpf_probe_read_kernel(h, 20, at) || h[0] >> 4 != 4) return 0;
        p->family = 4;
        p->proto = h[9];
        set_ipv4(p->src, w[3]);
        set_ipv4(p->dst, w[4]);
        if (!(h[6] & 0x1f || h[7])) kernel_transport(at + (h[0] & 15) * 4, p);
        return 1;
    }
    if (type == ETH_IPV6) {
        if (bpf_probe_read_kernel(h, 40, at) || h[0] >> 4 != 6) return 0;
        u8 next = h[6], e[4];
        u32 later = 0; /* a fragment that is not the first: without ports */
        p->family = 6;
        __builtin_memcpy(p->src, h + 8, 16);
        __builtin_memcpy(p->dst, h + 24, 16);
        at += 40;
        for (int i = 0; i < EXTENSION_HEADERS; i++) {
            if (later || !is_extension(next) || bpf_probe_read_kernel(e, 4, at)) break;
            if (next == PROTO_FRAGMENT) later = e[2] || e[3] & 0xf8;
            at += extension_bytes(next, e[1]);
            next = e[0];
        }
        p->proto = next;
        if (!later) kernel_transport(at, p);
        return 1;
    }
    return 0;
}
