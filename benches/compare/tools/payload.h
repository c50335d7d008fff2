/* Makes bodies, plain and in chunks, and sends them with their heads. */
#pragma once

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#define CHUNK_BYTES 16384

struct payload {
    char *bytes;
    size_t count;
};

static inline struct payload payload_make(size_t body_bytes, bool chunked)
{
    size_t chunks = body_bytes / CHUNK_BYTES + 1;
    struct payload payload = {.bytes = malloc(body_bytes + chunks * 16 + 16)};
    if (payload.bytes == NULL)
        abort();
    if (!chunked) {
        memset(payload.bytes, 'x', body_bytes);
        payload.count = body_bytes;
        return payload;
    }
    char *at = payload.bytes;
    for (size_t left = body_bytes; left > 0;) {
        size_t chunk = left < CHUNK_BYTES ? left : CHUNK_BYTES;
        at += sprintf(at, "%zx\r\n", chunk);
        memset(at, 'x', chunk);
        at += chunk;
        at += sprintf(at, "\r\n");
        left -= chunk;
    }
    at += sprintf(at, "0\r\n\r\n");
    payload.count = (size_t)(at - payload.bytes);
    return payload;
}

/* Sends the parts but for their first `skip` bytes; how many bytes went, 0 when the socket takes
 * none now, -1 when it is broken. */
static inline ssize_t payload_send(int fd, struct iovec *parts, size_t count, size_t skip)
{
    while (count > 1 && skip >= parts->iov_len) {
        skip -= parts->iov_len;
        parts += 1;
        count -= 1;
    }
    parts->iov_base = (char *)parts->iov_base + skip;
    parts->iov_len -= skip;
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = count};
    ssize_t sent = sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EAGAIN)
        return 0;
    return sent;
}
