/* The load: connections that each keep one PDU out (half duplex, as the protocol asks), and look at every answer.
 *
 *     load PORT FRAMES WARM SECONDS
 *
 * FRAMES holds one frame for each connection, made before: u32 octets, u32 keys, the keys' places (u32 each), then the
 * octets; numbers little-endian. Each time a frame is sent, a fresh 16-octet key is put in each of its places.
 * Prints "begin" after WARM seconds, "end" after SECONDS more, then one line of JSON: the answers of each connection
 * (notifications), how many were bad (not noerror, a code that is not 0, a wrong count), and the latencies of PDUs.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER = 65536, MOST_CONNECTIONS = 1024, MOST_LATENCIES = 4000000, PATIENCE = 3 };

struct connection {
    int fd;
    uint32_t size, keys, *places;
    uint8_t *frame, answer[ANSWER];
    uint32_t sent, received;
    double since;
    long answered;
};

static struct connection all[MOST_CONNECTIONS];
static int count, busy;
static long bad;
static float *latencies;
static long measured;
static uint64_t serial, salt;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void read_frames(const char *name) {
    FILE *file = fopen(name, "rb");
    uint32_t head[2];
    if (!file) fail(name);
    while (count < MOST_CONNECTIONS && fread(head, 4, 2, file) == 2) {
        struct connection *c = &all[count++];
        c->size = head[0];
        c->keys = head[1];
        c->places = malloc(4 * c->keys + 1);
        c->frame = malloc(c->size);
        if (fread(c->places, 4, c->keys, file) != c->keys || fread(c->frame, 1, c->size, file) != c->size) fail(name);
    }
    fclose(file);
}

static void send_more(struct connection *c) {
    ssize_t n = send(c->fd, c->frame + c->sent, c->size - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) fail("send");
    if (n > 0) c->sent += n;
}

static void send_frame(struct connection *c) {
    for (uint32_t i = 0; i < c->keys; i++) {
        serial++;
        memcpy(c->frame + c->places[i], &salt, 8);
        memcpy(c->frame + c->places[i] + 8, &serial, 8);
    }
    c->sent = c->received = 0;
    c->since = now();
    busy++;
    send_more(c);
}

/* The content of the element at *p, which has to bear `tag`; NULL if it does not. *end: where the content stops. */
static const uint8_t *enter(const uint8_t *p, const uint8_t *limit, uint8_t tag, const uint8_t **end) {
    uint32_t size;
    if (!p || limit - p < 2 || p[0] != tag) return NULL;
    size = p[1];
    p += 2;
    if (size >= 0x80) {
        int octets = size & 0x7f;
        if (limit - p < octets) return NULL;
        for (size = 0; octets; octets--) size = size << 8 | *p++;
    }
    *end = p + size;
    return size <= limit - p ? p : NULL;
}

/* No abort, noerror, a ResponseNotify; where there are results, `items` of code 0. */
static int good(const uint8_t *p, const uint8_t *limit, uint32_t items) {
    static const uint8_t fine[] = {0x80, 1, 0, 0x81, 1, 0};
    const uint8_t *end, *inner, *stop;
    uint32_t results = 0;
    if (!(p = enter(p, limit, 0xa2, &end)) || end - p < 6 || memcmp(p, fine, 6)) return 0;
    if (!(p = enter(p + 6, end, 0xa2, &end)) || !(p = enter(p, end, 0xa1, &end))) return 0;
    if (!(p = enter(p, end, 0xb0, &end))) return 1;
    for (; p < end; p = stop, results++) {
        inner = enter(p, end, 0x30, &stop);
        if (!inner || stop - inner < 3 || inner[0] != 0x80 || inner[1] != 1 || inner[2]) return 0;
    }
    return results == items;
}

/* True: the whole answer is there. */
static int receive(struct connection *c) {
    uint32_t size;
    ssize_t n = recv(c->fd, c->answer + c->received, ANSWER - c->received, 0);
    if (n < 0 && errno == EAGAIN) return 0;
    if (n <= 0) {
        fprintf(stderr, "load: a connection ended\n");
        exit(1);
    }
    c->received += n;
    if (c->received < 4) return 0;
    size = (uint32_t)c->answer[0] << 24 | c->answer[1] << 16 | c->answer[2] << 8 | c->answer[3];
    if (size > ANSWER - 4) exit(1);
    if (c->received < 4 + size) return 0;
    if (!good(c->answer + 4, c->answer + 4 + size, c->keys)) bad++;
    return 1;
}

static int ascending(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void report(double seconds) {
    qsort(latencies, measured, sizeof *latencies, ascending);
    printf("{\"seconds\": %.4f, \"bad\": %ld, \"unanswered\": %d, \"p50_us\": %.0f, \"p99_us\": %.0f, \"answers\": [",
           seconds, bad, busy, measured ? latencies[measured / 2] * 1e6 : 0,
           measured ? latencies[measured * 99 / 100] * 1e6 : 0);
    for (int i = 0; i < count; i++) printf("%s%ld", i ? ", " : "", all[i].answered);
    printf("]}\n");
}

int main(int argc, char **argv) {
    struct sockaddr_in to = {.sin_family = AF_INET};
    struct epoll_event events[MOST_CONNECTIONS];
    int epoll = epoll_create1(0), one = 1, phase = 0;
    double begin, end, begun = 0, took = 0;
    if (argc != 5 || getrandom(&salt, 8, 0) != 8) return 2;
    to.sin_port = htons(atoi(argv[1]));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    read_frames(argv[2]);
    latencies = malloc(sizeof *latencies * MOST_LATENCIES);
    for (int i = 0; i < count; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &all[i]};
        all[i].fd = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(all[i].fd, (struct sockaddr *)&to, sizeof to)) fail("connect");
        setsockopt(all[i].fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        fcntl(all[i].fd, F_SETFL, O_NONBLOCK);
        epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event);
    }
    begin = now() + atof(argv[3]);
    end = begin + atof(argv[4]);
    for (int i = 0; i < count; i++) send_frame(&all[i]);
    while (phase < 2 || busy) {
        int ready = epoll_wait(epoll, events, MOST_CONNECTIONS, 10);
        double t = now();
        if (phase == 0 && t >= begin) {
            phase = 1;
            begun = t;
            puts("begin");
            fflush(stdout);
        } else if (phase == 1 && t >= end) {
            phase = 2;
            took = t - begun;
            puts("end");
            fflush(stdout);
        } else if (phase == 2 && t >= end + PATIENCE) {
            break;
        }
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c->sent < c->size) send_more(c);
            if (!receive(c)) continue;
            busy--;
            if (phase == 1) {
                c->answered += c->keys;
                if (measured < MOST_LATENCIES) latencies[measured++] = now() - c->since;
            }
            if (phase < 2) send_frame(c);
        }
        for (int i = 0; i < count; i++)
            if (all[i].sent < all[i].size) send_more(&all[i]);
    }
    report(took);
    return 0;
}
