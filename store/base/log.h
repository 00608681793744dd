/* The log of a member: one line an event, `area: what key=value ...`, to stderr, syslog or a file.
 *
 * log_open is called once before other threads start; the rest may be called by any thread. A message is lower case, has no
 * full stop, and names the subject in quotes. */
#ifndef QFS_BASE_LOG_H
#define QFS_BASE_LOG_H

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };
enum log_sink { LOG_SINK_STDERR, LOG_SINK_SYSLOG, LOG_SINK_FILE };

/* `path` is for LOG_SINK_FILE (opened for append, mode 0600). Returns 0 or QE_IO. Before the first call: stderr. */
int log_open(enum log_sink sink, const char *path);
void log_set_level(enum log_level max); /* default LOG_LEVEL_INFO */
void log_close(void);

void log_line(enum log_level level, const char *area, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#define log_error(area, ...) log_line(LOG_LEVEL_ERROR, area, __VA_ARGS__)
#define log_warn(area, ...) log_line(LOG_LEVEL_WARN, area, __VA_ARGS__)
#define log_info(area, ...) log_line(LOG_LEVEL_INFO, area, __VA_ARGS__)
#define log_debug(area, ...) log_line(LOG_LEVEL_DEBUG, area, __VA_ARGS__)

#endif
