/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a program once on each of many frames, without an interpreter in between, which would fill the caches that
 * the program is measured with. */
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

/* `ns` has room for one more than there are pieces: what was taken before each, and after the last. */
int spread(int program, const unsigned char *frames, unsigned size, unsigned pieces, unsigned piece,
           unsigned long *ns) {
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.test.prog_fd = program;
    attr.test.data_size_in = size;
    for (unsigned i = 0; i < pieces; i++) {
        if (taken(program, ns + i)) return -1;
        for (unsigned j = 0; j < piece; j++) {
            attr.test.data_in = (unsigned long)frames + ((unsigned long)i * piece + j) * size;
            if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr.test))) return -1;
        }
    }
    return taken(program, ns + pieces);
}
