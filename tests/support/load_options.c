#include "load_options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

const char options_usage[] =
    "load [options] --group KIND:COUNT[:KEY=VALUE,...] ... http://ADDRESS[:PORT]/PATH\n"
    "load [options] --group ... --unix SOCKET [http://HOST/PATH]\n"
    "\n"
    "Clients that count every failed request and every closed connection of a server.\n"
    "Exits with 0 if there was none, 1 if there was one, 2 if it could not\n"
    "run. The report is one JSON object, the last line of stdout.\n"
    "\n"
    "Kinds of clients:\n"
    "  keepalive  one request after the other on one connection\n"
    "  connect    a connection for each request, which says Connection: close\n"
    "  slowhead   sends the request head in pieces: piece=1-5 (bytes), gap=1-5ms\n"
    "  download   reads slowly: rate=BYTES per second, rcvbuf=BYTES (16K); its timeout counts\n"
    "             from the last byte, its first content counts as the first answer, and when\n"
    "             the time is up it finishes at full speed\n"
    "  pipeline   depth=N (4) requests at once; \"{n}\" in path, expect and file is the place in\n"
    "             the pipeline, from 0\n"
    "  idle       one request, silence, and one request on the same connection at the end\n"
    "  slow       as keepalive, of answers that take their time: the timeout counts from the last\n"
    "             byte, the first content counts as the first answer\n"
    "  upload     POST with a body of size=BYTES (64K), coding=length|chunked, in pieces as\n"
    "             slowhead: piece=BYTES (0: as fast as it goes); its timeout counts from the last\n"
    "             piece. The answer says the length and the FNV-1a of the body: \"5 HASH\\n\"\n"
    "  events     an endless stream of server-sent events, numbered from 1: \"id: 1\", \"data: "
    "event\n"
    "             1\", an empty line. At the end one more is awaited\n"
    "  websocket  an upgrade, and then messages of size=0-4K bytes that are sent back: text and\n"
    "             binary, some in fragments, some with a ping. At the end one more, and a Close\n"
    "  raw        no HTTP: the same with bytes\n"
    "\n"
    "Keys of every kind that can have them (no value holds a comma):\n"
    "  path=/PATH  method=GET|HEAD  think=0-50ms (between an answer and the next request)\n"
    "  to=ADDRESS  in the place of the URL's\n"
    "  status=200  what is expected, and one of\n"
    "  expect=TEXT, file=PATH, hash=FNV-1a (64 bits, 16 hexadecimal digits)\n"
    "\n"
    "Options:\n"
    "  --duration TIME          end after 500ms, 5s, 1min, ...\n"
    "  --requests N             end after N requests, echoes of tunnels included (the last of "
    "idle\n"
    "                           clients, and of tunnels, come on top)\n"
    "  --until-stdin-closes     end when stdin is at its end\n"
    "  --timeout TIME           a request that takes longer has failed (10s)\n"
    "  --expect-body FILE       the content where a group expects none of its own\n"
    "  --rate N                 N requests per second over all keepalive clients, instead of "
    "their\n"
    "                           think time, once all had an answer; the latency then counts from\n"
    "                           when the request was due\n"
    "  --ramp N                 start a client only while fewer than N wait for their first "
    "answer\n"
    "                           (256)\n"
    "  --ready-fd FD            where to write the line \"running\" once every client had an "
    "answer (1)\n"
    "  --allow-close-idle       a close of an idle connection is no failure\n"
    "  --progress               totals on stderr, every second\n"
    "  --seed N                 of all random choices (1)\n"
    "  --unix SOCKET            connect to this socket\n"
    "\n"
    "SIGINT and SIGTERM end the run, SIGUSR1 writes the report so far to stderr.\n";

enum option_name {
    OPTION_GROUP,
    OPTION_UNIX,
    OPTION_DURATION,
    OPTION_REQUESTS,
    OPTION_UNTIL_STDIN_CLOSES,
    OPTION_TIMEOUT,
    OPTION_EXPECT_BODY,
    OPTION_RATE,
    OPTION_RAMP,
    OPTION_READY_FD,
    OPTION_ALLOW_CLOSE_IDLE,
    OPTION_PROGRESS,
    OPTION_SEED,
    OPTION_HELP,
};

