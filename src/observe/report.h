#pragma once

#include "base/buffer.h"
#include "observe/board.h"

/*
 * The board, written out. Each appends to @out and returns 0 or -ENOMEM.
 */

/*
 * Prometheus' text format, version 0.0.4: each counter, and gauges of workers, connections and
 * backends.
 */
int report_prometheus(const struct board *board, struct buffer *out);
/* One JSON object: the generation, every worker, the sums, the upstreams. */
int report_json(const struct board *board, struct buffer *out);
/* Tables for people. */
int report_text(const struct board *board, struct buffer *out);
/* One line for systemctl status (STATUS= of sd_notify(3)). */
int report_line(const struct board *board, struct buffer *out);
