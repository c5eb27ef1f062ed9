/*
 * The command line. What is read here is only what to do and where the configuration is; the only
 * exit() is here too.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buffer.h"
#include "base/log.h"
#include "base/span.h"
#include "config/config.h"
#include "process/control.h"
#include "process/serve.h"
#include "process/service.h"
#include "process/succession.h"

#define DEFAULT_CONFIG "/etc/baton/baton.conf"

enum { EXIT_USAGE = 2 };

struct command_line {
    char **arguments;
    const char *config;   /* NULL: not given */
    char *control;        /* absolute; NULL: not given */
    const char *name;     /* of an upstream, for the commands that take one */
    const char **listens; /* --listen, in place of a configuration file */
    size_t listen_count;
    const char *root;
    int state; /* --state, for a preflight; -1: not given */
    bool json;
};

static const char usage[] =
    "Usage: baton COMMAND [OPTIONS]\n"
    "\n"
    "Commands:\n"
    "  serve     serve until stopped (SIGTERM, Ctrl-C); SIGHUP reloads\n"
    "  check     check the configuration and print everything wrong with it\n"
    "  reload    let the running server take over configuration and binary; wait for the outcome\n"
    "  status    show what the running server does\n"
    "  pause     pause NAME: let the requests for an upstream wait, for PauseTimeout= at the most\n"
    "  resume    resume NAME: let them go on\n"
    "  stop      stop the running server gracefully, and wait\n"
    "  version   print the version\n"
    "\n"
    "Options:\n"
    "  -c, --config FILE     configuration (default " DEFAULT_CONFIG ")\n"
    "      --control PATH    control socket (default: ControlSocket=, or in the runtime "
    "directory)\n"
    "      --listen ADDRESS  serve without a configuration: address to listen on; may be repeated\n"
    "      --root FOLDER     and the folder to serve there (default: the current one)\n"
    "      --json            status: as JSON\n"
    "  -v, --verbose         serve: log every change of state\n"
    "\n"
    "See baton(8) and baton.conf(5).\n";

static int add_listen(struct command_line *line, const char *address)
{
    const char **listens = reallocarray(line->listens, line->listen_count + 1, sizeof *listens);

    if (!listens)
        return -ENOMEM;
    line->listens = listens;
    line->listens[line->listen_count++] = address;
    return 0;
}

/* What --listen and --root say, as the configuration it stands for. */
static int synthesize(
    const struct command_line *line, struct config_sources *ret, struct reason *reason)
{
    CLEANUP_BUFFER struct buffer text = {0};
    char root[PATH_MAX];
    int r;

    if (!realpath(line->root ? line->root : ".", root))
        return reason_set(reason, -errno, "--root %s: %m", line->root ? line->root : ".");
    r = buffer_append_string(&text, "[Listen http]\n");
    for (size_t i = 0; i < line->listen_count && r == 0; i++)
        r = buffer_printf(&text, "Address=%s\n", line->listens[i]);
    if (r == 0)
        r = buffer_printf(&text, "[Route site]\nRoot=%s\n", root);
    const char *string = r == 0 ? buffer_string(&text) : NULL;
    return string ? config_sources_add(ret, "command line", string) : -ENOMEM;
}

static int read_sources(const void *context, struct config_sources *ret, struct reason *reason)
{
    const struct command_line *line = context;

    if (line->listen_count > 0)
        return synthesize(line, ret, reason);
    return config_sources_read(line->config ? line->config : DEFAULT_CONFIG, ret, reason);
}

/* The path a succession executes: as we were called, so that a link that is changed is followed. */
static const char *binary_path(const char *name, char path[static PATH_MAX])
{
    char folder[PATH_MAX];

    if (name[0] == '/')
        return name;
    if (strchr(name, '/') && getcwd(folder, sizeof folder)) {
        if (snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX)
            return path;
        return NULL;
    }
    ssize_t length = readlink("/proc/self/exe", path, PATH_MAX - 1);
    if (length < 0)
        return NULL;
    path[length] = '\0';
    return path;
}

