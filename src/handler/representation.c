#include "handler/representation.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>

#include "base/fd.h"
#include "http/date.h"
#include "http/precondition.h"
#include "http/range.h"

static_assert(2 * REPRESENTATION_RANGES_MAX + 1 <= ANSWER_PARTS_MAX, "as the header says");

#define BOUNDARY_MAX 33 /* 32 digits */

void representation_close(struct representation *representation)
{
    if (!representation->lent)
        (void)fd_close(representation->fd);
    representation->fd = -1;
}

/* See the header for the choice. */
static void make_etag(
    const struct stat *stat, const char *coding, char text[static REPRESENTATION_ETAG_MAX])
{
    char inode[24] = "";

    if (stat->st_mtim.tv_nsec == 0)
        (void)snprintf(inode, sizeof inode, "-%jx", (uintmax_t)stat->st_ino);
    (void)snprintf(text, REPRESENTATION_ETAG_MAX, "\"%jx.%lx-%jx%s%s%s\"",
        (uintmax_t)stat->st_mtim.tv_sec, (unsigned long)stat->st_mtim.tv_nsec,
        (uintmax_t)stat->st_size, inode, coding ? "-" : "", coding ? coding : "");
}

static void make_validators(struct representation *representation, time_t now)
{
    struct validators *validators = &representation->validators;
    time_t modified = representation->stat.st_mtim.tv_sec;

    /* RFC 9110 §8.8.2.1: no Last-Modified later than Date. */
    validators->modified = modified < now ? modified : now;
    make_etag(&representation->stat, representation->coding, validators->etag);
}

/* The fields that a 304 has as well (RFC 9110 §15.4.5). */
static void add_common(struct answer *answer, const struct representation *representation)
{
    answer_field(answer, "ETag", "%s", representation->validators.etag);
    if (representation->cache_control)
        answer_field(answer, "Cache-Control", "%s", representation->cache_control);
    if (representation->negotiated)
        answer_field(answer, "Vary", "%s", "Accept-Encoding");
}

/* What a 200 and every 206 say. */
static void add_description(struct answer *answer, const struct representation *representation)
{
    char modified[DATE_TEXT_MAX];

    add_common(answer, representation);
    date_format(representation->validators.modified, modified);
    answer_field(answer, "Last-Modified", "%s", modified);
    answer_field(answer, "Accept-Ranges", "%s", "bytes");
}

static void add_type(struct answer *answer, const struct representation *representation)
{
    answer_field(answer, "Content-Type", "%s", representation->media_type);
    if (representation->coding)
        answer_field(answer, "Content-Encoding", "%s", representation->coding);
}

/* A piece of the file, of which the first one hands it to the answer. */
static void add_piece(
    struct answer *answer, struct representation *representation, uint64_t offset, uint64_t length)
{
    if (representation->content.at) {
        answer_bytes(answer, (struct span){representation->content.at + offset, length});
        return;
    }
    if (representation->fd >= 0 && representation->lent)
        answer_lend_file(answer, TAKE_FD(representation->fd));
    else if (representation->fd >= 0)
        answer_file(answer, TAKE_FD(representation->fd));
    answer_file_part(answer, offset, length);
}

static void answer_whole(struct answer *answer, struct representation *representation)
{
    answer->status = 200;
    if (representation->fields.at) {
        answer_fields(answer, representation->fields);
    } else {
        add_type(answer, representation);
        add_description(answer, representation);
    }
    add_piece(answer, representation, 0, (uint64_t)representation->stat.st_size);
}

static void answer_range(
    struct answer *answer, struct representation *representation, const struct range *range)
{
    answer->status = 206;
    add_type(answer, representation);
    add_description(answer, representation);
    answer_field(answer, "Content-Range", "bytes %" PRIu64 "-%" PRIu64 "/%jd", range->offset,
        range->offset + range->length - 1, (intmax_t)representation->stat.st_size);
    add_piece(answer, representation, range->offset, range->length);
}

/*
 * RFC 2046 §5.1.1: must not occur in the parts. Chance, not a counter, so that nobody can put the
 * next one into a file on purpose. Returns 0 or -errno.
 */
