#include "process/job.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>

#include "base/clock.h"

#define MANAGER "org.freedesktop.systemd1"
/* For each answer: systemd is on the same machine, and clients wait. */
#define PATIENCE_USEC (200 * USEC_PER_MSEC)

static void free_bus(sd_bus **bus)
{
    (void)sd_bus_close_unref(*bus);
}

static void free_string(char **string)
{
    free(*string);
}

#define CLEANUP_BUS __attribute__((cleanup(free_bus)))
#define CLEANUP_STRING __attribute__((cleanup(free_string)))

/* sd_bus_open(3) only begins to connect, and sd_bus_call(3) would wait for the rest of it for as
 * long as it takes: with a bus that accepts and says nothing, longer than systemd waits for us. */
static int wait_until_connected(sd_bus *bus)
{
    uint64_t until = clock_monotonic_usec() + PATIENCE_USEC;
    int r;

    while ((r = sd_bus_is_ready(bus)) == 0) {
        uint64_t now = clock_monotonic_usec();
        if (now >= until)
            return -ETIMEDOUT;
        r = sd_bus_process(bus, NULL);
        if (r == 0)
            r = sd_bus_wait(bus, until - now);
        if (r < 0)
            return r;
    }
    return r;
}

/* The bus of whichever manager (system or user) runs this service. */
static int open_bus(sd_bus **ret)
{
    const char *notify = getenv("NOTIFY_SOCKET");
    int r = !notify                                      ? -ENOENT
            : strcmp(notify, "/run/systemd/notify") == 0 ? sd_bus_open_system(ret)
                                                         : sd_bus_open_user(ret);

    if (r >= 0)
        r = wait_until_connected(*ret);
    if (r >= 0)
        r = sd_bus_set_method_call_timeout(*ret, PATIENCE_USEC);
    return r;
}

/* Our unit's object: systemd's word for it, because sd_pid_get_unit(3) fails where ProtectProc=
 * hides the manager from us. */
static int find_unit(sd_bus *bus, char **ret_path)
{
    sd_bus_message *reply = NULL;
    const char *path;
    int r = sd_bus_call_method(bus, MANAGER, "/org/freedesktop/systemd1", MANAGER ".Manager",
        "GetUnitByPID", NULL, &reply, "u", 0u); /* 0: whoever asks */

    if (r >= 0)
        r = sd_bus_message_read(reply, "o", &path);
    if (r >= 0)
        *ret_path = strdup(path);
    (void)sd_bus_message_unref(reply);
    return r < 0 ? r : *ret_path ? 0 : -ENOMEM;
}

/* The type of the job that is queued or running for the unit: "stop", "restart", ...; or NULL. */
static char *job_type(sd_bus *bus, const char *unit)
{
    sd_bus_error error = SD_BUS_ERROR_NULL;
    sd_bus_message *reply = NULL;
    const char *job = NULL;
    char *type = NULL;
    unsigned id = 0;

    int r = sd_bus_get_property(bus, MANAGER, unit, MANAGER ".Unit", "Job", &error, &reply, "(uo)");
    if (r >= 0)
        r = sd_bus_message_read(reply, "(uo)", &id, &job);
    if (r >= 0 && id != 0)
        (void)sd_bus_get_property_string(bus, MANAGER, job, MANAGER ".Job", "JobType", NULL, &type);
    (void)sd_bus_message_unref(reply);
    sd_bus_error_free(&error);
    return type;
}

/* A daemon-reload with a smaller FileDescriptorStoreMax= has dropped what it has no place for. */
static bool is_in_store(sd_bus *bus, const char *unit)
{
    unsigned count = 0;
    int r = sd_bus_get_property_trivial(
        bus, MANAGER, unit, MANAGER ".Service", "NFileDescriptorStore", NULL, 'u', &count);

    return r < 0 || count >= 2; /* both ends of the inbox */
}

static bool unit_keeps_store(sd_bus *bus, const char *unit)
{
    CLEANUP_STRING char *preserve = NULL, *type = job_type(bus, unit);

    if (!type || strcmp(type, "stop") != 0)
        return is_in_store(bus, unit);
    return sd_bus_get_property_string(bus, MANAGER, unit, MANAGER ".Service",
               "FileDescriptorStorePreserve", NULL, &preserve) >= 0 &&
           strcmp(preserve, "yes") == 0 && is_in_store(bus, unit);
}

bool job_keeps_store(void)
{
    CLEANUP_BUS sd_bus *bus = NULL;
    char *unit = NULL;

    if (open_bus(&bus) < 0 || find_unit(bus, &unit) < 0)
        return true;
    bool keeps = unit_keeps_store(bus, unit);
    free(unit);
    return keeps;
}