static int serve(const struct command_line *line)
{
    char path[PATH_MAX];
    const char *binary = binary_path(line->arguments[0], path);
    struct supervisor_options options = {
        .arguments = line->arguments,
        .binary = binary,
        .control = line->control,
        .read_sources = read_sources,
        .context = line,
    };

    if (!binary) {
        log_error("Cannot start: the path of the binary cannot be found out (is /proc mounted?)");
        return EXIT_FAILURE;
    }
    return serve_main(&options);
}

static int check(const struct command_line *line)
{
    CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};
    CLEANUP_CONFIG struct config *config = NULL;
    CLEANUP_BUFFER struct buffer problems = {0};
    struct service *service = NULL;
    struct reason reason = {""};

    if (line->state >= 0)
        return succession_check(line->state);
    int r = read_sources(line, &sources, &reason);
    if (r == 0)
        r = config_parse(&sources, &config, &problems);
    if (r == 0)
        r = service_new(config, NULL, 0, NULL, NULL, &service, &reason);
    service_free(service);
    if (problems.length > 0)
        (void)fputs(buffer_string(&problems), stderr);
    else if (r < 0)
        (void)fprintf(stderr, "%s\n", reason.text[0] ? reason.text : strerror(-r));
    else
        (void)printf("%s: OK\n", sources.items[0].name);
    return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}

/*
 * Where ControlSocket= says the control socket is, in a configuration that need not be right
 * otherwise: a server that runs must be reachable to say what is wrong with it. NULL: nowhere. The
 * caller's.
 */
static char *configured_control(const struct config_sources *sources)
{
    char *path = NULL;

    for (size_t i = 0; i < sources->count; i++) {
        struct span text = span_of(sources->items[i].text);
        while (text.length > 0) {
            struct span value = span_cut(&text, '\n'), key = span_cut(&value, '=');
            if (!value.at || !span_equal(span_trim(key), SPAN("ControlSocket")))
                continue;
            value = span_trim(value);
            free(path);
            path = value.length > 0 ? strndup(value.at, value.length) : NULL;
        }
    }
    return path;
}

static const char *find_control(const struct command_line *line, char path[static PATH_MAX])
{
    CLEANUP_CONFIG_SOURCES struct config_sources sources = {0};
    struct reason reason;
    char *configured = NULL;

    if (!line->control && read_sources(line, &sources, &reason) == 0)
        configured = configured_control(&sources);
    const char *found = control_path(line->control ? line->control : configured, NULL, path);
    free(configured);
    return found;
}

