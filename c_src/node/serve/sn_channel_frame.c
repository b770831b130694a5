#include "sn_channel_frame.h"

#include "node/dist/sn_operation.h"
#include "node/etf/sn_writer.h"
#include "core/base/sp_bytes.h"

#define PID_NUMBER 1

static void put_pid(struct sn_writer *writer, const struct sp_node_names *us)
{
    sn_put_pid(writer, us->name, PID_NUMBER, us->creation);
}

void sn_channel_pid_numbers(const struct sp_node_names *us, uint8_t numbers[SP_DIST_PID_NUMBERS])
{
    sp_put(numbers, 4, PID_NUMBER);
    sp_put(numbers + 4, 4, 0);
    sp_put(numbers + 8, 4, us->creation);
}

struct frame {
    ei_x_buff control, payload;
    struct sn_writer head, body;
};

static bool begin(struct frame *frame, long arity, enum sn_operation operation)
{
    if (ei_x_new(&frame->control) != 0)
        return false;
    if (ei_x_new(&frame->payload) != 0) {
        ei_x_free(&frame->control);
        return false;
    }
    frame->head = sn_write_to(&frame->control);
    frame->body = sn_write_to(&frame->payload);
    sn_put_tuple(&frame->head, arity);
    sn_put_number(&frame->head, operation);
    return true;
}

static sp_status end(struct frame *frame, struct sn_queue *queue, struct sn_slice tail)
{
    sp_status status = SP_NO_MEMORY;

    if (!frame->head.failed && !frame->body.failed)
        status =
            sn_queue_frame(queue, sn_written(&frame->control), sn_written(&frame->payload), tail);
    ei_x_free(&frame->control);
    ei_x_free(&frame->payload);
    return status;
}

/* {29, Reference, From, GroupLeader, {erpc, execute_call, 4}, [monitor]} and the arguments
 * [Number, Module, Function, Args] */
sp_status sn_channel_queue_call(struct sn_queue *queue, const struct sp_node_names *us,
                                uint64_t number, struct sn_slice module, struct sn_slice function,
                                struct sn_slice args)
{
    struct frame frame;

    if (!begin(&frame, 6, SN_OP_SPAWN_REQUEST))
        return SP_NO_MEMORY;
    sn_put_reference(&frame.head, us->name, number, us->creation);
    put_pid(&frame.head, us);
    put_pid(&frame.head, us);
    sn_put_tuple(&frame.head, 3);
    sn_put_atom(&frame.head, "erpc");
    sn_put_atom(&frame.head, "execute_call");
    sn_put_number(&frame.head, 4);
    sn_put_list(&frame.head, 1);
    sn_put_atom(&frame.head, "monitor");
    sn_put_nil(&frame.head);
    sn_put_list(&frame.body, 4);
    sn_put_number(&frame.body, number);
    sn_put_slice(&frame.body, module);
    sn_put_slice(&frame.body, function);
    sn_put_slice(&frame.body, args);
    sn_put_nil(&frame.body);
    return end(&frame, queue, (struct sn_slice){NULL, 0});
}

/* {6, From, '', Name} or {2, '', To}, and the message */
sp_status sn_channel_queue_message(struct sn_queue *queue, const struct sp_node_names *us,
                                   struct sn_slice destination, struct sn_slice message)
{
    bool is_pid = sn_slice_is_pid(destination);
    struct frame frame;

    if (!begin(&frame, is_pid ? 3 : 4, is_pid ? SN_OP_SEND : SN_OP_REG_SEND))
        return SP_NO_MEMORY;
    if (!is_pid)
        put_pid(&frame.head, us);
    sn_put_atom(&frame.head, "");
    sn_put_slice(&frame.head, destination);
    return end(&frame, queue, message);
}

/* {2, '', To}, and the reply */
sp_status sn_channel_queue_io_reply(struct sn_queue *queue, struct sn_slice to,
                                    struct sn_slice reply_as, bool is_ok)
{
    struct frame frame;

    if (!begin(&frame, 3, SN_OP_SEND))
        return SP_NO_MEMORY;
    sn_put_atom(&frame.head, "");
    sn_put_slice(&frame.head, to);
    sn_put_tuple(&frame.body, 3);
    sn_put_atom(&frame.body, "io_reply");
    sn_put_slice(&frame.body, reply_as);
    if (is_ok) {
        sn_put_atom(&frame.body, "ok");
    } else {
        sn_put_tuple(&frame.body, 2);
        sn_put_atom(&frame.body, "error");
        sn_put_atom(&frame.body, "enotsup");
    }
    return end(&frame, queue, (struct sn_slice){NULL, 0});
}
