#include "connection/download.h"

#include <errno.h>

/* The spans of one piece of a body: head, size line, data, line end. */
struct spans {
    struct iovec items[4];
    int count;
};

static void add(struct spans *spans, struct span bytes)
{
    if (bytes.length > 0)
        spans->items[spans->count++] = (struct iovec){(char *)bytes.at, bytes.length};
}

static int out_of_memory(const char **ret_why)
{
    *ret_why = "there is no memory for its answer";
    return DOWNLOAD_BAD;
}

static int send_spans(
    struct download *download, struct spans *spans, struct download_client *client)
{
    if (spans->count == 0)
        return DOWNLOAD_OK;
    int r = flow_send(&download->flow, client->fd, spans->items, spans->count, &client->sent);
    return r < 0 ? DOWNLOAD_LEFT : DOWNLOAD_OK;
}

static void finish(struct download *download, struct span rest)
{
    download->state = DOWNLOAD_DONE;
    if (rest.length > 0)
        download->keep_alive = false;
}

static void add_length(struct download *download, struct span bytes, struct spans *spans)
{
    struct span data = bytes, rest = {NULL, 0};

    if (data.length >= download->left) {
        data.length = (size_t)download->left;
        rest = (struct span){bytes.at + data.length, bytes.length - data.length};
    }
    download->left -= data.length;
    add(spans, data);
    if (download->left == 0)
        finish(download, rest);
}

/* A body that ends with the connection: each piece is a chunk, for those who understand chunks. */
static int add_until_close(
    struct download *download, struct span bytes, struct buffer *line, struct spans *spans)
{
    if (download->body == FORWARD_CLOSE) {
        add(spans, bytes);
        return 0;
    }
    int r = chunked_append_size(line, bytes.length);
    add(spans, buffer_span(line));
    add(spans, bytes);
    add(spans, SPAN("\r\n"));
    return r;
}

static int add_run(struct download *download, const struct chunked_run *run, struct buffer *out)
{
    if (download->body == FORWARD_CHUNKED)
        return workspace_add_run(run, &download->pending, out);
    return run->trailer ? 0 : buffer_append(out, (struct span){run->at, run->length});
}

/* Chunks are made anew: of those in @bytes, @out gets the data in the client's framing. */
static int add_chunked(
    struct download *download, struct span bytes, struct buffer *out, struct spans *spans)
{
    struct chunked_run run;
    size_t consumed;
    int r = 0;

    while (bytes.length > 0 && download->chunked.state != CHUNKED_DONE && r == 0) {
        if (chunked_read(&download->chunked, bytes.at, bytes.length, &consumed, &run) != CHUNKED_OK)
            return -EBADMSG;
        bytes = (struct span){bytes.at + consumed, bytes.length - consumed};
        r = add_run(download, &run, out);
    }
    if (download->chunked.state == CHUNKED_DONE && r == 0) {
        if (download->body == FORWARD_CHUNKED)
            r = workspace_add_last_chunk(&download->pending, out);
        finish(download, bytes);
    }
    add(spans, buffer_span(out));
    return r;
}

static int add_body(
    struct download *download, struct span bytes, struct workspace *workspace, struct spans *spans)
{
    workspace->body.length = 0;
    switch (download->framing) {
    case RESPONSE_NO_BODY:
        finish(download, bytes);
        return 0;
    case RESPONSE_LENGTH:
        add_length(download, bytes, spans);
        return 0;
    case RESPONSE_CHUNKED:
        return add_chunked(download, bytes, &workspace->body, spans);
    case RESPONSE_CLOSE:
        return bytes.length > 0 ? add_until_close(download, bytes, &workspace->body, spans) : 0;
    }
    return -EBADMSG;
}

static int take_body(struct download *download, struct span bytes, struct workspace *workspace,
    struct spans *spans, struct download_client *client, const char **ret_why)
{
    int r = add_body(download, bytes, workspace, spans);

    if (r == -EBADMSG)
        *ret_why = "it sent a malformed chunk";
    if (r < 0)
        return r == -EBADMSG ? DOWNLOAD_BAD : out_of_memory(ret_why);
    r = send_spans(download, spans, client);
    return r == DOWNLOAD_OK && download->state == DOWNLOAD_DONE ? DOWNLOAD_COMPLETE : r;
}

/* The backend has closed: the end of a body that is framed so. */
static int take_end(struct download *download, struct download_client *client, const char **ret_why)
{
    struct spans spans = {.count = 0};

    if (download->state == DOWNLOAD_HEAD) {
        *ret_why = download->pending.length > 0 ? "it closed within the head of its answer"
                                                : "it closed before it answered";
        return DOWNLOAD_BAD;
    }
    if (download->framing != RESPONSE_CLOSE) {
        *ret_why = "it closed within its answer";
        return DOWNLOAD_BAD;
    }
    if (download->body == FORWARD_CHUNKED)
        add(&spans, SPAN("0\r\n\r\n"));
    download->state = DOWNLOAD_DONE;
    int r = send_spans(download, &spans, client);
    return r == DOWNLOAD_OK ? DOWNLOAD_COMPLETE : r;
}

static enum forward_body body_for(const struct response *response, unsigned minor)
{
    switch (response->framing) {
    case RESPONSE_NO_BODY:
        return FORWARD_NO_BODY;
    case RESPONSE_LENGTH:
        return FORWARD_LENGTH;
    default:
        return minor >= 1 ? FORWARD_CHUNKED : FORWARD_CLOSE;
    }
}

