#include "handler/health.h"

#include <stdbool.h>

#include "handler/admin.h"

int health_write_live(void *context, struct buffer *body)
{
    (void)context;
    return buffer_append_string(body, "ok\n");
}

int health_write_ready(void *context, struct buffer *body)
{
    const bool *ready = context;
    int r = buffer_append_string(body, *ready ? "ready\n" : "stopping\n");

    if (r < 0)
        return r;
    return *ready ? ADMIN_OK : ADMIN_UNAVAILABLE;
}
