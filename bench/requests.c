/* requests ADDRESS PORT CONNECTIONS SECONDS [RATE]: GET / over and over, on so many connections that stay open.
 *
 * Without RATE each connection asks again as soon as it has its answer. With it, RATE requests a second in all are due
 * at random moments, the same in each run, whether or not those before are answered; a time then counts from the
 * moment when the request was due. Prints a line for each time that requests took: microseconds, and how many. */
#define _GNU_SOURCE /* strcasestr */
#include <arpa/inet.h>
#include <math.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { LONGEST_US = 4000000 };

static struct sockaddr_in server;
static double began, until, pause_s; /* pause_s: a connection's mean time between requests, 0: none */
static unsigned times[LONGEST_US + 1]; /* requests by microseconds */

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void sleep_until(double moment) {
    struct timespec t = {.tv_sec = moment};
    t.tv_nsec = (moment - t.tv_sec) * 1e9;
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

static void *talk(void *number) {
    static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\n\r\n";
    char answer[8192];
    unsigned short seed[3] = {(long)number, 1, 1};
    int sock = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(sock, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(sock, (void *)&server, sizeof server)) return perror("connect"), exit(1), NULL;
    for (double due = began, end; due < until; due = pause_s ? due : end) {
        if (pause_s) {
            due -= log(1 - erand48(seed)) * pause_s;
            sleep_until(due);
        }
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
        long us = (end - due) * 1e6;
        __atomic_fetch_add(&times[us < LONGEST_US ? us : LONGEST_US], 1, __ATOMIC_RELAXED);
    }
    close(sock);
    return NULL;
}

int main(int argc, char **argv) {
    if (argc < 5) return 2;
    int count = atoi(argv[3]);
    double seconds = atof(argv[4]);
    server.sin_family = AF_INET;
    server.sin_port = htons(atoi(argv[2]));
    inet_pton(AF_INET, argv[1], &server.sin_addr);
    if (argc > 5) pause_s = count / atof(argv[5]);
    began = now();
    until = began + seconds;
    pthread_t threads[256];
    for (int i = 0; i < count && i < 256; i++)
        pthread_create(&threads[i], NULL, talk, (void *)(long)i);
    for (int i = 0; i < count && i < 256; i++)
        pthread_join(threads[i], NULL);
    for (int us = 0; us <= LONGEST_US; us++)
        if (times[us]) printf("%d %u\n", us, times[us]);
    return 0;
}
