#include "connection/upload.h"

#include <errno.h>
#include <sys/socket.h>

#include "http/forward.h"

#define ROOM_LEAST 1024 /* less is not worth a recv(2): then what was sent on makes room */

bool upload_is_here(const struct reading *reading)
{
    const struct request *request = &reading->request;
    size_t have = reading->end - reading->start - request->head_length;

    return request->framing == FRAMING_NONE ||
           (request->framing == FRAMING_LENGTH && have >= request->content_length);
}

static struct span cut_length(struct reading *reading)
{
    struct span data = {reading->bytes + reading->body, reading->end - reading->body};

    if (data.length > reading->body_left)
        data.length = (size_t)reading->body_left;
    reading->body += data.length;
    reading->body_left -= data.length;
    reading->body_read += data.length;
    return data;
}

/* Reads the chunks that are there, and puts their data into new ones in @out. */
static int cut_chunks(struct upload *upload, struct reading *reading, struct buffer *out)
{
    struct chunked *chunked = &reading->chunked;
    struct chunked_run run;
    size_t consumed;
    int r = 0;

    while (chunked->state != CHUNKED_DONE && reading->body < reading->end && r == 0) {
        if (chunked_read(chunked, reading->bytes + reading->body, reading->end - reading->body,
                &consumed, &run) != CHUNKED_OK)
            return UPLOAD_MALFORMED;
        reading->body += consumed;
        if (!run.trailer)
            reading->body_read += run.length;
        r = workspace_add_run(&run, &upload->trailer, out);
    }
    if (chunked->state == CHUNKED_DONE && r == 0)
        r = workspace_add_last_chunk(&upload->trailer, out);
    return r;
}

/* Cuts off what there is of the body, in the form in which it is sent on. */
static int cut_body(struct upload *upload, struct reading *reading, struct workspace *workspace,
    uint64_t limit, struct span *ret)
{
    int r = 0;

    switch (reading->request.framing) {
    case FRAMING_NONE:
        *ret = (struct span){NULL, 0};
        upload->whole = true;
        break;
    case FRAMING_LENGTH:
        *ret = cut_length(reading);
        upload->whole = reading->body_left == 0;
        break;
    case FRAMING_CHUNKED:
        workspace->body.length = 0;
        r = cut_chunks(upload, reading, &workspace->body);
        *ret = buffer_span(&workspace->body);
        upload->whole = reading->chunked.state == CHUNKED_DONE;
        break;
    }
    return r == 0 && reading->body_read > limit ? UPLOAD_TOO_LARGE : r;
}

int upload_send(struct upload *upload, struct reading *reading, struct span head,
    struct workspace *workspace, uint64_t limit, int fd)
{
    struct span body;
    uint64_t sent = 0;

    upload_clear(upload);
    upload->replayable = true;
    reading_start_body(reading);
    int r = cut_body(upload, reading, workspace, limit, &body);
    if (r != 0)
        return r;
    struct iovec spans[] = {{(char *)head.at, head.length}, {(char *)body.at, body.length}};
    r = flow_send(&upload->flow, fd, spans, body.length > 0 ? 2 : 1, &sent);
    return r < 0 ? r : UPLOAD_OK;
}

/* Where the next piece is received: behind what is kept, or in its place. */
static struct iovec place_for_piece(struct upload *upload, struct reading *reading,
    struct workspace *workspace, const struct head_limits *limits)
{
    size_t room = reading_room(reading, limits);

    if (upload->replayable && room >= ROOM_LEAST)
        return (struct iovec){reading->bytes + reading->end, room};
    upload->replayable = false;
    reading->end = reading->body = reading->start + reading->request.head_length;
    if (reading->request.framing == FRAMING_LENGTH) /* as much as it is: what follows stays out */
        return (struct iovec){workspace->piece,
            reading->body_left < PIECE_SIZE ? (size_t)reading->body_left : PIECE_SIZE};
    return (struct iovec){reading->bytes + reading->end, reading->capacity - reading->end};
}

int upload_receive(struct upload *upload, struct reading *reading, struct workspace *workspace,
    const struct head_limits *limits, uint64_t limit, int from, int fd, uint64_t *received)
{
    struct iovec place = place_for_piece(upload, reading, workspace, limits);
    ssize_t n = recv(from, place.iov_base, place.iov_len, 0);
    struct span data = {place.iov_base, n > 0 ? (size_t)n : 0};
    uint64_t sent = 0;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return UPLOAD_OK;
    if (n <= 0)
        return UPLOAD_LEFT;
    *received += data.length;
    if (place.iov_base == workspace->piece) {
        reading->body_left -= data.length;
        reading->body_read += data.length;
        upload->whole = reading->body_left == 0;
    } else {
        reading->end += data.length;
        int r = cut_body(upload, reading, workspace, limit, &data);
        if (r != 0)
            return r;
    }
    int r = flow_send_span(&upload->flow, fd, data, &sent);
    return r < 0 ? r : UPLOAD_OK;
}

void upload_clear(struct upload *upload)
{
    flow_clear(&upload->flow);
    buffer_clear(&upload->trailer);
    upload->whole = false;
}
