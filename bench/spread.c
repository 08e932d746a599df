/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a program once on each of many frames, without an interpreter in between, which would fill the caches that
 * the program is measured with. */
#include <linux/bpf.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int spread(int program, const unsigned char *frames, unsigned size, unsigned count) {
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.test.prog_fd = program;
    attr.test.data_size_in = size;
    for (unsigned i = 0; i < count; i++) {
        attr.test.data_in = (unsigned long)frames + (unsigned long)i * size;
        if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr.test))) return -1;
    }
    return 0;
}
