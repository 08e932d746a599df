/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Which process holds a socket: noted when it makes, binds or connects one, in that process. */
#include "dialect.h"
#include "records.h"
#include "maps.h"
#include "packet.h"
#include "owners.h"
#include "process.h"

LICENSED

#define TCP_CLOSE 7
#define TCP_LISTEN 10

INLINE u32 current_netns(void) {
    void *proxy = 0, *net = 0;
    u32 inode = 0;
    KREAD(&proxy, (void *)bpf_get_current_task(), task_struct, nsproxy);
    KREAD(&net, proxy, nsproxy, net_ns);
    void *ns = KADDR(net, net, ns);
    KREAD(&inode, ns, ns_common, inum);
    return inode;
}

/* Every path returns 1: anything else would refuse the socket. */
PROGRAM("cgroup/sock_create") int owner_sock_create(struct bpf_sock *ctx) {
    remember(bpf_get_socket_cookie(ctx));
    return 1;
}

INLINE void remember_listener(struct bpf_sock *ctx) {
    struct owner o = {};
    describe(&o);
    o.inherited = 1;
    if (ctx->protocol == PROTO_TCP) SOCKET_NEW(listeners, ctx, &o);
}

PROGRAM("cgroup/post_bind4") int owner_post_bind4(struct bpf_sock *ctx) {
    remember_listener(ctx);
    return 1;
}

PROGRAM("cgroup/post_bind6") int owner_post_bind6(struct bpf_sock *ctx) {
    remember_listener(ctx);
    return 1;
}

INLINE void attempt(struct bpf_sock_addr *ctx, u64 cookie, struct attempt *a) {
    if (ctx->protocol != PROTO_TCP) return;
    a->port = BE16((u16)ctx->user_port);
    a->pid = bpf_get_current_pid_tgid() >> 32;
    MAP_PUT(attempts, &cookie, a);
}

PROGRAM("cgroup/connect4") int owner_connect4(struct bpf_sock_addr *ctx) {
    u64 cookie = bpf_get_socket_cookie(ctx);
    struct attempt a = {.family = 4};
    set_ipv4(a.dst, ctx->user_ip4);
    remember(cookie);
    attempt(ctx, cookie, &a);
    return 1;
}

PROGRAM("cgroup/connect6") int owner_connect6(struct bpf_sock_addr *ctx) {
    u64 cookie = bpf_get_socket_cookie(ctx);
    struct attempt a = {};
    u32 *words = (u32 *)a.dst;
    words[0] = ctx->user_ip6[0], words[1] = ctx->user_ip6[1];
    words[2] = ctx->user_ip6[2], words[3] = ctx->user_ip6[3];
    a.family = !a.dst[0] && (u32)a.dst[1] == 0xffff0000 ? 4 : 6;
    remember(cookie);
    attempt(ctx, cookie, &a);
    return 1;
}

/* Tells who held an accepted socket that nobody had time to look for, where it is not who listens. And a connect()
 * that found no route leaves no other trace: no packet, no change of state. Such a socket may be made to listen; all
 * others that are released in another state have no attempt, and most connections are. */
PROGRAM("cgroup/sock_release") int owner_sock_release(struct bpf_sock *ctx) {
    if (ctx->protocol != PROTO_TCP) return 1;
    u64 cookie = bpf_get_socket_cookie(ctx);
    struct owner *listener = SOCKET_GET(listeners, ctx); /* what an accepted socket inherited */
    if (listener && listener->pid != bpf_get_current_pid_tgid() >> 32) remember_holder(cookie);
    if (ctx->state != TCP_CLOSE && ctx->state != TCP_LISTEN) return 1;
    struct attempt *a = MAP_GET(attempts, &cookie);
    if (!a) return 1;
    struct packet p = {};
    struct event e = {};
    p.dst[0] = a->dst[0], p.dst[1] = a->dst[1];
    p.dport = a->port;
    p.family = a->family;
    p.proto = PROTO_TCP;
    if (p.family == 4) set_ipv4(p.src, 0); /* no source was chosen: the route would have said which */
    u32 dir = set_key(&e.key, &p);
    e.version = RECORD_VERSION;
    e.kind = KIND_FAIL;
    e.time_ns = bpf_ktime_get_ns();
    e.direction = e.initiator = dir;
    e.reason = ENETUNREACH;
    e.netns = current_netns();
    e.pid = a->pid;
    if (dir)
        e.cookie[1] = cookie;
    else
        e.cookie[0] = cookie;
    MAP_DEL(attempts, &cookie);
    tell_limited(ctx, &e);
    return 1;
}
