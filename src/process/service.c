#include "process/service.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/fd.h"
#include "handler/health.h"
#include "handler/router.h"
#include "http/media.h"
#include "observe/report.h"

#define MEDIA_TYPES_FILE "/etc/mime.types"
#define MEDIA_TYPES_SIZE_MAX (4u << 20)

struct service {
    const struct board *board;
    struct media_types *media_types;
    struct upstreams *upstreams; /* NULL in a check */
    struct router *router;
    struct admin admin;
    struct admin_page pages[4];
};

/* Systems without the table have the common types all the same (media.h). */
static int load_media_types(struct media_types **ret)
{
    CLEANUP_FD int fd = open(MEDIA_TYPES_FILE, O_RDONLY | O_CLOEXEC);
    char *text = NULL;
    size_t length = 0;

    if (fd < 0 || fd_read_all(fd, MEDIA_TYPES_SIZE_MAX, &text, &length) < 0)
        length = 0;
    int r = media_types_new((struct span){text, length}, ret);
    free(text);
    return r;
}

static int write_ready(void *context, struct buffer *body)
{
    const struct board *board = context;
    bool ready = !board->head->stopping;

    return health_write_ready(&ready, body);
}

static int write_metrics(void *context, struct buffer *body)
{
    return report_prometheus(context, body);
}

static int write_status(void *context, struct buffer *body)
{
    return report_json(context, body);
}

int service_new(const struct config *config, const struct board *board, unsigned slot,
    struct ev_loop *loop, struct counters *counters, struct service **ret, struct reason *reason)
{
    struct service *service = calloc(1, sizeof *service);

    if (!service)
        return reason_set(reason, -ENOMEM, "out of memory");
    int r = load_media_types(&service->media_types);
    if (r < 0)
        (void)reason_set(reason, r, "the media types cannot be loaded: %s", strerror(-r));
    if (r == 0 && loop)
        r = upstreams_new(config, loop, counters, board, slot, &service->upstreams, reason);
    if (r == 0)
        r = router_new(
            config, service->media_types, service->upstreams, loop, &service->router, reason);
    if (r < 0) {
        service_free(service);
        return r;
    }
    service->board = board;
    void *context = (void *)board;
    service->pages[0] = (struct admin_page){"/livez", HEALTH_CONTENT_TYPE, health_write_live, NULL};
    service->pages[1] = (struct admin_page){"/readyz", HEALTH_CONTENT_TYPE, write_ready, context};
    service->pages[2] = (struct admin_page){
        "/metrics", "text/plain; version=0.0.4; charset=utf-8", write_metrics, context};
    service->pages[3] = (struct admin_page){"/status", "application/json", write_status, context};
    admin_init(&service->admin, service->pages, 4);
    *ret = service;
    return 0;
}

void service_free(struct service *service)
{
    if (!service)
        return;
    router_free(service->router);
    upstreams_free(service->upstreams);
    media_types_free(service->media_types);
    free(service);
}

struct handler *service_route(struct service *service, bool admin, const struct request *request)
{
    return admin ? &service->admin.handler : router_find(service->router, request);
}

struct upstreams *service_upstreams(struct service *service)
{
    return service->upstreams;
}

void service_apply_pauses(struct service *service)
{
    upstreams_apply_pauses(service->upstreams, service->board);
}
