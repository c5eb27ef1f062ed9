#pragma once

#include "process/supervisor.h"

/*
 * The main process from its start to its end: the first start, or the taking over from the image
 * before this one; then serving; then a stop, or the succession to the next image.
 */

/*
 * Returns the exit status: 0 after a graceful stop, 1 otherwise. Only a failed succession comes
 * back from execve(2), and then this image goes on as the next one would have.
 */
int serve_main(const struct supervisor_options *options);