static const struct option long_options[] = {
    {"group", required_argument, NULL, OPTION_GROUP},
    {"unix", required_argument, NULL, OPTION_UNIX},
    {"duration", required_argument, NULL, OPTION_DURATION},
    {"requests", required_argument, NULL, OPTION_REQUESTS},
    {"until-stdin-closes", no_argument, NULL, OPTION_UNTIL_STDIN_CLOSES},
    {"timeout", required_argument, NULL, OPTION_TIMEOUT},
    {"expect-body", required_argument, NULL, OPTION_EXPECT_BODY},
    {"rate", required_argument, NULL, OPTION_RATE},
    {"ramp", required_argument, NULL, OPTION_RAMP},
    {"ready-fd", required_argument, NULL, OPTION_READY_FD},
    {"allow-close-idle", no_argument, NULL, OPTION_ALLOW_CLOSE_IDLE},
    {"progress", no_argument, NULL, OPTION_PROGRESS},
    {"seed", required_argument, NULL, OPTION_SEED},
    {"help", no_argument, NULL, OPTION_HELP},
    {NULL, 0, NULL, 0},
};

static int add_group(struct options *options, const char *text, struct reason *reason)
{
    struct group *groups =
        reallocarray(options->groups, options->group_count + 1, sizeof *options->groups);

    if (!groups)
        return reason_set(reason, -ENOMEM, "out of memory");
    options->groups = groups;
    int r = group_parse(text, &groups[options->group_count], reason);
    if (r == 0)
        options->clients += groups[options->group_count++].clients;
    return r;
}

static int set_unix(struct options *options, const char *path, struct reason *reason)
{
    char text[ADDRESS_TEXT_MAX];

    if (strlen(path) + sizeof "unix:" > sizeof text)
        return reason_set(reason, -EINVAL, "'%s' is too long for a socket", path);
    (void)stpcpy(stpcpy(text, "unix:"), path);
    return address_parse(text, &options->target, reason);
}

static int positive(const char *text, uint64_t *ret)
{
    int r = span_to_u64(span_of(text), ret);

    return r == 0 && *ret == 0 ? -ERANGE : r;
}

/* The plan is made of microseconds. */
static int set_rate(const char *text, uint64_t *ret)
{
    int r = positive(text, ret);

    return r == 0 && *ret > USEC_PER_SEC ? -ERANGE : r;
}

static int set_time(const char *text, uint64_t *ret)
{
    int r = quantity_duration(span_of(text), ret);

    return r == 0 && *ret == 0 ? -ERANGE : r;
}

static int set_ready_fd(struct options *options, const char *text)
{
    uint64_t fd;
    int r = span_to_u64(span_of(text), &fd);

    if (r == 0 && fd <= INT_MAX)
        options->ready_fd = (int)fd;
    return r == 0 && fd > INT_MAX ? -ERANGE : r;
}

static int set_value(struct options *options, enum option_name option, const char *text)
{
    switch (option) {
    case OPTION_DURATION:
        return set_time(text, &options->duration_usec);
    case OPTION_TIMEOUT:
        return set_time(text, &options->timeout_usec);
    case OPTION_REQUESTS:
        return positive(text, &options->requests);
    case OPTION_RATE:
        return set_rate(text, &options->rate);
    case OPTION_RAMP:
        return positive(text, &options->ramp);
    case OPTION_SEED:
        return span_to_u64(span_of(text), &options->seed);
    case OPTION_READY_FD:
        return set_ready_fd(options, text);
    case OPTION_EXPECT_BODY:
        options->expect_file = text;
        return 0;
    case OPTION_UNTIL_STDIN_CLOSES:
        options->until_stdin_closes = true;
        return 0;
    case OPTION_ALLOW_CLOSE_IDLE:
        options->allow_close_idle = true;
        return 0;
    case OPTION_PROGRESS:
        options->progress = true;
        return 0;
    default:
        return -EINVAL;
    }
}

