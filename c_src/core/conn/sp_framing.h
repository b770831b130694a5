/* What tells messages apart in a stream of bytes, and how far one of them has been looked at. */
#ifndef SP_FRAMING_H
#define SP_FRAMING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sp_framing_kind {
    SP_FRAMING_RAW,       /* no messages: a stream of bytes */
    SP_FRAMING_LENGTH,    /* a header that says how much comes behind it */
    SP_FRAMING_DELIMITER, /* up to some bytes, which are the message's last */
    SP_FRAMING_FIXED,     /* so many bytes each */
    SP_FRAMING_RESP,      /* values of Redis' protocol: sp_resp.h */
    SP_FRAMING_FUN        /* what who receives says: all that is there is shown to him */
};

#define SP_DELIMITER_MAX 32

/* What is of one kind is 0 with the others. */
struct sp_framing {
    uint8_t kind; /* enum sp_framing_kind */
    /* LENGTH: after `offset` bytes come `bytes` (1 to 8) of a length, and behind those as many bytes as it says,
     * plus `adjust`. */
    uint8_t offset, bytes;
    bool little; /* the length's first byte is its lowest */
    /* The header is none of the user's: it is taken off, and put before what is sent. Only without an offset: what
     * would stand before the length? */
    bool strip;
    uint8_t delimiter_len; /* DELIMITER: 1 or more */
    int32_t adjust;
    uint32_t fixed; /* FIXED: 1 or more */
    bool own;       /* FUN: this connection's, not its pool's */
    uint8_t delimiter[SP_DELIMITER_MAX];
};

/* gen_tcp's packet modes: 1, 2 or 4 bytes of length, and lines that end in \n. */
struct sp_framing sp_framing_header(uint8_t bytes);
struct sp_framing sp_framing_line(void);
bool sp_framing_equal(const struct sp_framing *a, const struct sp_framing *b);
/* Whether it is one of those. */
bool sp_framing_is_width(const struct sp_framing *framing);
bool sp_framing_is_line(const struct sp_framing *framing);
/* What of it says which header is put before what is sent, in a number; and that again, without the rest. */
uint64_t sp_framing_pack(const struct sp_framing *framing);
struct sp_framing sp_framing_unpack(uint64_t packed);
/* Whether something is put before what is sent. */
static inline bool sp_framing_adds_header(const struct sp_framing *framing)
{
    return framing->kind == SP_FRAMING_LENGTH && framing->strip;
}

/* Values within values that one message may have. */
#define SP_RESP_DEPTH_MAX 32

/* How far a message has been looked at, while it is not whole. Zeroed for each message; the bytes that were looked at
 * do not change until it is whole, but may move. */
struct sp_search {
    size_t looked; /* bytes at the begin in which no end is */
    /* RESP: where the value begins that is not whole yet, and what it is within. */
    size_t at;
    uint32_t depth;
    uint32_t left[SP_RESP_DEPTH_MAX]; /* values to come */
    uint8_t level[SP_RESP_DEPTH_MAX]; /* sp_resp.c's */
};

/* The message is the `len` bytes at `offset`; `total` is what it takes from the stream with its
 * header. Where the answer is SP_WANT_READ, `total` is how many bytes must be there before
 * asking again can help. */
struct sp_frame {
    size_t offset, len, total;
};

#endif
