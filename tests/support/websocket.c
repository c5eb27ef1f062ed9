#include "websocket.h"

#include <errno.h>
#include <string.h>

static void mask_bytes(char *bytes, size_t length, const unsigned char *mask, uint64_t at)
{
    unsigned char turned[4]; /* the mask as it stands at the first byte */
    uint32_t mask_word, word;
    size_t i = 0;

    for (size_t n = 0; n < 4; n++)
        turned[n] = mask[(at + n) % 4];
    memcpy(&mask_word, turned, 4);
    for (; i + 4 <= length; i += 4) {
        memcpy(&word, bytes + i, 4);
        word ^= mask_word;
        memcpy(bytes + i, &word, 4);
    }
    for (; i < length; i++)
        bytes[i] = (char)((unsigned char)bytes[i] ^ turned[i % 4]);
}

int websocket_append_head(struct buffer *out, enum websocket_opcode opcode, bool final,
    uint64_t length, const unsigned char *mask)
{
    unsigned char head[14] = {(unsigned char)((final ? 0x80 : 0) | opcode)};
    size_t extended = length < 126 ? 0 : length < 65536 ? 2 : 8, n = 2;

    head[1] = (unsigned char)((mask ? 0x80 : 0) | (extended == 0      ? length
                                                      : extended == 2 ? 126
                                                                      : 127));
    for (size_t i = extended; i-- > 0;)
        head[n++] = (unsigned char)(length >> 8 * i);
    if (mask) {
        memcpy(head + n, mask, 4);
        n += 4;
    }
    return buffer_append(out, (struct span){(const char *)head, n});
}

int websocket_append_frame(struct buffer *out, enum websocket_opcode opcode, bool final,
    struct span payload, const unsigned char *mask)
{
    int r = websocket_append_head(out, opcode, final, payload.length, mask);
    size_t at = out->length;

    if (r == 0)
        r = buffer_append(out, payload);
    if (r == 0 && mask)
        mask_bytes(out->bytes + at, payload.length, mask, 0);
    return r;
}

static int refuse(struct reason *reason, const char *what)
{
    return reason_set(reason, -EBADMSG, "a frame %s", what);
}

/* How long the head is, as far as the bytes that are there tell. */
static size_t head_needs(const struct websocket_reader *reader)
{
    unsigned length = reader->head[1] & 0x7f;

    if (reader->head_length < 2)
        return 2;
    return 2 + (length == 127 ? 8 : length == 126 ? 2 : 0) + (reader->head[1] & 0x80 ? 4 : 0);
}

/* RFC 6455 §5.4 and §5.5: what may follow what. */
static int check_order(struct websocket_reader *reader, struct reason *reason)
{
    switch (reader->opcode) {
    case WEBSOCKET_CLOSE:
    case WEBSOCKET_PING:
    case WEBSOCKET_PONG:
        if (!reader->final || reader->length > WEBSOCKET_CONTROL_MAX)
            return refuse(reason, "of control that is fragmented or too long");
        return 0;
    case WEBSOCKET_CONTINUATION:
        if (!reader->in_message)
            return refuse(reason, "that continues nothing");
        break;
    case WEBSOCKET_TEXT:
    case WEBSOCKET_BINARY:
        if (reader->in_message)
            return refuse(reason, "that begins a message within another");
        break;
    default:
        return refuse(reason, "of an unknown kind");
    }
    reader->in_message = !reader->final;
    return 0;
}

static int begin_frame(struct websocket_reader *reader, struct reason *reason)
{
    const unsigned char *head = reader->head;
    bool masked = head[1] & 0x80;
    unsigned length = head[1] & 0x7f;
    size_t extended = length == 127 ? 8 : length == 126 ? 2 : 0;

    if (head[0] & 0x70)
        return refuse(reason, "with a reserved bit");
    if (masked != reader->masked)
        return refuse(reason, masked ? "of the server that is masked" : "that is not masked");
    reader->opcode = (enum websocket_opcode)(head[0] & 0x0f);
    reader->final = head[0] & 0x80;
    reader->length = extended > 0 ? 0 : length;
    for (size_t i = 0; i < extended; i++)
        reader->length = reader->length << 8 | head[2 + i];
    if ((extended == 2 && reader->length < 126) || (extended == 8 && reader->length < 65536))
        return refuse(reason, "with a length longer than it need be");
    if (masked)
        memcpy(reader->mask, head + 2 + extended, 4);
    reader->at = 0;
    reader->head_length = 0;
    reader->in_payload = true;
    return check_order(reader, reason);
}

int websocket_read(struct websocket_reader *reader, char **bytes, size_t *length,
    struct span *ret_payload, struct reason *reason)
{
    while (!reader->in_payload) {
        if (*length == 0)
            return 0;
        reader->head[reader->head_length++] = (unsigned char)**bytes;
        ++*bytes, --*length;
        if (reader->head_length < head_needs(reader))
            continue;
        int r = begin_frame(reader, reason);
        return r < 0 ? r : WEBSOCKET_BEGIN;
    }
    uint64_t left = reader->length - reader->at;
    if (left == 0) {
        reader->in_payload = false;
        return WEBSOCKET_END;
    }
    size_t piece = left < *length ? (size_t)left : *length;
    if (piece == 0)
        return 0;
    if (reader->masked)
        mask_bytes(*bytes, piece, reader->mask, reader->at);
    *ret_payload = (struct span){*bytes, piece};
    reader->at += piece;
    *bytes += piece, *length -= piece;
    return WEBSOCKET_PIECE;
}
