/* libFuzzer over sn_term: whatever passes, libei skips to the same end without a look at what follows, and so
 * does sn_slice, which does not check.
 * The input lies before a page that nobody may touch, because libei is not instrumented. */
#include "node/etf/sn_slice.h"
#include "node/etf/sn_term.h"

#include <ei.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define INPUT_MAX 4096

static uint8_t *input_end;

static void set_up(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t len = (INPUT_MAX + page - 1) / page * page;
    uint8_t *area =
        mmap(NULL, len + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (area == MAP_FAILED || mprotect(area + len, page, PROT_NONE) != 0)
        abort();
    input_end = area + len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct sn_slice rest, term;
    size_t used;
    int index = 0;

    if (!input_end)
        set_up();
    if (len > INPUT_MAX)
        return 0;
    memcpy(input_end - len, data, len);
    if (sn_term_check(input_end - len, len, &used) != SN_TERM_OK)
        return 0;
    /* Again at the very end: what it needs is within what it says that it used. */
    memmove(input_end - used, input_end - len, used);
    if (ei_skip_term((const char *)input_end - used, &index) != 0 || (size_t)index != used)
        abort();
    rest = (struct sn_slice){input_end - used, used};
    if (!sn_slice_take(&rest, &term) || term.len != used || rest.len != 0)
        abort();
    return 0;
}
