/* The load: an HTTP/1.1 client that counts a request only when its whole response has come with
 * status 200 and the body that was asked for, and ends with an error at the first that has not.
 *
 * It opens its connections, sends one request on each, prints "ready" and waits for a line on its
 * standard input; so whoever measures can leave the opening out. Then it sends the requests of the
 * measurement and prints what came of them as JSON. `load --help` tells the options. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "message.h"
#include "payload.h"

#define SECOND 1000000000ull
#define EVENTS_MAX 1024
#define REQUEST_BYTES_MAX 512
#define PARTS_MAX 64
/* A listener's queue is finite: so many connections are opened at once. */
#define OPENING_MAX 200
/* Clients' ports are finite: connections come from so many addresses, 127.3.0.1 and on. */
#define SOURCES 200

static const char usage[] =
    "usage: load --port PORT [OPTION]...\n"
    "  --connections N  keep-alive connections (default 64)\n"
    "  --requests N     how many requests to send; 0 only holds the connections (default 8000)\n"
    "  --seconds S      send for so long instead\n"
    "  --in-flight N    at most so many requests at a time (default: as many as fit)\n"
    "  --pipeline N     so many requests at a time on each connection (default 1)\n"
    "  --rate R         open loop: send R a second whatever comes back; latencies are counted from\n"
    "                   the moment at which a request was due (default: closed loop)\n"
    "  --per-request    a new connection for each request\n"
    "  --keys N         different paths, each sent as often as the others (default 10000)\n"
    "  --prefix PATH    what paths start with (default /)\n"
    "  --size N         bytes of a response's body (default 1024)\n"
    "  --chunked-down   ask for the response in chunks\n"
    "  --body N         POST so many bytes (default: GET)\n"
    "  --chunked-up     send them in chunks\n"
    "  --timeout S      give up after so many seconds (default 60)\n";

static struct {
    int port;
    uint32_t connections, in_flight, pipeline, keys;
    uint64_t requests;
    double seconds, rate, timeout;
    bool per_request, chunked_down, chunked_up;
    size_t size, body;
    const char *prefix;
} options = {
    .connections = 64, .pipeline = 1, .keys = 10000, .requests = 8000,
    .timeout = 60, .size = 1024, .prefix = "/",
};

/* Each count of requests is at most the one before it. */
struct connection {
    int fd; /* -1: closed */
    bool wants_write;
    uint64_t issued, written, answered;
    size_t offset; /* bytes sent of the request that is being written */
    uint64_t due; /* open loop: when the one request in flight should have been sent */
    struct message response;
};

static int epoll;
static struct connection *connections;
static struct iovec *heads; /* of the request for each key */
static struct payload body;
static char input[256 << 10];

/* Places for a request on connections, in the order in which they became free: a request goes
 * where none went for longest, so the load is spread over all connections. */
static struct {
    uint32_t *connection;
    uint64_t taken, freed, room;
} places;

/* One stretch of load: the opening of the connections, or the measurement. */
static struct {
    uint64_t began, ends, requests, issued, answered, in_flight_max;
    double rate;
    uint64_t *latencies; /* open loop: in nanoseconds, one for each answer */
} stretch;

static void fail(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "load: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, " (%" PRIu64 " of this stretch's requests were answered)\n", stretch.answered);
    exit(1);
}

static void *allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        fail("no memory");
    return memory;
}

static uint64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

// --- Requests

static void make_requests(void)
{
    body = options.body > 0 ? payload_make(options.body, options.chunked_up) : (struct payload){0};
    heads = allocate(options.keys, sizeof *heads);
    for (uint32_t key = 0; key < options.keys; key++) {
        char head[REQUEST_BYTES_MAX], about[128] = "";
        if (options.body > 0 && options.chunked_up)
            sprintf(about, "Content-Type: text/plain\r\nTransfer-Encoding: chunked\r\n");
        else if (options.body > 0)
            sprintf(about, "Content-Type: text/plain\r\nContent-Length: %zu\r\n", options.body);
        int count = snprintf(head, sizeof head,
                             "%s %skey-%06" PRIu32 "?size=%zu&body=%zu%s HTTP/1.1\r\n"
                             "Host: bench.example\r\nUser-Agent: load\r\nAccept: */*\r\n%s%s\r\n",
                             options.body > 0 ? "POST" : "GET", options.prefix, key, options.size,
                             options.body, options.chunked_down ? "&chunked" : "", about,
                             options.per_request ? "Connection: close\r\n" : "");
        if (count >= REQUEST_BYTES_MAX)
            fail("--prefix is too long");
        heads[key] = (struct iovec){strdup(head), (size_t)count};
    }
}

