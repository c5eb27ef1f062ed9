#include "config/keys.h"

#include <assert.h>

#include "config/config.h"
#include "config/value.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])
#define SERVER(member) .offset = offsetof(struct config, member)
#define LISTEN(member) .offset = offsetof(struct config_listen, member)
#define ROUTE(member) .offset = offsetof(struct config_route, member)
#define UPSTREAM(member) .offset = offsetof(struct config_upstream, member)
#define DEFAULT(text) .default_value = (text)
#define RANGE(from, to) .minimum = (from), .maximum = (to)
#define KEYS(array) .keys = (array), .key_count = LENGTH(array)
#define OBJECTS(object, array, count)                                                              \
    .object_size = sizeof(struct object), .objects_offset = offsetof(struct config, array),        \
    .count_offset = offsetof(struct config, count)

static_assert(offsetof(struct config_listen, name) == 0, "the first member is the name");
static_assert(offsetof(struct config_route, name) == 0, "the first member is the name");
static_assert(offsetof(struct config_upstream, name) == 0, "the first member is the name");

/* The most fields is REQUEST_FIELDS_MAX of http/request.h, the most ranges what an answer holds. */
static const struct config_key server_keys[] = {
    {"Workers", value_set_workers, SERVER(workers), DEFAULT("auto"), RANGE("1", "256")},
    {"CrashLimit", value_set_number, SERVER(crash_limit), DEFAULT("10"), RANGE("1", "1000")},
    {"DrainTimeout", value_set_duration, SERVER(drain_timeout_usec), DEFAULT("25s"),
        RANGE("0", "7d")},
    {"ReadinessDelay", value_set_duration, SERVER(readiness_delay_usec), DEFAULT("0"),
        RANGE("0", "1d")},
    {"StartTimeout", value_set_duration, SERVER(start_timeout_usec), DEFAULT("30s"),
        RANGE("1ms", "1d")},
    {"WorkerTimeout", value_set_duration, SERVER(worker_timeout_usec), DEFAULT("10s"),
        RANGE("100ms", "1d")},
    {"HeaderTimeout", value_set_duration, SERVER(header_timeout_usec), DEFAULT("30s"),
        RANGE("1ms", "1d")},
    {"BodyTimeout", value_set_duration, SERVER(body_timeout_usec), DEFAULT("30s"),
        RANGE("1ms", "infinity")},
    {"IdleTimeout", value_set_duration, SERVER(idle_timeout_usec), DEFAULT("75s"),
        RANGE("1ms", "infinity")},
    {"SendTimeout", value_set_duration, SERVER(send_timeout_usec), DEFAULT("60s"),
        RANGE("1ms", "infinity")},
    {"LingerTimeout", value_set_duration, SERVER(linger_timeout_usec), DEFAULT("5s"),
        RANGE("1ms", "1d")},
    {"HeadSize", value_set_size, SERVER(head_size), DEFAULT("16K"), RANGE("1K", "64K")},
    {"MaxFields", value_set_number, SERVER(max_fields), DEFAULT("100"), RANGE("1", "256")},
    {"MaxBodySize", value_set_size, SERVER(max_body_size), DEFAULT("1M"), RANGE("0", "1T")},
    {"MaxRanges", value_set_number, SERVER(max_ranges), DEFAULT("16"), RANGE("1", "64")},
    {"MaxConnections", value_set_number, SERVER(max_connections), DEFAULT("10000"),
        RANGE("1", "1000000")},
    {"TrustedProxies", value_add_networks, SERVER(trusted_proxies),
        .count_offset = offsetof(struct config, trusted_proxy_count)},
    {"CacheSize", value_set_size, SERVER(cache_size), DEFAULT("16M"), RANGE("0", "64G")},
    {"AccessLog", value_set_access_log, SERVER(access_log), DEFAULT("off")},
    {"AccessLogFile", value_set_path, SERVER(access_log_file)},
    {"ControlSocket", value_set_socket_path, SERVER(control_socket)},
};

static const struct config_key listen_keys[] = {
    {"Address", value_add_addresses, LISTEN(addresses),
        .count_offset = offsetof(struct config_listen, address_count)},
    {"Admin", value_set_boolean, LISTEN(admin), DEFAULT("no")},
    {"AcceptProxy", value_set_boolean, LISTEN(accept_proxy), DEFAULT("no")},
    {"Tunnel", value_set_name, LISTEN(tunnel)},
};

