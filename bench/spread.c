/* SPDX-License-Identifier: Apache-2.0 */
/* Runs programs once on each of many frames, without an interpreter in between, which would fill the caches that
 * they are measured with. */
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Nanoseconds that all runs of the program took so far, by the kernel's own statistics. */
static long taken(int program, unsigned long *ns) {
    struct bpf_prog_info info;
    union bpf_attr attr;
    memset(&info, 0, sizeof(info));
    memset(&attr, 0, sizeof(attr));
    attr.info.bpf_fd = program;
    attr.info.info_len = sizeof(info);
    attr.info.info = (unsigned long)&info;
    long error = syscall(SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr.info));
    *ns = info.run_time_ns;
    return error;
}

static long run(int program, const unsigned char *frame, unsigned size) {
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.test.prog_fd = program;
    attr.test.data_size_in = size;
    attr.test.data_in = (unsigned long)frame;
    return syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr.test));
}

/* `ns` has room for one more than there are pieces: what was taken before each, and after the last. */
int spread(int program, const unsigned char *frames, unsigned size, unsigned pieces, unsigned piece,
           unsigned long *ns) {
    for (unsigned i = 0; i < pieces; i++) {
        if (taken(program, ns + i)) return -1;
        for (unsigned j = 0; j < piece; j++)
            if (run(program, frames + ((unsigned long)i * piece + j) * size, size)) return -1;
    }
    return taken(program, ns + pieces);
}

/* Somebody else's work: more than a core's own caches hold. */
static unsigned char others[4 << 20];

/* One frame by two programs, one after the other, whose code and data are in no cache of the core's own at first. `ns`:
 * what both took, `times` times. */
int cold(int first, int second, const unsigned char *frame, unsigned size, unsigned times, unsigned long *ns) {
    unsigned long before[2], after[2];
    if (taken(first, before) || taken(second, before + 1)) return -1;
    for (unsigned i = 0; i < times; i++) {
        for (unsigned at = 0; at < sizeof(others); at += 64)
            others[at]++;
        if (run(first, frame, size) || run(second, frame, size)) return -1;
    }
    if (taken(first, after) || taken(second, after + 1)) return -1;
    *ns = after[0] - before[0];
    if (second != first) *ns += after[1] - before[1];
    return 0;
}
