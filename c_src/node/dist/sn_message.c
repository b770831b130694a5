#include "sn_message.h"

#include "node/etf/sn_tag.h"

enum stage { HEAD, CONTROL, TOKEN, PAYLOAD, TAG, FROM, REQUEST, PARTS, END };

/* How many elements each operation has that is of interest here, and how many of them anybody asks for: what
 * comes behind, such as the reason of an exit, is not looked at. */
static const struct form {
    uint8_t operation, arity, needed;
    uint8_t target; /* of one that has a payload: the process; else 0 */
} forms[] = {
    {SN_OP_LINK, 3, 3, 0},      {SN_OP_SEND, 3, 3, 2},         {SN_OP_EXIT, 4, 2, 0},
    {SN_OP_UNLINK, 3, 2, 0},    {SN_OP_REG_SEND, 4, 4, 3},     {SN_OP_SEND_TT, 4, 3, 2},
    {SN_OP_EXIT_TT, 5, 2, 0},   {SN_OP_REG_SEND_TT, 5, 4, 3},  {SN_OP_MONITOR, 4, 4, 0},
    {SN_OP_DEMONITOR, 4, 4, 0}, {SN_OP_MONITOR_EXIT, 5, 4, 0}, {SN_OP_UNLINK_ID, 4, 4, 0},
};

static const struct form *form_of(int operation)
{
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (forms[i].operation == operation)
            return &forms[i];
    return NULL;
}

void sn_message_begin(struct sn_opening *opening, const uint8_t *frame, size_t len, bool is_cut)
{
    opening->message = (struct sn_message){.kind = SN_MESSAGE_OTHER};
    opening->stage = HEAD;
    opening->start = frame;
    opening->end = frame + len;
    opening->is_cut = is_cut;
    opening->in_tail = false;
}

/* ---- parts ---- */

/* Whether a tuple begins there. Its head is checked when it is taken. */
static bool is_tuple_at(const uint8_t *at, const uint8_t *end, struct sn_head *tuple)
{
    return sn_head_at(at, (size_t)(end - at), tuple) && tuple->kind == SN_KIND_TUPLE;
}

static void begin_part(struct sn_opening *opening, uint64_t left)
{
    opening->start = opening->check.at;
    opening->start_terms = opening->check.terms;
    opening->left = left;
}

static enum sn_term_result take_part(struct sn_opening *opening, struct sn_slice *part,
                                     size_t *pieces)
{
    struct sn_term_check *check = &opening->check;
    enum sn_term_result result = sn_term_go_on(check, opening->left, pieces);

    if (result == SN_TERM_OK)
        *part = (struct sn_slice){opening->start, (size_t)(check->at - opening->start)};
    return result;
}

/* Takes the head of a tuple; its first part is next. */
static enum sn_term_result enter(struct sn_opening *opening, uint64_t arity)
{
    enum sn_term_result result = sn_term_step(&opening->check);

    opening->part = 0;
    begin_part(opening, arity - 1);
    return result;
}

/* ---- the control message ---- */

static enum sn_term_result take_head(struct sn_opening *opening)
{
    const uint8_t *frame = opening->start;
    struct sn_message *message = &opening->message;
    const struct form *form;
    struct sn_head tuple;

    if (opening->end - frame < 3 || frame[0] != SN_PASS_THROUGH || frame[1] != SN_VERSION)
        return SN_TERM_BAD;
    if (!is_tuple_at(frame + 2, opening->end, &tuple) || tuple.count < 1 ||
        opening->end - tuple.end < 2 || tuple.end[0] != SN_TAG_SMALL_INTEGER)
        return SN_TERM_BAD;
    message->operation = tuple.end[1];
    form = form_of(message->operation);
    if (form && tuple.count != form->arity)
        return SN_TERM_BAD;
    if (!form) {
        opening->stage = END;
        return SN_TERM_OK;
    }
    opening->needed = form->needed;
    opening->stage = CONTROL;
    sn_term_begin(&opening->check, frame + 2, (size_t)(opening->end - frame - 2));
    return enter(opening, tuple.count);
}

static enum sn_term_result take_control(struct sn_opening *opening, size_t *pieces)
{
    struct sn_message *message = &opening->message;
    enum sn_term_result result;

    while (opening->part < opening->needed) {
        result = take_part(opening, &message->control[opening->part], pieces);
        if (result != SN_TERM_OK)
            return result;
        opening->part++;
        begin_part(opening, opening->left - 1);
    }
    opening->stage = TOKEN;
    if (form_of(message->operation)->target == 0) {
        message->kind = SN_MESSAGE_CONTROL;
        opening->stage = END;
    }
    return SN_TERM_OK;
}

/* What is left of the control message before the payload. */
static enum sn_term_result take_token(struct sn_opening *opening, size_t *pieces)
{
    opening->stage = PAYLOAD;
    return sn_term_go_on(&opening->check, 0, pieces);
}

/* ---- the payload ---- */

/* One that is no call and no cast is nobody's. */
static enum sn_term_result take_payload(struct sn_opening *opening)
{
    const uint8_t *payload = opening->check.at;
    struct sn_head tuple;

    opening->stage = END;
    if (payload == opening->end)
        return SN_TERM_OK;
    opening->message.target = opening->message.control[form_of(opening->message.operation)->target];
    if (*payload != SN_VERSION)
        return SN_TERM_BAD;
    if (!is_tuple_at(payload + 1, opening->end, &tuple) || (tuple.count != 2 && tuple.count != 3))
        return SN_TERM_OK;
    opening->message.kind = tuple.count == 3 ? SN_MESSAGE_CALL : SN_MESSAGE_CAST;
    opening->stage = TAG;
    sn_term_begin(&opening->check, payload + 1, (size_t)(opening->end - payload - 1));
    return enter(opening, tuple.count);
}

