#include "process/cpus.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>

static unsigned affinity(void)
{
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1; /* more than 1024 CPUs: the configuration can say how many workers */
    return (unsigned)CPU_COUNT(&set);
}

/* Our cgroup's path below the mount of cgroup v2, "" in a container that sees only its own. */
static void read_cgroup(char path[static PATH_MAX])
{
    char line[PATH_MAX];
    FILE *file = fopen("/proc/self/cgroup", "re");

    path[0] = '\0';
    while (file && fgets(line, sizeof line, file)) {
        if (strncmp(line, "0::/", 4) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        (void)snprintf(path, PATH_MAX, "%s", line + 3);
    }
    if (file)
        (void)fclose(file);
}

/* cpu.max of one cgroup: "QUOTA PERIOD" or "max PERIOD". UINT_MAX: no limit. */
static unsigned quota(const char *cgroup)
{
    char path[PATH_MAX + 64];
    unsigned long allowed, period;
    unsigned cpus = UINT_MAX;

    (void)snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", cgroup);
    FILE *file = fopen(path, "re");
    if (!file)
        return cpus;
    if (fscanf(file, "%lu %lu", &allowed, &period) == 2 && period > 0 &&
        allowed / period < UINT_MAX)
        cpus = (unsigned)(allowed / period) + (allowed % period > 0);
    (void)fclose(file);
    return cpus;
}

unsigned cpus_usable(void)
{
    char cgroup[PATH_MAX];
    unsigned cpus = affinity();

    read_cgroup(cgroup);
    for (;;) {
        unsigned limit = quota(cgroup);
        if (limit < cpus)
            cpus = limit;
        char *slash = strrchr(cgroup, '/');
        if (!slash)
            return cpus > 0 ? cpus : 1;
        *slash = '\0';
    }
}
