/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* Who holds a socket. Written in the process itself; read where its packets pass, and by user space. */
#pragma once
#include "dialect.h"
#include "records.h"

#define OWNERS 65536
MAP(MT_LRU_HASH, owners, u64, struct owner, OWNERS)

/* On a socket that was bound: its owner. The kernel copies it to the sockets that a listener accepts, which have
 * cookies of their own and are made in whatever the CPU was doing. */
SOCKET_MAP(listeners, struct owner)

/* A TCP connect() that has not sent anything yet. */
struct attempt {
    u64 dst[2];
    u16 port; /* host order */
    u16 family; /* 4 or 6 */
    u32 pid;
};

/* By cookie; deleted once the connection has its SYN. What is left when the socket is released never had a route: none
 * stays, and each connection makes one, which is why this is no LRU map. */
MAP(MT_HASH, attempts, u64, struct attempt, 4096)