/* Every connection walks through all keys, each in another place of the walk. */
static struct iovec head_of(const struct connection *connection, uint64_t request)
{
    uint64_t index = (uint64_t)(connection - connections);
    return heads[(index * 2654435761u + request * 7919u) % options.keys];
}

// --- Connections

static void watch(struct connection *connection, int operation, bool write)
{
    struct epoll_event event = {.events = EPOLLIN | (write ? EPOLLOUT : 0), .data.ptr = connection};
    if (epoll_ctl(epoll, operation, connection->fd, &event) < 0)
        fail("epoll_ctl: %s", strerror(errno));
    connection->wants_write = write;
}

static void open_connection(struct connection *connection)
{
    static uint32_t opened;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0)
        fail("socket: %s", strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(0x7f030001 + opened++ % SOURCES),
    };
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("bind: %s", strerror(errno));
    address.sin_port = htons((uint16_t)options.port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect to port %d: %s", options.port, strerror(errno));
    connection->fd = fd;
    connection->offset = 0;
    connection->issued = connection->written = connection->answered = 0;
    message_reset(&connection->response);
    watch(connection, EPOLL_CTL_ADD, false);
}

static void write_requests(struct connection *connection)
{
    while (connection->written < connection->issued) {
        struct iovec parts[PARTS_MAX];
        size_t count = 0;
        uint64_t at = connection->written;
        do {
            parts[count++] = head_of(connection, at);
            parts[count++] = (struct iovec){body.bytes, body.count};
        } while (++at < connection->issued && count < PARTS_MAX);
        ssize_t sent = payload_send(connection->fd, parts, count, connection->offset);
        if (sent < 0)
            fail("send: %s", strerror(errno));
        if (sent == 0) {
            if (!connection->wants_write)
                watch(connection, EPOLL_CTL_MOD, true);
            return;
        }
        connection->offset += (size_t)sent;
        while (connection->written < connection->issued) {
            size_t length = head_of(connection, connection->written).iov_len + body.count;
            if (connection->offset < length)
                break;
            connection->offset -= length;
            connection->written += 1;
        }
    }
    if (connection->wants_write)
        watch(connection, EPOLL_CTL_MOD, false);
}

static void check(const struct message *response)
{
    const char *head = response->head;
    if (strncmp(head, "HTTP/1.1 200 ", 13) != 0)
        fail("expected status 200, found: %.*s", (int)strcspn(head, "\r"), head);
    if (!response->framed)
        fail("a response does not say how long it is");
    if (response->body_bytes != options.size)
        fail("expected a body of %zu bytes, found %zu", options.size, response->body_bytes);
}

static void take_response(struct connection *connection)
{
    check(&connection->response);
    message_reset(&connection->response);
    connection->answered += 1;
    if (stretch.latencies != NULL)
        stretch.latencies[stretch.answered] = now() - connection->due;
    stretch.answered += 1;
    places.connection[places.freed++ % places.room] = (uint32_t)(connection - connections);
    if (options.per_request) {
        close(connection->fd);
        connection->fd = -1;
    }
}

