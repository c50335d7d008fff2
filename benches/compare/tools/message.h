/* Reads HTTP/1.1 messages piece by piece, as a socket delivers them: heads, and bodies by length or
 * in chunks. The load generator and the backend share it, so both notice a message that is cut. */
#pragma once

#include <ctype.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/types.h>

#define HEAD_BYTES_MAX 2048

enum part { HEAD, BODY, CHUNK_SIZE, CHUNK_EXTENSION, CHUNK, CHUNK_END, TRAILER, COMPLETE };

struct message {
    enum part part;
    bool framed; /* the head says how long the body is */
    size_t body_bytes; /* how much of the body has come */
    size_t left; /* of the body or of the current chunk */
    size_t line_bytes; /* of the current trailer line */
    size_t head_bytes;
    char head[HEAD_BYTES_MAX + 1]; /* ends with NUL once it is complete */
};

static inline void message_reset(struct message *message)
{
    memset(message, 0, offsetof(struct message, head));
}

/* The value of a field, "name:" in lower case, up to the end of the head; NULL without one. */
static inline const char *message_field(const struct message *message, const char *name)
{
    const char *line = message->head;
    while ((line = strchr(line, '\n')) != NULL) {
        line += 1;
        if (strncasecmp(line, name, strlen(name)) == 0)
            return line + strlen(name) + strspn(line + strlen(name), " ");
    }
    return NULL;
}

/* What follows the head. */
static inline void message_begin_body(struct message *message)
{
    const char *length = message_field(message, "content-length:");
    const char *coding = message_field(message, "transfer-encoding:");
    message->framed = length != NULL || coding != NULL;
    message->left = length != NULL && coding == NULL ? strtoul(length, NULL, 10) : 0;
    if (coding != NULL)
        message->part = CHUNK_SIZE;
    else
        message->part = message->left > 0 ? BODY : COMPLETE;
}

/* Takes bytes of the head; returns how many, or -1 when the head is too long. */
static inline ssize_t message_take_head(struct message *message, const char *bytes, size_t count)
{
    size_t before = message->head_bytes;
    size_t room = HEAD_BYTES_MAX - before;
    size_t copied = count < room ? count : room;
    memcpy(message->head + before, bytes, copied);
    message->head_bytes += copied;
    size_t searched = before < 3 ? 0 : before - 3;
    const char *end =
        memmem(message->head + searched, message->head_bytes - searched, "\r\n\r\n", 4);
    if (end == NULL)
        return message->head_bytes == HEAD_BYTES_MAX ? -1 : (ssize_t)copied;
    message->head_bytes = (size_t)(end - message->head) + 4;
    message->head[message->head_bytes] = '\0';
    message_begin_body(message);
    return (ssize_t)(message->head_bytes - before);
}

/* Takes one byte of what stands around chunks; false when it cannot stand there. */
static inline bool message_take_framing(struct message *message, char byte)
{
    if (byte == '\r')
        return true;
    switch (message->part) {
    case CHUNK_SIZE:
        if (isxdigit((unsigned char)byte)) {
            int digit = isdigit((unsigned char)byte) ? byte - '0' : (byte | 0x20) - 'a' + 10;
            message->left = message->left * 16 + (size_t)digit;
            return true;
        }
        if (byte != '\n') {
            message->part = CHUNK_EXTENSION;
            return byte == ';' || byte == ' ';
        }
        message->part = message->left > 0 ? CHUNK : TRAILER;
        return true;
    case CHUNK_EXTENSION:
        if (byte == '\n')
            message->part = message->left > 0 ? CHUNK : TRAILER;
        return true;
    case CHUNK_END:
        message->part = CHUNK_SIZE;
        return byte == '\n';
    default: /* TRAILER: ends with an empty line */
        if (byte != '\n')
            message->line_bytes += 1;
        else if (message->line_bytes == 0)
            message->part = COMPLETE;
        else
            message->line_bytes = 0;
        return true;
    }
}

/* Takes bytes up to the end of the message; returns how many, or -1 when it is malformed. */
static inline ssize_t message_take(struct message *message, const char *bytes, size_t count)
{
    size_t at = 0;
    while (at < count && message->part != COMPLETE) {
        if (message->part == HEAD) {
            ssize_t taken = message_take_head(message, bytes + at, count - at);
            if (taken < 0)
                return -1;
            at += (size_t)taken;
        } else if (message->part == BODY || message->part == CHUNK) {
            size_t taken = message->left < count - at ? message->left : count - at;
            at += taken;
            message->left -= taken;
            message->body_bytes += taken;
            if (message->left == 0)
                message->part = message->part == BODY ? COMPLETE : CHUNK_END;
        } else if (!message_take_framing(message, bytes[at++])) {
            return -1;
        }
    }
    return (ssize_t)at;
}
