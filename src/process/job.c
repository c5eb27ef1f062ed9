#include "process/job.h"

#include <stdlib.h>
#include <string.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#define MANAGER "org.freedesktop.systemd1"
#define PATIENCE_USEC 200000 /* for each call: systemd is on the same machine, and clients wait */

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

/* The unit's object, for whichever manager (system or user) runs it. */
static int find_unit(sd_bus **ret_bus, char **ret_path)
{
    CLEANUP_STRING char *unit = NULL;
    bool user = sd_pid_get_user_unit(0, &unit) >= 0;
    int r = user ? 0 : sd_pid_get_unit(0, &unit);

    if (r >= 0)
        r = user ? sd_bus_open_user(ret_bus) : sd_bus_open_system(ret_bus);
    if (r >= 0)
        r = sd_bus_set_method_call_timeout(*ret_bus, PATIENCE_USEC);
    if (r >= 0)
        r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, ret_path);
    return r;
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

bool job_keeps_store(void)
{
    CLEANUP_BUS sd_bus *bus = NULL;
    CLEANUP_STRING char *unit = NULL, *preserve = NULL, *type = NULL;

    if (!getenv("NOTIFY_SOCKET") || find_unit(&bus, &unit) < 0)
        return true;
    type = job_type(bus, unit);
    if (!type || strcmp(type, "stop") != 0)
        return true;
    return sd_bus_get_property_string(bus, MANAGER, unit, MANAGER ".Service",
               "FileDescriptorStorePreserve", NULL, &preserve) >= 0 &&
           strcmp(preserve, "yes") == 0;
}