static int make_boundary(char text[static BOUNDARY_MAX])
{
    uint64_t random[2];

    if (getrandom(random, sizeof random, 0) != sizeof random)
        return -errno;
    (void)snprintf(text, BOUNDARY_MAX, "%016" PRIx64 "%016" PRIx64, random[0], random[1]);
    return 0;
}

/* The head of one part. Type and coding are those of the parts, not of the answer. */
static void add_part_head(struct answer *answer, const char *boundary,
    const struct representation *representation, const struct range *range)
{
    const char *coding = representation->coding;
    CLEANUP_BUFFER struct buffer head = {0};

    int r = buffer_printf(&head,
        "%s--%s\r\nContent-Type: %s\r\n%s%s%sContent-Range: bytes %" PRIu64 "-%" PRIu64
        "/%jd\r\n\r\n",
        answer->part_count > 0 ? "\r\n" : "", boundary, representation->media_type,
        coding ? "Content-Encoding: " : "", coding ? coding : "", coding ? "\r\n" : "",
        range->offset, range->offset + range->length - 1, (intmax_t)representation->stat.st_size);
    if (r < 0)
        answer->failed = true;
    answer_bytes(answer, buffer_span(&head));
}

/* multipart/byteranges (RFC 9110 §14.6). Returns 0 or -errno. */
static int answer_ranges(struct answer *answer, struct representation *representation,
    const struct range *ranges, size_t count)
{
    char boundary[BOUNDARY_MAX], end[BOUNDARY_MAX + 8];
    int r = make_boundary(boundary);

    if (r < 0)
        return r;
    answer->status = 206;
    answer_field(answer, "Content-Type", "multipart/byteranges; boundary=%s", boundary);
    add_description(answer, representation);
    for (size_t i = 0; i < count; i++) {
        add_part_head(answer, boundary, representation, &ranges[i]);
        add_piece(answer, representation, ranges[i].offset, ranges[i].length);
    }
    (void)snprintf(end, sizeof end, "\r\n--%s--\r\n", boundary);
    answer_bytes(answer, span_of(end));
    return 0;
}

/* Ranges that name bytes more than once can ask for more than there is (RFC 9110 §17.15). */
static bool exceed(const struct range *ranges, size_t count, uint64_t size)
{
    for (size_t i = 0; i < count; i++) {
        if (ranges[i].length > size)
            return true;
        size -= ranges[i].length;
    }
    return false;
}

/* What the request asks for, as range_parse() says it. */
static int wanted_ranges(const struct request *request, const struct representation *representation,
    time_t now, struct range *ranges, size_t *count)
{
    const struct validators *validators = &representation->validators;
    uint64_t size = (uint64_t)representation->stat.st_size;
    struct span value = request_field(request, "range");

    /* RFC 9110 §14.2: for GET alone. It is no list, so a second field makes it malformed. */
    if (!value.at || request->method != METHOD_GET || request_field_count(request, "range") > 1 ||
        !precondition_range_applies(request, span_of(validators->etag), validators->modified, now))
        return RANGE_WHOLE;
    int outcome = range_parse(value, size, ranges, count);
    return outcome == RANGE_PARTIAL && exceed(ranges, *count, size) ? RANGE_WHOLE : outcome;
}

int representation_answer(struct representation *representation, const struct request *request,
    size_t max_ranges, time_t now, struct answer *answer)
{
    const struct validators *validators = &representation->validators;
    struct range ranges[REPRESENTATION_RANGES_MAX];
    size_t count = max_ranges < REPRESENTATION_RANGES_MAX ? max_ranges : REPRESENTATION_RANGES_MAX;

    if (!representation->fields.at)
        make_validators(representation, now);
    switch (precondition_check(request, span_of(validators->etag), validators->modified, now)) {
    case PRECONDITION_FAILED:
        return 412;
    case PRECONDITION_NOT_MODIFIED:
        answer->status = 304;
        add_common(answer, representation);
        return 0;
    }
    switch (wanted_ranges(request, representation, now, ranges, &count)) {
    case RANGE_UNSATISFIABLE:
        return 416;
    case RANGE_PARTIAL:
        if (count > 1)
            return answer_ranges(answer, representation, ranges, count);
        answer_range(answer, representation, ranges);
        return 0;
    }
    answer_whole(answer, representation);
    return 0;
}