static int set_option(
    struct options *options, enum option_name option, const char *text, struct reason *reason)
{
    int r;

    switch (option) {
    case OPTION_HELP:
        options->help = true;
        return 0;
    case OPTION_GROUP:
        return add_group(options, text, reason);
    case OPTION_UNIX:
        return set_unix(options, text, reason);
    default:
        r = set_value(options, option, text);
        if (r < 0)
            return reason_set(
                reason, r, "'%s' is no value for --%s", text, long_options[option].name);
        return 0;
    }
}

/* The authority of the URL is the address as well, unless a socket was named; port 80 if none. */
static int set_target(struct options *options, struct reason *reason)
{
    const char *colon = strrchr(options->host, ':'), *bracket = strrchr(options->host, ']');
    CLEANUP_BUFFER struct buffer text = {0};

    if (options->target.length > 0)
        return 0;
    if (buffer_append_string(&text, options->host) < 0 ||
        (colon && colon > bracket ? 0 : buffer_append_string(&text, ":80")) < 0 ||
        !buffer_string(&text))
        return reason_set(reason, -ENOMEM, "out of memory");
    return address_parse(text.bytes, &options->target, reason);
}

static int set_url(struct options *options, const char *url, struct reason *reason)
{
    const char *authority = url + strlen("http://"), *path;

    if (strncmp(url, "http://", strlen("http://")) != 0)
        return reason_set(reason, -EINVAL, "'%s' is no http:// URL", url);
    path = authority + strcspn(authority, "/");
    options->path = *path ? path : "/";
    options->host = strndup(authority, (size_t)(path - authority));
    if (!options->host)
        return reason_set(reason, -ENOMEM, "out of memory");
    if (!*options->host || strpbrk(url, " \t\r\n"))
        return reason_set(reason, -EINVAL, "'%s' is no http:// URL", url);
    return set_target(options, reason);
}

static int check(const struct options *options, struct reason *reason)
{
    bool keepalive = false;

    for (size_t i = 0; i < options->group_count; i++)
        keepalive |= options->groups[i].kind == GROUP_KEEPALIVE;
    if (options->group_count == 0)
        return reason_set(reason, -EINVAL, "no --group: nobody would ask for anything");
    if (options->duration_usec == 0 && options->requests == 0 && !options->until_stdin_closes)
        return reason_set(
            reason, -EINVAL, "without end: give --duration, --requests or --until-stdin-closes");
    if (options->rate > 0 && !keepalive)
        return reason_set(reason, -EINVAL, "--rate is for keepalive clients, and there are none");
    if (fcntl(options->ready_fd, F_GETFD) < 0)
        return reason_set(reason, -errno, "--ready-fd %d is not open", options->ready_fd);
    return 0;
}

static int prepare_groups(struct options *options, struct reason *reason)
{
    int r = 0;

    for (size_t i = 0; i < options->group_count && r == 0; i++)
        r = group_prepare(
            &options->groups[i], options->host, options->path, options->expect_file, reason);
    return r;
}

int options_parse(int argc, char **argv, struct options *options, struct reason *reason)
{
    int option, r = 0;

    *options =
        (struct options){.timeout_usec = 10 * USEC_PER_SEC, .ramp = 256, .seed = 1, .ready_fd = 1};
    while (r == 0 && (option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (option == '?') /* getopt_long(3) has said why on stderr */
            return reason_set(reason, -EINVAL, "see load --help");
        r = set_option(options, (enum option_name)option, optarg, reason);
    }
    if (r < 0 || options->help)
        return r;
    if (argc - optind > 1 || (argc == optind && options->target.length == 0))
        return reason_set(reason, -EINVAL, "give one URL; see load --help");
    r = set_url(options, argc > optind ? argv[optind] : "http://localhost/", reason);
    if (r == 0)
        r = check(options, reason);
    return r < 0 ? r : prepare_groups(options, reason);
}

void options_clear(struct options *options)
{
    for (size_t i = 0; i < options->group_count; i++)
        group_clear(&options->groups[i]);
    free(options->groups);
    free(options->host);
    options->groups = NULL;
    options->group_count = 0;
    options->host = NULL;
}