static void begin_body(
    struct download *download, const struct response *response, struct download_client *client)
{
    download->state = DOWNLOAD_BODY;
    download->framing = response->framing;
    download->body = body_for(response, client->minor);
    download->left = response->framing == RESPONSE_LENGTH ? response->content_length : 0;
    download->chunked = (struct chunked){0};
    download->keep_alive = response->keep_alive;
    client->status = response->status;
    client->close |= download->body == FORWARD_CLOSE;
}

/* The next bytes are added to it: a head is read whole. */
static int keep_head(struct download *download, struct span bytes, const char **ret_why)
{
    return buffer_append(&download->pending, bytes) < 0 ? out_of_memory(ret_why) : DOWNLOAD_OK;
}

/* 1xx. RFC 9110 §15.2: HTTP/1.0 knows none of them. */
static int take_interim(struct download *download, const struct response *response,
    struct workspace *workspace, struct download_client *client, const char **ret_why)
{
    struct spans spans = {.count = 0};

    if (response->status == 101 && !(response->upgrade && client->may_switch)) {
        *ret_why = "it switched protocols unasked, or did not say to which";
        return DOWNLOAD_BAD;
    }
    if (client->minor == 0)
        return DOWNLOAD_OK;
    workspace->head.length = 0;
    if (forward_response(response, client->minor, FORWARD_NO_BODY, false, NULL, &workspace->head) <
        0)
        return out_of_memory(ret_why);
    add(&spans, buffer_span(&workspace->head));
    uint64_t sent = client->sent;
    int r = send_spans(download, &spans, client);
    client->sent = sent; /* none of the answer's bytes */
    client->interim++;
    if (r == DOWNLOAD_OK && response->status == 101) {
        client->status = 101;
        return DOWNLOAD_SWITCHED;
    }
    return r;
}

/* A final head is complete. */
static int take_final(struct download *download, const struct response *response, struct span rest,
    struct workspace *workspace, struct download_client *client, const char **ret_why)
{
    struct spans spans = {.count = 0};

    begin_body(download, response, client);
    workspace->head.length = 0;
    if (forward_response(response, client->minor, download->body, client->close, client->date,
            &workspace->head) < 0)
        return out_of_memory(ret_why);
    client->head_length = workspace->head.length;
    add(&spans, buffer_span(&workspace->head));
    int r = take_body(download, rest, workspace, &spans, client, ret_why);
    if (r == DOWNLOAD_BAD) { /* nothing of it has been sent: another answer is possible */
        download->state = DOWNLOAD_HEAD;
        client->status = 0;
        client->head_length = 0;
    }
    return r;
}

/*
 * Reads as many heads as @bytes hold. What is left after an interim one is the next; after 101, the
 * first bytes of the tunnel.
 */
static int take_heads(struct download *download, struct span bytes, struct workspace *workspace,
    struct download_client *client, struct span *ret_rest, const char **ret_why)
{
    static const struct head_limits limits = {.size = PIECE_SIZE, .fields = REQUEST_FIELDS_MAX};
    struct response *response = &workspace->response;

    while (bytes.length > 0) {
        int r = response_parse(bytes, client->head_request, &limits, response, ret_why);
        if (r == RESPONSE_BAD)
            return DOWNLOAD_BAD;
        if (r == RESPONSE_MORE)
            return keep_head(download, bytes, ret_why);
        bytes.at += response->head_length;
        bytes.length -= response->head_length;
        if (response->status >= 200)
            return take_final(download, response, bytes, workspace, client, ret_why);
        r = take_interim(download, response, workspace, client, ret_why);
        if (r == DOWNLOAD_SWITCHED) {
            workspace->body.length = 0;
            if (buffer_append(&workspace->body, bytes) < 0)
                return DOWNLOAD_LEFT;
            *ret_rest = buffer_span(&workspace->body);
        }
        if (r != DOWNLOAD_OK)
            return r;
    }
    return DOWNLOAD_OK;
}

static int take_head(struct download *download, struct span bytes, struct workspace *workspace,
    struct download_client *client, struct span *ret_rest, const char **ret_why)
{
    CLEANUP_BUFFER struct buffer whole = download->pending;

    download->pending = (struct buffer){0};
    if (whole.length > 0) {
        if (buffer_append(&whole, bytes) < 0)
            return out_of_memory(ret_why);
        bytes = buffer_span(&whole);
    }
    return take_heads(download, bytes, workspace, client, ret_rest, ret_why);
}

int download_take(struct download *download, struct span bytes, struct workspace *workspace,
    struct download_client *client, struct span *ret_rest, const char **ret_why)
{
    struct spans spans = {.count = 0};

    if (bytes.length == 0)
        return take_end(download, client, ret_why);
    switch (download->state) {
    case DOWNLOAD_HEAD:
        return take_head(download, bytes, workspace, client, ret_rest, ret_why);
    case DOWNLOAD_BODY:
        return take_body(download, bytes, workspace, &spans, client, ret_why);
    case DOWNLOAD_DONE:
        break;
    }
    download->keep_alive = false;
    return DOWNLOAD_OK;
}

void download_clear(struct download *download)
{
    flow_clear(&download->flow);
    buffer_clear(&download->pending);
}
