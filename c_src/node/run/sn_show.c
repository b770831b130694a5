#include "sn_show.h"

#include "node/option/sn_options.h"

#include <ei.h>

static bool show(FILE *to, const char *prefix, const struct sn_option *rows, size_t count)
{
    char allowed[512];
    int index;

    for (size_t i = 0; i < count; i++) {
        index = 0;
        if (fprintf(to, "%s%s\t", prefix, rows[i].key.text) < 0 ||
            ei_print_term(to, (const char *)rows[i].def.term, &index) < 0)
            return false;
        sn_option_allowed(&rows[i], allowed, sizeof allowed);
        if (fprintf(to, "\t%s\n", allowed) < 0)
            return false;
    }
    return true;
}

bool sn_show_options(FILE *to)
{
    size_t count, tls_count;
    const struct sn_option *rows = sn_options_table(&count);
    const struct sn_option *tls_rows = sn_options_tls_table(&tls_count);

    return show(to, "", rows, count) && show(to, "tls.", tls_rows, tls_count) && fflush(to) == 0;
}
