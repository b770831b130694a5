/* What a frame between nodes begins with, and the operations of its control message that are spoken
 * here, by either side. */
#ifndef SN_OPERATION_H
#define SN_OPERATION_H

/* A frame whose terms follow, each behind the version. */
#define SN_PASS_THROUGH 112
#define SN_VERSION 131
/* A frame with a version, this, and the atoms that its terms name by their place in this list. */
#define SN_ATOM_HEADER 68
#define SN_ATOM_HEADER_MAX 255
/* In the four bits of an atom there: its text follows, and is to be kept. */
#define SN_ATOM_IS_NEW 8

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
