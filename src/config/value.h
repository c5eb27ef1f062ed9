#pragma once

#include "config/keys.h"

/*
 * One reader for each form a value has in baton.conf(5); each is a config_setter.
 */

config_setter value_set_boolean;     /* bool: as in unit files */
config_setter value_set_number;      /* unsigned, within the key's range */
config_setter value_set_workers;     /* the same, or "auto": 0 */
config_setter value_set_duration;    /* uint64_t of microseconds, within the range */
config_setter value_set_size;        /* uint64_t of bytes, within the range */
config_setter value_set_access_log;  /* enum access_log_kind */
config_setter value_set_balance;     /* enum balance */
config_setter value_set_send_proxy;  /* enum send_proxy */
config_setter value_set_path;        /* string: an absolute path of the file system */
config_setter value_set_socket_path; /* the same, short enough for unix(7) */
config_setter value_set_prefix;      /* string: the beginning of a request's path */
config_setter value_set_file_path;   /* string: a request's path that names a file */
config_setter value_set_field_value; /* string: RFC 9110 §5.5 without obs-text */
config_setter value_set_name;        /* string: of a section */
config_setter value_set_authority;   /* string: a host, perhaps with a port, RFC 9110 §7.2 */
config_setter value_set_probe;       /* string: a path with an optional query, without the method */
config_setter value_set_probe_status; /* of a struct config_upstream */

config_setter value_add_addresses;   /* of a struct config_listen */
config_setter value_add_hosts;       /* strings */
config_setter value_add_file_names;  /* strings */
config_setter value_add_error_pages; /* of a struct config_route */
config_setter value_add_server;      /* of a struct config_upstream */
config_setter value_add_networks;    /* of a struct config */
