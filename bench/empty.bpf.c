/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0) */
/* The yardstick: what the kernel's own measuring and calling of a tc program costs. */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tc") int empty(struct __sk_buff *skb) {
    return -1;
}
