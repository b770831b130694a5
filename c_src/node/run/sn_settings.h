/* The configuration file: JSON, its pools' options made into terms and checked by sn_options. */
#ifndef SN_SETTINGS_H
#define SN_SETTINGS_H

#include "node/option/sn_options.h"

#include <ei.h>

struct sn_settings_pool {
    struct sn_settings_pool *next;
    const char *name;
    ei_x_buff terms; /* the options as a term: those of two pools are equal where their bytes are */
    struct sn_options options;
};

/* Texts are NULL, and tick_time_s is 0, where the file does not say. */
struct sn_settings {
    char *name, *cookie_file, *listen, *metrics;
    unsigned tick_time_s;
    struct sn_settings_pool *pools; /* in the order of the file */
    struct sn_memory memory;
};

#define SN_TICK_TIME_MAX_S 86400

/* A line for users. */
struct sn_complaint {
    char text[1024];
    bool is_passing; /* another try may help: a file that is not there, or memory that is short */
};

/* False, and a line that names the file, where in it, the value, and what is allowed.
 * True: then sn_settings_free(). */
bool sn_settings_read(const char *path, struct sn_settings *settings,
                      struct sn_complaint *complaint);
void sn_settings_free(struct sn_settings *settings);

/* Whether the files and settings of TLS that the pools name can be used now. False, and such a line. With a
 * registry, what they make is kept with the options; NULL: it is not. */
bool sn_settings_check_tls(struct sn_settings *settings, struct sp_tls_registry *registry,
                           const char *path, struct sn_complaint *complaint);

#endif
