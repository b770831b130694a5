/* A reply on its way from the one who received it to the one who asked. */
#ifndef SP_REPLY_H
#define SP_REPLY_H

#include <stddef.h>
#include <stdint.h>

/* As large as a binary may be that the VM keeps on a process's heap. */
#define SP_REPLY_NEAR_BYTES 64

/* The message is the `len` bytes at `offset`: of `bytes`, or of memory of the host's, which `far` points to. Then
 * `bytes` has what the host knows that memory by. May be moved. */
struct sp_reply {
    size_t offset, len;
    uint8_t *far;
    size_t far_cap;
    _Alignas(8) uint8_t bytes[SP_REPLY_NEAR_BYTES];
};

#endif