static const struct config_key route_keys[] = {
    {"Host", value_add_hosts, ROUTE(hosts),
        .count_offset = offsetof(struct config_route, host_count)},
    {"Path", value_set_prefix, ROUTE(path), DEFAULT("/")},
    {"Root", value_set_path, ROUTE(root)},
    {"Index", value_add_file_names, ROUTE(index),
        .count_offset = offsetof(struct config_route, index_count), DEFAULT("index.html")},
    {"CacheControl", value_set_field_value, ROUTE(cache_control)},
    {"Fallback", value_set_file_path, ROUTE(fallback)},
    {"ErrorPage", value_add_error_pages, ROUTE(error_pages),
        .count_offset = offsetof(struct config_route, error_page_count)},
    {"Precompressed", value_set_boolean, ROUTE(precompressed), DEFAULT("no")},
    {"Upstream", value_set_name, ROUTE(upstream)},
    {"UpstreamHost", value_set_authority, ROUTE(upstream_host)},
    {"Forwarded", value_set_boolean, ROUTE(forwarded), DEFAULT("no")},
    {"MaxBodySize", value_set_size, ROUTE(max_body_size), RANGE("0", "1T"), .inherited = true},
};

static const struct config_key upstream_keys[] = {
    {"Server", value_add_server, UPSTREAM(servers),
        .count_offset = offsetof(struct config_upstream, server_count)},
    {"Balance", value_set_balance, UPSTREAM(balance), DEFAULT("round-robin")},
    {"SendProxy", value_set_send_proxy, UPSTREAM(send_proxy), DEFAULT("no")},
    {"MaxConnections", value_set_number, UPSTREAM(max_connections), DEFAULT("0"),
        RANGE("0", "1000000")},
    {"MaxIdle", value_set_number, UPSTREAM(max_idle), DEFAULT("64"), RANGE("0", "10000")},
    {"MaxWaiting", value_set_number, UPSTREAM(max_waiting), DEFAULT("1000"), RANGE("0", "1000000")},
    {"Retries", value_set_number, UPSTREAM(retries), DEFAULT("2"), RANGE("0", "10")},
    {"MaxFails", value_set_number, UPSTREAM(max_fails), DEFAULT("3"), RANGE("0", "1000")},
    {"FailTimeout", value_set_duration, UPSTREAM(fail_timeout_usec), DEFAULT("10s"),
        RANGE("1ms", "infinity")},
    {"ConnectTimeout", value_set_duration, UPSTREAM(connect_timeout_usec), DEFAULT("5s"),
        RANGE("1ms", "infinity")},
    {"SendTimeout", value_set_duration, UPSTREAM(send_timeout_usec), DEFAULT("60s"),
        RANGE("1ms", "infinity")},
    {"ResponseTimeout", value_set_duration, UPSTREAM(response_timeout_usec), DEFAULT("60s"),
        RANGE("1ms", "infinity")},
    {"IdleTimeout", value_set_duration, UPSTREAM(idle_timeout_usec), DEFAULT("30s"),
        RANGE("1ms", "infinity")},
    {"TunnelTimeout", value_set_duration, UPSTREAM(tunnel_timeout_usec), DEFAULT("1h"),
        RANGE("1ms", "infinity")},
    {"HoldTimeout", value_set_duration, UPSTREAM(hold_timeout_usec), DEFAULT("10s"),
        RANGE("0", "1h")},
    {"PauseTimeout", value_set_duration, UPSTREAM(pause_timeout_usec), DEFAULT("5min"),
        RANGE("1ms", "1d")},
    {"Probe", value_set_probe, UPSTREAM(probe)},
    {"ProbeHost", value_set_authority, UPSTREAM(probe_host)},
    {"ProbeInterval", value_set_duration, UPSTREAM(probe_interval_usec), DEFAULT("5s"),
        RANGE("100ms", "1d")},
    {"ProbeTimeout", value_set_duration, UPSTREAM(probe_timeout_usec), DEFAULT("2s"),
        RANGE("1ms", "1d")},
    {"ProbeRise", value_set_number, UPSTREAM(probe_rise), DEFAULT("2"), RANGE("1", "100")},
    {"ProbeFall", value_set_number, UPSTREAM(probe_fall), DEFAULT("3"), RANGE("1", "100")},
    {"ProbeStatus", value_set_probe_status, UPSTREAM(probe_status_least), DEFAULT("200-399")},
};

const struct config_section_info config_section_infos[CONFIG_SECTION_TYPES] = {
    [CONFIG_SERVER] = {.type = "Server", KEYS(server_keys)},
    [CONFIG_LISTEN] = {.type = "Listen",
        .named = true,
        KEYS(listen_keys),
        OBJECTS(config_listen, listens, listen_count)},
    [CONFIG_ROUTE] = {.type = "Route",
        .named = true,
        KEYS(route_keys),
        OBJECTS(config_route, routes, route_count)},
    [CONFIG_UPSTREAM] = {.type = "Upstream",
        .named = true,
        KEYS(upstream_keys),
        OBJECTS(config_upstream, upstreams, upstream_count)},
};
