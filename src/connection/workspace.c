#include "connection/workspace.h"

#include "http/forward.h"

static int add_chunk(struct span data, struct buffer *out)
{
    int r = chunked_append_size(out, data.length);

    if (r == 0)
        r = buffer_append(out, data);
    return r < 0 ? r : buffer_append(out, SPAN("\r\n"));
}

int workspace_add_run(const struct chunked_run *run, struct buffer *trailer, struct buffer *out)
{
    struct span bytes = {run->at, run->length};

    if (bytes.length == 0)
        return 0;
    return run->trailer ? buffer_append(trailer, bytes) : add_chunk(bytes, out);
}

int workspace_add_last_chunk(struct buffer *trailer, struct buffer *out)
{
    int r = buffer_append(out, SPAN("0\r\n"));

    if (r == 0 && trailer->length > 0)
        r = forward_trailers(buffer_span(trailer), out);
    buffer_clear(trailer);
    return r < 0 ? r : buffer_append(out, SPAN("\r\n"));
}
