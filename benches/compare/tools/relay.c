/* The floor: a relay that moves bytes between a client and a node and looks at none of them. What
 * it costs is what the kernel asks for two sockets; a proxy that reads HTTP can only cost more.
 *
 *     relay PORT NODE_PORT NODE_ADDRESS...
 *
 * Each connection goes to the next node. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BUFFER_BYTES 65536
#define EVENTS_MAX 512

/* One side of a pair, and what was read from it that the other side did not take. */
struct side {
    int fd;
    struct side *other;
    char *rest;
    size_t rest_at, rest_bytes;
    bool ended; /* sends no more */
    bool closed; /* freed when the batch of events is done: one may still name it */
};

static int epoll;
static struct side *closed_sides[EVENTS_MAX * 2];
static size_t closed_count;

static void fail(const char *what)
{
    fprintf(stderr, "relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* A side is read while nothing read from it waits, and written to while something does. */
static void watch(struct side *side)
{
    bool read = side->rest == NULL && !side->ended;
    bool write = side->other->rest != NULL;
    struct epoll_event event = {
        .events = (read ? EPOLLIN : 0) | (write ? EPOLLOUT : 0),
        .data.ptr = side,
    };
    if (epoll_ctl(epoll, EPOLL_CTL_MOD, side->fd, &event) < 0)
        fail("epoll_ctl");
}

static void close_pair(struct side *side)
{
    struct side *pair[] = {side, side->other};
    for (int at = 0; at < 2; at++) {
        pair[at]->closed = true;
        close(pair[at]->fd);
        closed_sides[closed_count++] = pair[at];
    }
}

static void free_closed(void)
{
    while (closed_count > 0) {
        struct side *side = closed_sides[--closed_count];
        free(side->rest);
        free(side);
    }
}

/* Everything read from `side` went on: pass its end on too, once both ended the pair is done. */
static void pass_end(struct side *side)
{
    if (side->other->ended && side->other->rest == NULL)
        close_pair(side);
    else
        shutdown(side->other->fd, SHUT_WR);
}

static void read_from(struct side *side)
{
    static char buffer[BUFFER_BYTES];
    ssize_t count = recv(side->fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (count < 0) {
        if (errno != EAGAIN)
            close_pair(side);
        return;
    }
    if (count == 0) {
        side->ended = true;
        watch(side);
        pass_end(side);
        return;
    }
    ssize_t sent = send(side->other->fd, buffer, (size_t)count, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN) {
        close_pair(side);
        return;
    }
    size_t gone = sent < 0 ? 0 : (size_t)sent;
    if (gone == (size_t)count)
        return;
    side->rest_bytes = (size_t)count - gone;
    side->rest_at = 0;
    side->rest = malloc(side->rest_bytes);
    if (side->rest == NULL)
        fail("malloc");
    memcpy(side->rest, buffer + gone, side->rest_bytes);
    watch(side);
    watch(side->other);
}

static void write_rest_to(struct side *side)
{
    struct side *from = side->other;
    ssize_t sent = send(side->fd, from->rest + from->rest_at, from->rest_bytes - from->rest_at,
                        MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) {
        if (errno != EAGAIN)
            close_pair(side);
        return;
    }
    from->rest_at += (size_t)sent;
    if (from->rest_at < from->rest_bytes)
        return;
    free(from->rest);
    from->rest = NULL;
    watch(from);
    watch(side);
    if (from->ended)
        pass_end(from);
}

static struct side *add_side(int fd)
{
    struct side *side = calloc(1, sizeof *side);
    if (side == NULL)
        fail("calloc");
    side->fd = fd;
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = side};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
        fail("epoll_ctl");
    return side;
}

static void accept_all(int listener, const struct sockaddr_in *nodes, size_t node_count)
{
    static size_t next;
    int client;
    while ((client = accept4(listener, NULL, NULL, 0)) >= 0) {
        /* May block: a loopback listener takes a connection at once. */
        int node = socket(AF_INET, SOCK_STREAM, 0);
        const struct sockaddr_in *address = &nodes[next++ % node_count];
        if (node < 0 || connect(node, (const struct sockaddr *)address, sizeof *address) < 0) {
            fprintf(stderr, "relay: connect: %s\n", strerror(errno));
            close(node);
            close(client);
            continue;
        }
        struct side *left = add_side(client), *right = add_side(node);
        left->other = right;
        right->other = left;
    }
}

static int listen_on(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
        fail("listen");
    return fd;
}

int main(int count, char **arguments)
{
    if (count < 4) {
        fprintf(stderr, "usage: relay PORT NODE_PORT NODE_ADDRESS...\n");
        return 2;
    }
    size_t node_count = (size_t)count - 3;
    struct sockaddr_in *nodes = calloc(node_count, sizeof *nodes);
    for (size_t at = 0; at < node_count; at++) {
        nodes[at].sin_family = AF_INET;
        nodes[at].sin_port = htons((uint16_t)atoi(arguments[2]));
        if (inet_pton(AF_INET, arguments[3 + at], &nodes[at].sin_addr) != 1)
            fail(arguments[3 + at]);
    }
    int listener = listen_on(atoi(arguments[1]));
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN}; /* no side: the listener */
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(epoll, events, EVENTS_MAX, -1);
        for (int at = 0; at < ready; at++) {
            struct side *side = events[at].data.ptr;
            if (side == NULL) {
                accept_all(listener, nodes, node_count);
                continue;
            }
            if (!side->closed && events[at].events & EPOLLOUT && side->other->rest != NULL)
                write_rest_to(side);
            /* A hang-up is told even of a side that is not watched for input. */
            if (!side->closed && side->rest == NULL && events[at].events & ~(uint32_t)EPOLLOUT)
                read_from(side);
        }
        free_closed();
    }
}
