/* What a frame between nodes begins with, and the operations of its control message that are spoken
 * here, by either side. */
#ifndef SN_OPERATION_H
#define SN_OPERATION_H

#define SN_PASS_THROUGH 112

enum sn_operation {
    SN_OP_LINK = 1,
    SN_OP_SEND = 2,
    SN_OP_EXIT = 3,
    SN_OP_UNLINK = 4,
    SN_OP_REG_SEND = 6,
    SN_OP_SEND_TT = 12,
    SN_OP_EXIT_TT = 13,
    SN_OP_REG_SEND_TT = 16,
    SN_OP_MONITOR = 19,
    SN_OP_DEMONITOR = 20,
    SN_OP_MONITOR_EXIT = 21,
    SN_OP_SPAWN_REQUEST = 29,
    SN_OP_SPAWN_REPLY = 31,
    SN_OP_ALIAS_SEND = 33,
    SN_OP_UNLINK_ID = 35,
    SN_OP_UNLINK_ID_ACK = 36
};

#endif
