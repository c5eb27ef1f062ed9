#pragma once

/*
 * How many CPUs this process may use: the smaller of its affinity mask (sched_getaffinity(2)) and
 * the CPU quota of its cgroup and the cgroups above it (cpu.max, rounded up). At least 1.
 */
unsigned cpus_usable(void);
