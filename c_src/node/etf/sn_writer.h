/* A term that is being written, by libei. One failure, which is always of memory, spoils it. */
#ifndef SN_WRITER_H
#define SN_WRITER_H

#include "sn_slice.h"

#include <ei.h>

struct sn_writer {
    ei_x_buff *buf;
    bool failed;
};

/* Begins with a version byte; what was in the buffer is gone. */
struct sn_writer sn_write_to(ei_x_buff *buf);
struct sn_slice sn_written(const ei_x_buff *buf);

void sn_put_tuple(struct sn_writer *writer, long arity);
/* Its elements follow, then the tail: sn_put_nil(). */
void sn_put_list(struct sn_writer *writer, long count);
void sn_put_nil(struct sn_writer *writer);
void sn_put_map(struct sn_writer *writer, long count);
void sn_put_number(struct sn_writer *writer, uint64_t number);
void sn_put_integer(struct sn_writer *writer, int64_t number);
/* The text of an atom, in UTF-8. */
void sn_put_atom(struct sn_writer *writer, const char *text);
void sn_put_atom_len(struct sn_writer *writer, const char *text, size_t len);
/* A pid with serial 0, and a reference that sn_slice_reference_number() gets the number out of. */
void sn_put_pid(struct sn_writer *writer, const char *node, uint32_t number, uint32_t creation);
void sn_put_reference(struct sn_writer *writer, const char *node, uint64_t number,
                      uint32_t creation);
void sn_put_flag(struct sn_writer *writer, bool flag);
void sn_put_binary(struct sn_writer *writer, const void *data, size_t len);
/* The head of a binary whose bytes are elsewhere: they follow the end of what is written here. */
void sn_put_binary_head(struct sn_writer *writer, size_t len);
/* A term as it is, without a version byte. */
void sn_put_slice(struct sn_writer *writer, struct sn_slice term);

#endif