static void read_responses(struct connection *connection)
{
    ssize_t count = recv(connection->fd, input, sizeof input, 0);
    if (count < 0 && errno == EAGAIN)
        return;
    if (count < 0)
        fail("receive: %s", strerror(errno));
    if (count == 0)
        fail("a connection ended with %" PRIu64 " requests unanswered, after %" PRIu64 " answers",
             connection->issued - connection->answered, connection->answered);
    for (ssize_t at = 0; at < count;) {
        if (connection->fd < 0 || connection->answered == connection->issued)
            fail("bytes after the response");
        ssize_t taken = message_take(&connection->response, input + at, (size_t)(count - at));
        if (taken < 0)
            fail("a response is malformed");
        at += taken;
        if (connection->response.part == COMPLETE)
            take_response(connection);
    }
}

// --- The loop

static uint64_t next_due(void)
{
    if (stretch.rate == 0)
        return 0;
    return stretch.began + (uint64_t)((double)stretch.issued / stretch.rate * (double)SECOND);
}

static bool more_to_issue(void)
{
    return stretch.issued < stretch.requests && (stretch.ends == 0 || now() < stretch.ends);
}

static bool can_issue(void)
{
    return places.taken < places.freed
        && stretch.issued - stretch.answered < stretch.in_flight_max && more_to_issue();
}

static void issue_requests(void)
{
    while (can_issue()) {
        uint64_t due = next_due();
        if (due > 0 && due > now())
            return;
        uint32_t index = places.connection[places.taken++ % places.room];
        struct connection *connection = &connections[index];
        if (connection->fd < 0)
            open_connection(connection);
        connection->due = due;
        connection->issued += 1;
        stretch.issued += 1;
        write_requests(connection);
    }
}

/* Waits for sockets; in the open loop no longer than until the next request is due. */
static int wait_for_events(struct epoll_event *events, uint64_t deadline)
{
    uint64_t until = deadline, time = now();
    if (can_issue() && next_due() < until)
        until = next_due();
    uint64_t left = until > time ? until - time : 0;
    struct timespec timeout = {(time_t)(left / SECOND), (long)(left % SECOND)};
    return epoll_pwait2(epoll, events, EVENTS_MAX, &timeout, NULL);
}

static void handle(const struct epoll_event *event)
{
    struct connection *connection = event->data.ptr;
    if (event->events & EPOLLOUT)
        write_requests(connection);
    if (event->events & ~(uint32_t)EPOLLOUT)
        read_responses(connection);
    issue_requests();
}

/* Runs the stretch to its end; returns how long it took, in nanoseconds. */
static uint64_t drive(void)
{
    stretch.began = now();
    uint64_t deadline = stretch.began + (uint64_t)(options.timeout * (double)SECOND);
    issue_requests();
    while (stretch.answered < stretch.issued || more_to_issue()) {
        if (now() > deadline)
            fail("gave up after %.0f seconds", options.timeout);
        struct epoll_event events[EVENTS_MAX];
        int ready = wait_for_events(events, deadline);
        for (int at = 0; at < ready; at++)
            handle(&events[at]);
        issue_requests();
    }
    return now() - stretch.began;
}

static void open_all(void)
{
    connections = allocate(options.connections, sizeof *connections);
    places.room = (uint64_t)options.connections * options.pipeline;
    places.connection = allocate(places.room, sizeof *places.connection);
    for (uint64_t at = 0; at < places.room; at++)
        places.connection[places.freed++] = (uint32_t)(at % options.connections);
    for (uint32_t at = 0; at < options.connections; at++)
        connections[at].fd = -1;
    if (options.per_request)
        return;
    stretch.requests = options.connections;
    stretch.in_flight_max = OPENING_MAX;
    drive();
}

static void await_start(void)
{
    printf("ready\n");
    fflush(stdout);
    char line[8];
    if (fgets(line, sizeof line, stdin) == NULL)
        exit(0); /* whoever measures went away */
}

/* Connections that were only held must still be open. */
static void check_held(void)
{
    for (uint32_t at = 0; at < options.connections && !options.per_request; at++)
        if (recv(connections[at].fd, input, 1, MSG_PEEK) >= 0 || errno != EAGAIN)
            fail("connection %" PRIu32 " was not held", at);
}

