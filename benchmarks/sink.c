/* The target's agent: answers every PDU of notifications with "taken", and costs as little as can be.
 *
 *     sink extended|2004 SLOW SECONDS
 *
 * extended: results (code 0 for each notification) and capabilities, to a PDU that came with capabilities; 2004: a
 * plain noerror. A PDU that holds a notification for the local part SLOW ("-": none) is answered a second later, no
 * other connection waits for that. Prints its port; ends after SECONDS whatever happens.
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
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 4096, ROOM = 1 << 20, LATE = 1 };

struct connection {
    int fd;
    uint32_t received;
    double due; /* 0: nothing waits */
    uint32_t items;
    int asked; /* it came with capabilities */
    uint8_t data[ROOM];
};

static struct connection *late[MOST];
static int lates, extended;
static const char *slow;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static const uint8_t *content(const uint8_t *p, const uint8_t **end) {
    uint32_t size = p[1];
    p += 2;
    if (size >= 0x80) {
        int octets = size & 0x7f;
        for (size = 0; octets; octets--) size = size << 8 | *p++;
    }
    *end = p + size;
    return p;
}

static uint8_t *put_header(uint8_t *to, uint8_t tag, uint32_t size) {
    *to++ = tag;
    if (size >= 0x80) *to++ = size < 0x100 ? 0x81 : 0x82;
    if (size >= 0x100) *to++ = size >> 8;
    *to++ = size;
    return to;
}

static uint32_t header(uint32_t size) { return size < 0x80 ? 2 : size < 0x100 ? 3 : 4; }

static void answer(struct connection *c) {
    static const uint8_t capabilities[] = "\xb1\x0e\x80\x01\x01\xa1\x09\x0c\x07results";
    static const uint8_t fine[] = {0x80, 1, 0, 0x81, 1, 0}, taken[] = {0x30, 3, 0x80, 1, 0};
    static uint8_t out[16384];
    uint32_t results = 5 * c->items, notify, data, whole;
    uint8_t *p = out + 4;
    int sends = extended && c->asked;
    notify = sends ? header(results) + results + sizeof capabilities - 1 : 0;
    data = header(notify) + notify;
    whole = 6 + header(data) + data;
    p = put_header(p, 0xa2, whole);
    p = (uint8_t *)mempcpy(p, fine, 6);
    p = put_header(p, 0xa2, data);
    p = put_header(p, 0xa1, notify);
    if (sends) {
        p = put_header(p, 0xb0, results);
        for (uint32_t i = 0; i < c->items; i++) p = (uint8_t *)mempcpy(p, taken, 5);
        p = (uint8_t *)mempcpy(p, capabilities, sizeof capabilities - 1);
    }
    *(uint32_t *)out = htonl(p - out - 4);
    if (send(c->fd, out, p - out, MSG_NOSIGNAL) < 0 && errno != EPIPE && errno != ECONNRESET) perror("sink: send");
}

static int is_slow(const uint8_t *notification, const uint8_t *end) {
    const uint8_t *stop, *inner, *local;
    for (const uint8_t *p = notification; p < end; p = stop) {
        inner = content(p, &stop);
        if (*p != 0xa2) continue;
        local = content(inner, &inner);
        return (size_t)(inner - local) == strlen(slow) && !memcmp(local, slow, inner - local);
    }
    return 0;
}

static void take(struct connection *c) {
    const uint8_t *end, *stop, *inner, *p = c->data + 4;
    int waits = 0;
    c->items = 0;
    p = content(p, &end);
    p = content(p, &end);
    p = content(p, &end);
    c->asked = 0;
    for (inner = p; inner < end; inner = stop) {
        const uint8_t *tag = inner;
        inner = content(inner, &stop);
        if (*tag == 0xb0) c->asked = 1;
        if (*tag != 0xa0) continue;
        for (const uint8_t *one, *next; inner < stop; inner = next, c->items++) {
            one = content(inner, &next);
            if (*slow != '-' && is_slow(one, next)) waits = 1;
        }
    }
    if (waits && lates < MOST) {
        c->due = now() + LATE;
        late[lates++] = c;
    } else {
        answer(c);
    }
}

static void receive(struct connection *c) {
    uint32_t size;
    ssize_t n = recv(c->fd, c->data + c->received, ROOM - c->received, 0);
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) {
        for (int i = 0; i < lates; i++)
            if (late[i] == c) late[i] = late[--lates];
        close(c->fd);
        free(c);
        return;
    }
    c->received += n;
    if (c->received < 4) return;
    size = (uint32_t)c->data[0] << 24 | c->data[1] << 16 | c->data[2] << 8 | c->data[3];
    if (c->received < 4 + size) return;
    c->received = 0; /* half duplex: nothing follows */
    take(c);
}

static void answer_late(void) {
    double t = now();
    for (int i = 0; i < lates;) {
        if (late[i]->due > t) {
            i++;
            continue;
        }
        answer(late[i]);
        late[i] = late[--lates];
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, events[256];
    int epoll = epoll_create1(0), door = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    if (argc != 4) return 2;
    extended = !strcmp(argv[1], "extended");
    slow = argv[2];
    alarm(atoi(argv[3]));
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(door, (struct sockaddr *)&at, sizeof at) || listen(door, 1024)) return 1;
    getsockname(door, (struct sockaddr *)&at, &size);
    epoll_ctl(epoll, EPOLL_CTL_ADD, door, &event);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll, events, 256, lates ? 1 : -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c) {
                receive(c);
                continue;
            }
            if (!(c = calloc(1, sizeof *c)) || (c->fd = accept(door, NULL, NULL)) < 0) return 1;
            setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            fcntl(c->fd, F_SETFL, O_NONBLOCK);
            event.data.ptr = c;
            epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
        }
        if (lates) answer_late();
    }
}