static enum sn_term_result take_tag(struct sn_opening *opening, size_t *pieces)
{
    struct sn_message *message = &opening->message;
    bool is_call = message->kind == SN_MESSAGE_CALL;
    struct sn_slice tag;
    enum sn_term_result result = take_part(opening, &tag, pieces);

    if (result != SN_TERM_OK)
        return result;
    begin_part(opening, opening->left - 1);
    opening->stage = is_call ? FROM : REQUEST;
    if (!sn_slice_is_atom(tag, is_call ? "$gen_call" : "$gen_cast")) {
        message->kind = SN_MESSAGE_OTHER;
        opening->stage = END;
    }
    return SN_TERM_OK;
}

static enum sn_term_result take_from(struct sn_opening *opening, size_t *pieces)
{
    enum sn_term_result result = take_part(opening, &opening->message.from, pieces);

    if (result != SN_TERM_OK)
        return result;
    opening->stage = REQUEST;
    return SN_TERM_OK;
}

static enum sn_term_result take_request(struct sn_opening *opening)
{
    struct sn_request *request = &opening->message.request;
    const uint8_t *start = opening->check.at;
    struct sn_head tuple;

    if (opening->is_cut)
        return SN_TERM_LONG;
    request->term.data = start;
    request->arity = is_tuple_at(start, opening->end, &tuple) && tuple.count <= INT32_MAX
                         ? (int)tuple.count
                         : -1;
    request->all_terms = opening->check.terms;
    opening->stage = PARTS;
    if (request->arity > 0)
        return enter(opening, tuple.count);
    opening->part = SN_SLICE_PARTS_MAX;
    return SN_TERM_OK;
}

/* A list is taken in two: up to its tail, and that. */
static enum sn_term_result take_request_part(struct sn_opening *opening, size_t *pieces)
{
    struct sn_request *request = &opening->message.request;
    struct sn_term_check *check = &opening->check;
    int i = opening->part;
    enum sn_term_result result;

    if (check->at == opening->start && check->at < check->end && *check->at == SN_TAG_LIST) {
        opening->in_tail = true;
        result = sn_term_step(check);
        if (result != SN_TERM_OK)
            return result;
    }
    if (opening->in_tail) {
        result = sn_term_go_on(check, opening->left + 1, pieces);
        if (result != SN_TERM_OK)
            return result;
        request->tails[i] = check->at;
        opening->in_tail = false;
    }
    result = take_part(opening, &request->parts[i], pieces);
    if (result != SN_TERM_OK)
        return result;
    request->terms[i] = check->terms - opening->start_terms;
    opening->part++;
    begin_part(opening, opening->left - 1);
    return SN_TERM_OK;
}

static enum sn_term_result take_parts(struct sn_opening *opening, size_t *pieces)
{
    struct sn_request *request = &opening->message.request;
    enum sn_term_result result = SN_TERM_OK;

    while (result == SN_TERM_OK && opening->part < request->arity &&
           opening->part < SN_SLICE_PARTS_MAX)
        result = take_request_part(opening, pieces);
    if (result == SN_TERM_OK)
        result = sn_term_go_on(&opening->check, 0, pieces);
    if (result != SN_TERM_OK)
        return result;
    opening->stage = END;
    request->term.len = (size_t)(opening->check.at - request->term.data);
    request->all_terms = opening->check.terms - request->all_terms;
    return opening->check.at == opening->end ? SN_TERM_OK : SN_TERM_BAD;
}

/* ---- all ---- */

static enum sn_term_result go_on(struct sn_opening *opening, size_t *pieces)
{
    switch ((enum stage)opening->stage) {
    case HEAD:
        return take_head(opening);
    case CONTROL:
        return take_control(opening, pieces);
    case TOKEN:
        return take_token(opening, pieces);
    case PAYLOAD:
        return take_payload(opening);
    case TAG:
        return take_tag(opening, pieces);
    case FROM:
        return take_from(opening, pieces);
    case REQUEST:
        return take_request(opening);
    case PARTS:
        return take_parts(opening, pieces);
    case END:
        break;
    }
    return SN_TERM_OK;
}

enum sn_term_result sn_message_go_on(struct sn_opening *opening, size_t *pieces)
{
    enum sn_term_result result = SN_TERM_OK;
    enum stage stage = HEAD;

    while (result == SN_TERM_OK && opening->stage != END) {
        stage = (enum stage)opening->stage;
        result = go_on(opening, pieces);
    }
    if (result == SN_TERM_AGAIN)
        opening->stage = stage;
    if (result == SN_TERM_OK || result == SN_TERM_AGAIN || stage < PAYLOAD)
        return result;
    /* The payload alone is wrong. Of one that was cut off, the end is missing. */
    opening->stage = END;
    opening->message.result = opening->is_cut && result == SN_TERM_CUT ? SN_TERM_LONG : result;
    return SN_TERM_OK;
}

struct sn_request sn_request_of(struct sn_slice term)
{
    struct sn_opening opening = {.end = term.data + term.len};
    size_t pieces = SIZE_MAX;

    sn_term_begin(&opening.check, term.data, term.len);
    opening.stage = REQUEST;
    (void)sn_message_go_on(&opening, &pieces);
    return opening.message.request;
}

bool sn_request_is_proper_list(const struct sn_request *request, int i)
{
    uint8_t tag = request->parts[i].data[0];

    return sn_kind_of(tag) == SN_KIND_LIST &&
           (tag != SN_TAG_LIST || *request->tails[i] == SN_TAG_NIL);
}
