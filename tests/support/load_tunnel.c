#include "load_tunnel.h"

#include <errno.h>
#include <string.h>

#include "load_random.h"

#define OFFSETS 65536 /* places where a message may begin */
#define FRAMES_MAX 4

/* ---- what is said ---- */

int phrases_init(struct phrases *phrases, struct range size)
{
    static const char groups[][5] = {
        "abcd", "h\xc3\xa9y", "\xf0\x9f\x8f\x83", "x\xc3\xbf ", "0123"};
    size_t length = (size_t)size.high + OFFSETS + 4;
    uint64_t random = 1;

    *phrases = (struct phrases){.size = size};
    if (buffer_reserve(&phrases->binary, length + 8) < 0 ||
        buffer_reserve(&phrases->text, length + 8) < 0)
        return -ENOMEM;
    for (; phrases->binary.length < length; phrases->binary.length += 8) {
        uint64_t word = random_next(&random);
        memcpy(phrases->binary.bytes + phrases->binary.length, &word, 8);
    }
    for (; phrases->text.length < length; phrases->text.length += 4)
        memcpy(phrases->text.bytes + phrases->text.length,
            groups[(random_next(&random) >> 32) % (sizeof groups / sizeof *groups)], 4);
    return 0;
}

void phrases_clear(struct phrases *phrases)
{
    buffer_clear(&phrases->binary);
    buffer_clear(&phrases->text);
}

static unsigned choose(uint64_t *random, unsigned count)
{
    return (unsigned)random_between(random, (struct range){0, count - 1});
}

static void pick(struct tunnel *tunnel, const struct phrases *phrases, uint64_t *random)
{
    bool text = tunnel->websocket && choose(random, 2) == 0;
    const struct buffer *from = text ? &phrases->text : &phrases->binary;
    size_t length = random_between(random, phrases->size), at = choose(random, OFFSETS);

    if (text) { /* whole characters */
        length &= ~(size_t)3;
        at &= ~(size_t)3;
    }
    tunnel->kind = text ? WEBSOCKET_TEXT : WEBSOCKET_BINARY;
    tunnel->expected = (struct span){from->bytes + at, length};
    tunnel->received = 0;
    tunnel->awaits_echo = true;
}

static void new_mask(uint64_t *random, unsigned char *ret)
{
    uint32_t word = (uint32_t)(random_next(random) >> 32);

    memcpy(ret, &word, 4);
}

static int say_ping(struct tunnel *tunnel, uint64_t *random)
{
    unsigned char mask[4];

    new_mask(random, tunnel->ping);
    new_mask(random, mask);
    tunnel->awaits_pong = true;
    return websocket_append_frame(&tunnel->out, WEBSOCKET_PING, true,
        (struct span){(const char *)tunnel->ping, sizeof tunnel->ping}, mask);
}

/* A quarter of the messages comes in several frames, cut anywhere; a quarter with a ping. */
static int say_frames(struct tunnel *tunnel, uint64_t *random)
{
    unsigned frames = choose(random, 4) == 0 ? 2 + choose(random, FRAMES_MAX - 1) : 1;
    unsigned ping = choose(random, 4) == 0 ? choose(random, frames) : frames;
    struct span rest = tunnel->expected;
    unsigned char mask[4];
    int r = 0;

    for (unsigned frame = 0; frame < frames && r == 0; frame++) {
        bool final = frame + 1 == frames;
        size_t length =
            final ? rest.length : random_between(random, (struct range){0, rest.length});
        if (frame == ping)
            r = say_ping(tunnel, random);
        new_mask(random, mask);
        if (r == 0)
            r = websocket_append_frame(&tunnel->out,
                frame == 0 ? tunnel->kind : WEBSOCKET_CONTINUATION, final,
                (struct span){rest.at, length}, mask);
        rest = (struct span){rest.at + length, rest.length - length};
    }
    return r;
}

int tunnel_say(struct tunnel *tunnel, const struct phrases *phrases, uint64_t *random)
{
    pick(tunnel, phrases, random);
    return tunnel->websocket ? say_frames(tunnel, random)
                             : buffer_append(&tunnel->out, tunnel->expected);
}

int tunnel_say_close(struct tunnel *tunnel)
{
    static const unsigned char mask[4] = {0x12, 0x34, 0x56, 0x78};

    return websocket_append_frame(
        &tunnel->out, WEBSOCKET_CLOSE, true, SPAN("\x03\xe8" /* 1000 */), mask);
}

void tunnel_note_sent(struct tunnel *tunnel, size_t length)
{
    tunnel->sent += length;
    if (tunnel->sent < tunnel->out.length)
        return;
    buffer_clear(&tunnel->out); /* most of the time there is nothing to send */
    tunnel->sent = 0;
}

