#include "handler/admin.h"

static const struct admin_page *find_page(const struct admin *admin, struct span path)
{
    for (size_t i = 0; i < admin->page_count; i++)
        if (span_equal(span_of(admin->pages[i].path), path))
            return &admin->pages[i];
    return NULL;
}

static void answer_page(const struct admin_page *page, struct answer *answer)
{
    CLEANUP_BUFFER struct buffer body = {0};
    int r = page->write(page->context, &body);

    if (r < 0) {
        answer_text(answer, 500);
    } else {
        answer->status = r == ADMIN_OK ? 200 : 503;
        answer_field(answer, "Content-Type", "%s", page->content_type);
        answer_bytes(answer, buffer_span(&body));
    }
    answer_field(answer, "Cache-Control", "%s", "no-store");
}

static void admin_answer(
    struct handler *handler, const struct request *request, struct answer *answer)
{
    const struct admin *admin = (const struct admin *)handler;
    const struct admin_page *page = find_page(admin, request->path);

    if (!page) {
        answer_text(answer, 404);
    } else if (request->method != METHOD_GET && request->method != METHOD_HEAD) {
        answer_text(answer, 405);
        answer_field(answer, "Allow", "%s", "GET, HEAD");
    } else {
        answer_page(page, answer);
    }
}

void admin_init(struct admin *admin, const struct admin_page *pages, size_t count)
{
    *admin = (struct admin){
        .handler = {.answer = admin_answer},
        .pages = pages,
        .page_count = count,
    };
}
