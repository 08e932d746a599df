/* requests ADDRESS PORT CONNECTIONS SECONDS: GET / over and over, on so many connections that stay open.
 *
 * Prints requests a second and the 99th percentile of their times in microseconds. */
#define _GNU_SOURCE /* strcasestr */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST_US = 1000000 };

static struct sockaddr_in server;
static double until;
static unsigned times[LONGEST_US + 1]; /* requests by microseconds */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void *talk(void *unused) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
    char answer[8192];
    int sock = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(sock, (void *)&server, sizeof server)) return perror("connect"), exit(1), NULL;
    for (double began = now(), end; began < until; began = end) {
        if (write(sock, request, sizeof request - 1) < 0) return perror("write"), exit(1), NULL;
        long got = 0, want = -1;
        while (want < 0 || got < want) {
            long n = read(sock, answer + got, sizeof answer - 1 - got);
            if (n <= 0) return fprintf(stderr, "hung up\n"), exit(1), NULL;
            answer[got += n] = 0;
            char *body = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "content-length:");
            if (want < 0 && body && length) want = body + 4 - answer + atol(length + 15);
        }
        if (strncmp(answer, "HTTP/1.1 200", 12)) return fprintf(stderr, "%.40s\n", answer), exit(1), NULL;
        end = now();
        long us = (end - began) * 1e6;
        __atomic_fetch_add(&times[us < LONGEST_US ? us : LONGEST_US], 1, __ATOMIC_RELAXED);
    }
    close(sock);
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    int count = atoi(argv[3]);
    double seconds = atof(argv[4]);
    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &server.sin_addr);
    until = now() + seconds;
    pthread_t threads[256];
    for (int i = 0; i < count && i < 256; i++)
        pthread_create(&threads[i], NULL, talk, NULL);
    for (int i = 0; i < count && i < 256; i++)
        pthread_join(threads[i], NULL);
    long total = 0, sum = 0, p99 = 0;
    for (int us = 0; us <= LONGEST_US; us++)
        total += times[us];
    while (sum < total * 99 / 100)
        sum += times[p99++];
    printf("%.1f %ld\n", total / seconds, p99);
    return 0;
}