static void measure(void)
{
    memset(&stretch, 0, sizeof stretch);
    stretch.requests = options.requests;
    stretch.rate = options.rate;
    stretch.in_flight_max = options.in_flight > 0 ? options.in_flight : UINT64_MAX;
    if (options.seconds > 0) {
        stretch.requests = UINT64_MAX;
        stretch.ends = now() + (uint64_t)(options.seconds * (double)SECOND);
    }
    if (options.rate > 0)
        stretch.latencies = allocate(options.requests + 1, sizeof *stretch.latencies);
    uint64_t took = drive();
    printf("{\"requests\": %" PRIu64 ", \"seconds\": %.6f", stretch.answered,
           (double)took / (double)SECOND);
}

static int by_size(const void *left, const void *right)
{
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static void print_latencies(void)
{
    qsort(stretch.latencies, stretch.answered, sizeof *stretch.latencies, by_size);
    static const struct {
        const char *name;
        double rank;
    } percentiles[] = {{"p50_us", 0.5}, {"p99_us", 0.99}, {"p999_us", 0.999}};
    for (size_t at = 0; at < 3; at++) {
        uint64_t rank = (uint64_t)((double)stretch.answered * percentiles[at].rank);
        printf(", \"%s\": %.1f", percentiles[at].name, (double)stretch.latencies[rank] / 1000);
    }
}

// --- Options

static void read_options(int count, char **arguments)
{
    static const struct option names[] = {
        {"port", 1, NULL, 'p'}, {"connections", 1, NULL, 'c'}, {"requests", 1, NULL, 'n'},
        {"seconds", 1, NULL, 's'}, {"in-flight", 1, NULL, 'f'}, {"pipeline", 1, NULL, 'l'},
        {"rate", 1, NULL, 'r'}, {"per-request", 0, NULL, 'x'}, {"keys", 1, NULL, 'k'},
        {"prefix", 1, NULL, 'u'}, {"size", 1, NULL, 'z'}, {"chunked-down", 0, NULL, 'd'},
        {"body", 1, NULL, 'b'}, {"chunked-up", 0, NULL, 'e'}, {"timeout", 1, NULL, 't'},
        {"help", 0, NULL, 'h'}, {0},
    };
    int option;
    while ((option = getopt_long(count, arguments, "", names, NULL)) != -1) {
        switch (option) {
        case 'p': options.port = atoi(optarg); break;
        case 'c': options.connections = (uint32_t)atoi(optarg); break;
        case 'n': options.requests = strtoull(optarg, NULL, 10); break;
        case 's': options.seconds = atof(optarg); break;
        case 'f': options.in_flight = (uint32_t)atoi(optarg); break;
        case 'l': options.pipeline = (uint32_t)atoi(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'x': options.per_request = true; break;
        case 'k': options.keys = (uint32_t)atoi(optarg); break;
        case 'u': options.prefix = optarg; break;
        case 'z': options.size = strtoul(optarg, NULL, 10); break;
        case 'd': options.chunked_down = true; break;
        case 'b': options.body = strtoul(optarg, NULL, 10); break;
        case 'e': options.chunked_up = true; break;
        case 't': options.timeout = atof(optarg); break;
        case 'h': fputs(usage, stdout); exit(0);
        default: fputs(usage, stderr); exit(2);
        }
    }
    bool counts = options.port > 0 && options.connections > 0 && options.keys > 0
        && options.pipeline > 0 && options.pipeline <= PARTS_MAX / 2;
    bool modes = (options.rate == 0 || (options.pipeline == 1 && options.seconds == 0))
        && (!options.per_request || options.pipeline == 1);
    if (optind < count || !counts || !modes) {
        fputs(usage, stderr);
        exit(2);
    }
}

int main(int count, char **arguments)
{
    read_options(count, arguments);
    /* Without it the kernel may wake the open loop 50 microseconds late. */
    prctl(PR_SET_TIMERSLACK, 1);
    epoll = epoll_create1(0);
    make_requests();
    open_all();
    await_start();
    check_held();
    measure();
    if (options.rate > 0 && stretch.answered > 0)
        print_latencies();
    printf("}\n");
    return 0;
}
