/* The nodes behind the proxies: one HTTP/1.1 server that answers on every loopback address, so that
 * any number of nodes costs one process.
 *
 *     backend PORT
 *
 *     GET  /KEY?size=N          N bytes with Content-Length
 *     GET  /KEY?size=N&chunked  N bytes in chunks
 *     POST /KEY?size=N&body=M   N bytes, once a body of M bytes has come; else 400
 *
 * X-Node tells which address was asked. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "message.h"
#include "payload.h"

#define SIZES_MAX 16
#define PIPELINED_MAX 64
#define EVENTS_MAX 512

/* What is the same in every response of one kind; made once. */
struct response {
    int status;
    size_t size;
    bool chunked;
    char head[256];
    struct payload body;
};

struct connection {
    int fd;
    bool wants_write;
    char node[64]; /* the X-Node field and the end of the head */
    const struct response *queue[PIPELINED_MAX]; /* responses that are not sent, from `first` on */
    size_t first, count;
    size_t sent; /* bytes of the first one that are */
    struct message request;
};

static int epoll;
static char input[256 << 10];

static void fail(const char *what)
{
    fprintf(stderr, "backend: %s: %s\n", what, strerror(errno));
    exit(1);
}

static const struct response *response_of(int status, size_t size, bool chunked)
{
    static struct response made[SIZES_MAX];
    static size_t count;
    for (size_t at = 0; at < count; at++)
        if (made[at].status == status && made[at].size == size && made[at].chunked == chunked)
            return &made[at];
    if (count == SIZES_MAX)
        return NULL;
    struct response *response = &made[count++];
    *response = (struct response){.status = status, .size = size, .chunked = chunked};
    response->body = payload_make(size, chunked);
    char length[64] = "Transfer-Encoding: chunked";
    if (!chunked)
        sprintf(length, "Content-Length: %zu", size);
    sprintf(response->head,
            "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nCache-Control: no-store\r\n%s\r\n",
            status, status == 200 ? "OK" : "Bad Request", length);
    return response;
}

/* The number that follows a name in the request's target; 0 without one. */
static size_t parameter(const char *target, size_t length, const char *name)
{
    const char *found = memmem(target, length, name, strlen(name));
    return found == NULL ? 0 : strtoul(found + strlen(name), NULL, 10);
}

static const struct response *answer(const struct message *request)
{
    const char *target = request->head;
    size_t length = strcspn(target, "\r");
    if (request->body_bytes != parameter(target, length, "body="))
        return response_of(400, 0, false);
    bool chunked = memmem(target, length, "chunked", 7) != NULL;
    return response_of(200, parameter(target, length, "size="), chunked);
}

static void watch(struct connection *connection, int operation, bool write)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = connection};
    if (epoll_ctl(epoll, operation, connection->fd, &event) < 0)
        fail("epoll_ctl");
    connection->wants_write = write;
}

static bool flush(struct connection *connection)
{
    while (connection->count > 0) {
        const struct response *response = connection->queue[connection->first];
        struct iovec parts[] = {
            {(char *)response->head, strlen(response->head)},
            {connection->node, strlen(connection->node)},
            {response->body.bytes, response->body.count},
        };
        size_t total = parts[0].iov_len + parts[1].iov_len + parts[2].iov_len;
        ssize_t sent = payload_send(connection->fd, parts, 3, connection->sent);
        if (sent < 0)
            return false;
        connection->sent += (size_t)sent;
        if (connection->sent < total) {
            if (!connection->wants_write)
                watch(connection, EPOLL_CTL_MOD, true);
            return true;
        }
        connection->sent = 0;
        connection->first = (connection->first + 1) % PIPELINED_MAX;
        connection->count -= 1;
    }
    if (connection->wants_write)
        watch(connection, EPOLL_CTL_MOD, false);
    return true;
}

static bool receive(struct connection *connection)
{
    ssize_t count = recv(connection->fd, input, sizeof input, 0);
    if (count < 0 && errno == EAGAIN)
        return true;
    if (count <= 0)
        return false;
    for (ssize_t at = 0; at < count;) {
        ssize_t taken = message_take(&connection->request, input + at, (size_t)(count - at));
        if (taken < 0 || connection->count == PIPELINED_MAX)
            return false;
        at += taken;
        if (connection->request.part != COMPLETE)
            continue;
        const struct response *response = answer(&connection->request);
        if (response == NULL)
            return false;
        connection->queue[(connection->first + connection->count++) % PIPELINED_MAX] = response;
        message_reset(&connection->request);
    }
    return flush(connection);
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct connection *connection = calloc(1, sizeof *connection);
        if (connection == NULL)
            fail("calloc");
        connection->fd = fd;
        struct sockaddr_in local;
        socklen_t length = sizeof local;
        getsockname(fd, (struct sockaddr *)&local, &length);
        sprintf(connection->node, "X-Node: %s\r\n\r\n", inet_ntoa(local.sin_addr));
        watch(connection, EPOLL_CTL_ADD, false);
    }
}

static int listen_on_loopback(int port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    /* All of 127.0.0.0/8 and nothing else. */
    if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3) < 0)
        fail("bind to the loopback device");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 4096) < 0)
        fail("listen");
    return fd;
}

int main(int count, char **arguments)
{
    if (count != 2) {
        fprintf(stderr, "usage: backend PORT\n");
        return 2;
    }
    int listener = listen_on_loopback(atoi(arguments[1]));
    epoll = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN}; /* no connection: the listener */
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int ready = epoll_wait(epoll, events, EVENTS_MAX, -1);
        for (int at = 0; at < ready; at++) {
            struct connection *connection = events[at].data.ptr;
            if (connection == NULL) {
                accept_all(listener);
                continue;
            }
            bool alive = true;
            if (events[at].events & EPOLLOUT)
                alive = flush(connection);
            if (alive && events[at].events & ~(uint32_t)EPOLLOUT)
                alive = receive(connection);
            if (!alive) {
                close(connection->fd);
                free(connection);
            }
        }
    }
}
