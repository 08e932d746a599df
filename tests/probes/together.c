/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a program once on each of many frames, half of them in each of two threads that begin at the same moment. */
#include <linux/bpf.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct half {
    const unsigned char *frames;
    unsigned size, count;
    int program, failed;
    volatile int *ready;
};

static void *run(void *argument) {
    struct half *half = argument;
    union bpf_attr attr;
    memset(&attr, 0, sizeof(attr));
    attr.test.prog_fd = half->program;
    attr.test.data_size_in = half->size;
    __sync_fetch_and_add(half->ready, 1);
    while (*half->ready < 2)
        sched_yield();
    for (unsigned i = 0; i < half->count; i++) {
        attr.test.data_in = (unsigned long)half->frames + (unsigned long)i * half->size;
        if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr.test))) half->failed = 1;
    }
    return 0;
}

int together(int program, const unsigned char *frames, unsigned size, unsigned count) {
    volatile int ready = 0;
    struct half one = {frames, size, count / 2, program, 0, &ready}, other = one;
    pthread_t thread;
    other.frames += (unsigned long)one.count * size;
    if (pthread_create(&thread, 0, run, &other)) return -1;
    run(&one);
    pthread_join(thread, 0);
    return one.failed || other.failed ? -1 : 0;
}