/* ---- what comes back ---- */

static int take_piece(struct tunnel *tunnel, struct span piece, struct reason *reason)
{
    size_t left = tunnel->expected.length - tunnel->received;

    if (!tunnel->awaits_echo)
        return reason_set(reason, -EBADMSG, "%zu bytes that nobody asked for", piece.length);
    if (piece.length > left)
        return reason_set(reason, -EILSEQ, "%zu bytes more than were sent", piece.length - left);
    if (memcmp(tunnel->expected.at + tunnel->received, piece.at, piece.length) != 0)
        return reason_set(reason, -EILSEQ, "other bytes than were sent: from %zu to %zu of %zu",
            tunnel->received, tunnel->received + piece.length, tunnel->expected.length);
    tunnel->received += piece.length;
    return 0;
}

/* Whether nothing is awaited any more, from one moment to the next. */
static int end_echo(struct tunnel *tunnel)
{
    if (tunnel->awaits_echo || tunnel->awaits_pong)
        return 0;
    return TUNNEL_ECHOED;
}

static int end_data(struct tunnel *tunnel, struct reason *reason)
{
    if (!tunnel->awaits_echo)
        return reason_set(reason, -EBADMSG, "a message that nobody asked for");
    if (!tunnel->reader.final)
        return 0;
    if (tunnel->received < tunnel->expected.length)
        return reason_set(
            reason, -EILSEQ, "%zu bytes instead of %zu", tunnel->received, tunnel->expected.length);
    tunnel->awaits_echo = false;
    return end_echo(tunnel);
}

static int end_pong(struct tunnel *tunnel, struct reason *reason)
{
    if (!tunnel->awaits_pong || tunnel->control_length != sizeof tunnel->ping ||
        memcmp(tunnel->control, tunnel->ping, sizeof tunnel->ping) != 0)
        return reason_set(reason, -EILSEQ, "a pong that answers no ping");
    tunnel->awaits_pong = false;
    return end_echo(tunnel);
}

static int end_frame(struct tunnel *tunnel, struct reason *reason)
{
    static const unsigned char mask[4] = {0x9a, 0xbc, 0xde, 0xf0};

    switch (tunnel->reader.opcode) {
    case WEBSOCKET_PING:
        return websocket_append_frame(&tunnel->out, WEBSOCKET_PONG, true,
            (struct span){tunnel->control, tunnel->control_length}, mask);
    case WEBSOCKET_PONG:
        return end_pong(tunnel, reason);
    case WEBSOCKET_CLOSE:
        tunnel->closed = true;
        return TUNNEL_CLOSED;
    default:
        return end_data(tunnel, reason);
    }
}

static int begin_frame(struct tunnel *tunnel, struct reason *reason)
{
    enum websocket_opcode opcode = tunnel->reader.opcode;

    tunnel->control_length = 0;
    if ((opcode == WEBSOCKET_TEXT || opcode == WEBSOCKET_BINARY) && opcode != tunnel->kind)
        return reason_set(reason, -EILSEQ, "a message of the other kind");
    return 0;
}

static int take_payload(struct tunnel *tunnel, struct span piece, struct reason *reason)
{
    if (tunnel->reader.opcode < WEBSOCKET_CLOSE)
        return take_piece(tunnel, piece, reason);
    memcpy(tunnel->control + tunnel->control_length, piece.at, piece.length);
    tunnel->control_length += piece.length;
    return 0;
}

static int feed_frames(struct tunnel *tunnel, char *bytes, size_t length, struct reason *reason)
{
    struct span piece = {NULL, 0};
    int result = 0;

    while (result != TUNNEL_CLOSED) {
        int r = websocket_read(&tunnel->reader, &bytes, &length, &piece, reason);
        if (r <= 0)
            return r < 0 ? r : result;
        r = r == WEBSOCKET_BEGIN   ? begin_frame(tunnel, reason)
            : r == WEBSOCKET_PIECE ? take_payload(tunnel, piece, reason)
                                   : end_frame(tunnel, reason);
        if (r < 0)
            return r;
        if (r > 0)
            result = r;
    }
    return result;
}

int tunnel_feed(struct tunnel *tunnel, char *bytes, size_t length, struct reason *reason)
{
    if (tunnel->websocket)
        return feed_frames(tunnel, bytes, length, reason);
    int r = take_piece(tunnel, (struct span){bytes, length}, reason);
    if (r < 0 || tunnel->received < tunnel->expected.length)
        return r;
    tunnel->awaits_echo = false;
    return TUNNEL_ECHOED;
}

void tunnel_reset(struct tunnel *tunnel)
{
    bool websocket = tunnel->websocket;

    buffer_clear(&tunnel->out);
    *tunnel = (struct tunnel){.websocket = websocket};
}
