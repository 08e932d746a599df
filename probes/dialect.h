/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* One source, two compilers: clang + libbpf (CO-RE), or BCC on the node (-DFO_BCC). Only what differs is here.
 *
 * BCC refuses map calls inside macros, so its loader rewrites MAP_*, SOCKET_GET/NEW and PERF_OUT by regular
 * expressions before it compiles. It has no kernel headers either: KREAD and KADDR take the member's offset from
 * OFF_<struct>_<member>, which the loader computes from the running kernel's BTF, as it does HAS_RETRANSMIT_ERROR. */
#pragma once

#ifdef FO_BCC

#include <uapi/linux/bpf.h>
#include <uapi/linux/pkt_cls.h>
#define PROGRAM(section)
#define LICENSED
#define MAP(kind, name, K, V, n) BPF_TABLE(kind, K, V, name, n);
#define SHARED_ARRAY(name, V, n) BPF_F_TABLE("array", u32, V, name, n, BPF_F_MMAPABLE);
#define PERF_MAP(name) BPF_PERF_OUTPUT(name);
/* BCC's own BPF_SK_STORAGE with the flag: whoever is accepted inherits it. */
#define SOCKET_MAP(name, V) \
    struct name##_table_t { \
        int key; \
        V leaf; \
        void *(*sk_storage_get)(void *, void *, int); \
        int (*sk_storage_delete)(void *); \
        u32 flags; \
    }; \
    __attribute__((section("maps/sk_storage"))) struct name##_table_t name = {.flags = \
                                                                                  BPF_F_NO_PREALLOC | BPF_F_CLONE}; \
    BPF_ANNOTATE_KV_PAIR(name, int, V);
#define MT_HASH "hash"
#define MT_LRU_HASH "lru_hash"
#define MT_ARRAY "array"
#define MT_PERCPU_ARRAY "percpu_array"
#define INLINE static inline __attribute__((always_inline))
#define KADDR(ptr, type, member) ((void *)(ptr) + OFF_##type##_##member)
/* Entries of a map whose size the loader may have changed. */
#define ENTRIES(map, n) ((u64)(n))

#else

#include <linux/bpf.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
#define PROGRAM(section) SEC(section)
#define LICENSED char LICENSE[] SEC("license") = "GPL";
#define MAP(kind, name, K, V, n) \
    struct { \
        __uint(type, kind); \
        __type(key, K); \
        __type(value, V); \
        __uint(max_entries, n); \
    } name SEC(".maps");
/* An array that user space reads and writes in place. */
#define SHARED_ARRAY(name, V, n) \
    struct { \
        __uint(type, BPF_MAP_TYPE_ARRAY); \
        __uint(map_flags, BPF_F_MMAPABLE); \
        __type(key, u32); \
        __type(value, V); \
        __uint(max_entries, n); \
    } name SEC(".maps");
#define PERF_MAP(name) \
    struct { \
        __uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY); \
        __uint(key_size, 4); \
        __uint(value_size, 4); \
    } name SEC(".maps");
#define SOCKET_MAP(name, V) \
    struct { \
        __uint(type, BPF_MAP_TYPE_SK_STORAGE); \
        __uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE); \
        __type(key, int); \
        __type(value, V); \
    } name SEC(".maps");
#define MT_HASH BPF_MAP_TYPE_HASH
#define MT_LRU_HASH BPF_MAP_TYPE_LRU_HASH
#define MT_ARRAY BPF_MAP_TYPE_ARRAY
#define MT_PERCPU_ARRAY BPF_MAP_TYPE_PERCPU_ARRAY
#define MAP_GET(m, k) bpf_map_lookup_elem(&m, k)
#define MAP_PUT(m, k, v) bpf_map_update_elem(&m, k, v, BPF_ANY)
#define MAP_NEW(m, k, v) bpf_map_update_elem(&m, k, v, BPF_NOEXIST)
#define MAP_DEL(m, k) bpf_map_delete_elem(&m, k)
#define SOCKET_GET(m, sk) bpf_sk_storage_get(&m, sk, 0, 0)
#define SOCKET_NEW(m, sk, v) bpf_sk_storage_get(&m, sk, v, BPF_SK_STORAGE_GET_F_CREATE)
#define PERF_OUT(m, ctx, p, n) bpf_perf_event_output(ctx, &m, BPF_F_CURRENT_CPU, p, n)
#define INLINE static __always_inline
struct bpf_map {
    u32 max_entries;
} __attribute__((preserve_access_index));
#define ENTRIES(map, n) ((u64)((struct bpf_map *)&map)->max_entries)
struct trace_event_raw_tcp_retransmit_skb {
    int err;
} __attribute__((preserve_access_index));
#define HAS_RETRANSMIT_ERROR bpf_core_field_exists(struct trace_event_raw_tcp_retransmit_skb, err)
#define KADDR(ptr, type, member) ((void *)__builtin_preserve_access_index(&((const struct type *)(ptr))->member))

#endif

/* Reads a member of a kernel struct into *dst; 0 or an error. */
#define KREAD(dst, ptr, type, member) bpf_probe_read_kernel(dst, sizeof(*(dst)), KADDR(ptr, type, member))

/* Of a kprobe's context (u64 *), which is struct pt_regs: the function's first argument, and what it returned. */
#if defined(__TARGET_ARCH_x86)
#define ARGUMENT(ctx) ((void *)(ctx)[14]) /* rdi */
#define RETURNED(ctx) ((void *)(ctx)[10]) /* rax */
#elif defined(__TARGET_ARCH_arm64)
#define ARGUMENT(ctx) ((void *)(ctx)[0]) /* x0 */
#define RETURNED(ctx) ((void *)(ctx)[0])
#endif

/* Makes *word `mine` where it is `old`, or fails: adds the difference, and takes it back where another CPU has added its own
 * meanwhile. Of two that try at once one or none gets it. Linux 5.10 has no compare and exchange. */
#define CLAIM(word, old, mine) \
    ({ \
        typeof(*(word)) change = (mine) - (old); \
        __sync_fetch_and_add(word, change); \
        int got = *(volatile typeof(*(word)) *)(word) == (old) + change; \
        if (!got) __sync_fetch_and_add(word, -change); \
        got; \
    })

#define BE16(x) __builtin_bswap16(x)
