/* flood udp|syn INTERFACE FLOWS ROUNDS [RATE]: 60-byte frames, each of FLOWS flows in turn, ROUNDS times.
 *
 * Flow i comes from 10.99.128.0 + i / 50000, port 10000 + i % 50000, and goes to 10.99.0.2:9 by a link address that
 * nobody has. What the interface cannot take at once is tried again: FLOWS * ROUNDS frames are sent, to the last. RATE:
 * so many a second at most. Prints how many in how many seconds. */
#define _GNU_SOURCE /* sendmmsg */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { FRAME = 60, BATCH = 64 };

static uint16_t checksum(const uint8_t *p, int n) {
    uint32_t sum = 0;
    for (int i = 0; i < n; i += 2)
        sum += p[i] << 8 | p[i + 1];
    while (sum >> 16)
        sum = (sum & 0xffff) + (sum >> 16);
    return ~sum;
}

static void put16(uint8_t *p, uint16_t value) {
    p[0] = value >> 8;
    p[1] = value;
}

static void fill(uint8_t *frame, uint32_t flow) {
    uint8_t *ip = frame + 14, *transport = frame + 34;
    uint32_t source = htonl((10u << 24 | 99 << 16 | 128 << 8) + flow / 50000);
    memcpy(ip + 12, &source, 4);
    put16(ip + 10, 0);
    put16(ip + 10, checksum(ip, 20));
    put16(transport, 10000 + flow % 50000);
}

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    int syn = !strcmp(argv[1], "syn");
    long flows = atol(argv[3]), total = flows * atol(argv[4]);
    double rate = argc > 5 ? atof(argv[5]) : 0;
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6, .sll_protocol = htons(0x0800)};
    to.sll_ifindex = if_nametoindex(argv[2]);
    memcpy(to.sll_addr, "\x02\x99\0\0\0\x99", 6);
    int sock = socket(AF_PACKET, SOCK_RAW, 0), on = 1;
    if (sock < 0 || setsockopt(sock, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on)) return 1;

    static uint8_t frames[BATCH][FRAME];
    struct mmsghdr messages[BATCH] = {0};
    struct iovec parts[BATCH];
    for (int i = 0; i < BATCH; i++) {
        uint8_t *f = frames[i];
        memcpy(f, to.sll_addr, 6);
        memcpy(f + 6, "\x02\x99\0\0\0\x01", 6);
        memcpy(f + 12, "\x08\0\x45\0\0\x2e\0\0\x40\0\x40\x11", 12); /* 46 bytes, do not fragment, TTL 64, UDP */
        memcpy(f + 30, "\x0a\x63\0\2", 4);
        put16(f + 36, 9);
        if (syn) {
            f[23] = 6;
            f[46] = 0x50; /* 20 bytes of header */
            f[47] = 2;
        } else {
            put16(f + 38, 26);
        }
        parts[i] = (struct iovec){f, FRAME};
        messages[i].msg_hdr =
            (struct msghdr){.msg_name = &to, .msg_namelen = sizeof to, .msg_iov = parts + i, .msg_iovlen = 1};
    }
    double began = seconds();
    for (long sent = 0; sent < total;) {
        long wait_us = rate ? (began + sent / rate - seconds()) * 1e6 : 0;
        if (wait_us > 0) usleep(wait_us);
        int ready = total - sent < BATCH ? total - sent : BATCH, done = 0;
        for (int i = 0; i < ready; i++)
            fill(frames[i], (sent + i) % flows);
        while (done < ready) {
            int n = sendmmsg(sock, messages + done, ready - done, 0);
            if (n > 0)
                done += n;
            else if (errno != ENOBUFS && errno != EAGAIN)
                return perror("sendmmsg"), 1;
            else
                usleep(50);
        }
        sent += ready;
    }
    printf("%ld %.3f\n", total, seconds() - began);
    return 0;
}