static int ask(const struct command_line *line, const char *request)
{
    char path[PATH_MAX], *text = NULL;
    struct reason reason = {""};

    if (!find_control(line, path)) {
        (void)fputs("baton: no runtime directory is known: give --control PATH\n", stderr);
        return EXIT_FAILURE;
    }
    int r = control_ask(path, request, &text, &reason);
    if (r < 0)
        (void)fprintf(stderr, "baton: %s\n", reason.text[0] ? reason.text : strerror(-r));
    else
        (void)fprintf(r == 0 ? stdout : stderr, "%s%s", text,
            text[0] && text[strlen(text) - 1] == '\n' ? "" : "\n");
    free(text);
    return r == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static int ask_about(const struct command_line *line, const char *command)
{
    CLEANUP_BUFFER struct buffer request = {0};
    int r = buffer_printf(&request, "%s %s", command, line->name);
    const char *text = r == 0 ? buffer_string(&request) : NULL;

    return text ? ask(line, text) : EXIT_FAILURE;
}

static int print_version(void)
{
    (void)puts("baton " BATON_VERSION);
    return EXIT_SUCCESS;
}

static bool takes_name(const char *command)
{
    return strcmp(command, "pause") == 0 || strcmp(command, "resume") == 0;
}

static int run(const char *command, const struct command_line *line)
{
    if (strcmp(command, "serve") == 0)
        return serve(line);
    if (strcmp(command, "check") == 0)
        return check(line);
    if (strcmp(command, "reload") == 0)
        return ask(line, "reload");
    if (strcmp(command, "status") == 0)
        return ask(line, line->json ? "status json" : "status");
    if (takes_name(command))
        return ask_about(line, command);
    if (strcmp(command, "stop") == 0)
        return ask(line, "stop");
    if (strcmp(command, "version") == 0)
        return print_version();
    (void)fprintf(stderr, "baton: '%s' is not a command; see baton --help\n", command);
    return EXIT_USAGE;
}

enum long_option {
    OPTION_CONTROL = 256,
    OPTION_LISTEN,
    OPTION_ROOT,
    OPTION_JSON,
    OPTION_STATE,
    OPTION_VERSION,
};

static const struct option options[] = {
    {"config", required_argument, NULL, 'c'},
    {"control", required_argument, NULL, OPTION_CONTROL},
    {"listen", required_argument, NULL, OPTION_LISTEN},
    {"root", required_argument, NULL, OPTION_ROOT},
    {"json", no_argument, NULL, OPTION_JSON},
    {"state", required_argument, NULL, OPTION_STATE},
    {"verbose", no_argument, NULL, 'v'},
    {"version", no_argument, NULL, OPTION_VERSION},
    {"help", no_argument, NULL, 'h'},
    {0},
};

/* The caller's; NULL when memory ran out or there is no working folder. */
static char *absolute(const char *path)
{
    char folder[PATH_MAX], *text;

    if (path[0] == '/')
        return strdup(path);
    if (!getcwd(folder, sizeof folder) || asprintf(&text, "%s/%s", folder, path) < 0)
        return NULL;
    return text;
}

/* Returns -1 to go on, or the exit status. */
static int read_option(int option, struct command_line *line)
{
    switch (option) {
    case 'c':
        line->config = optarg;
        return -1;
    case OPTION_CONTROL:
        free(line->control);
        line->control = absolute(optarg);
        return line->control ? -1 : EXIT_FAILURE;
    case OPTION_LISTEN:
        return add_listen(line, optarg) < 0 ? EXIT_FAILURE : -1;
    case OPTION_ROOT:
        line->root = optarg;
        return -1;
    case OPTION_JSON:
        line->json = true;
        return -1;
    case OPTION_STATE:
        line->state = atoi(optarg);
        return -1;
    case 'v':
        log_set_level(LOG_DEBUG);
        return -1;
    case OPTION_VERSION:
        return print_version();
    case 'h':
        (void)fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    return EXIT_USAGE; /* getopt_long(3) has said why */
}

static int read_and_run(int count, char **arguments, struct command_line *line)
{
    int option, status;

    while ((option = getopt_long(count, arguments, "c:vh", options, NULL)) >= 0) {
        status = read_option(option, line);
        if (status >= 0)
            return status;
    }
    if (optind == count) {
        (void)fputs(usage, stderr);
        return EXIT_USAGE;
    }
    const char *command = arguments[optind++];
    if (takes_name(command) && optind == count) {
        (void)fprintf(stderr, "baton: '%s' needs the name of an upstream\n", command);
        return EXIT_USAGE;
    }
    if (takes_name(command))
        line->name = arguments[optind++];
    if (optind < count) {
        (void)fprintf(stderr, "baton: '%s' is one argument too many\n", arguments[optind]);
        return EXIT_USAGE;
    }
    if ((line->config && line->listen_count > 0) || (line->root && line->listen_count == 0)) {
        (void)fputs(
            "baton: either --config FILE, or --listen ADDRESS with --root FOLDER\n", stderr);
        return EXIT_USAGE;
    }
    return run(command, line);
}

int main(int count, char **arguments)
{
    struct command_line line = {.arguments = arguments, .state = -1};

    log_open();
    int status = read_and_run(count, arguments, &line);
    free(line.listens);
    free(line.control);
    exit(status);
}
