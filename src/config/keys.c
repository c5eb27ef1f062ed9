#include "config/keys.h"

#include "config/config.h"
#include "config/value.h"

#define LENGTH(array) (sizeof(array) / sizeof(array)[0])
#define SERVER(member) .offset = offsetof(struct config, member)
#define LISTEN(member) .offset = offsetof(struct config_listen, member)
#define ROUTE(member) .offset = offsetof(struct config_route, member)
#define DEFAULT(text) .default_value = (text)
#define RANGE(from, to) .minimum = (from), .maximum = (to)

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
    {"CacheSize", value_set_size, SERVER(cache_size), DEFAULT("16M"), RANGE("0", "64G")},
    {"AccessLog", value_set_access_log, SERVER(access_log), DEFAULT("off")},
    {"AccessLogFile", value_set_path, SERVER(access_log_file)},
    {"ControlSocket", value_set_socket_path, SERVER(control_socket)},
};

static const struct config_key listen_keys[] = {
    {"Address", value_add_addresses, LISTEN(addresses),
        .count_offset = offsetof(struct config_listen, address_count)},
    {"Admin", value_set_boolean, LISTEN(admin), DEFAULT("no")},
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
};

const struct config_section_info config_section_infos[CONFIG_SECTION_TYPES] = {
    [CONFIG_SERVER] = {"Server", false, server_keys, LENGTH(server_keys)},
    [CONFIG_LISTEN] = {"Listen", true, listen_keys, LENGTH(listen_keys)},
    [CONFIG_ROUTE] = {"Route", true, route_keys, LENGTH(route_keys)},
};
