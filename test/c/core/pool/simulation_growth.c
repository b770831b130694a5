#include "simulation_model.h"

#include "core/pool/sp_forecast.h"

unsigned m_called_for(bool late_only)
{
    unsigned connecting = m_count(M_CONNECTING), late = 0;
    unsigned demand = m.waiter_count + atomic_load(&kit_pool->eager);
    uint64_t connect_ns = kit_pool->forecast.connect_ns;

    if (!late_only || m.config->growth == SP_GROWTH_EAGER || m_ups() == 0 ||
        connect_ns < SP_FORECAST_SHORT_NS || connect_ns == SP_NEVER)
        return demand > connecting ? demand - connecting : 0;
    for (unsigned i = connecting; i < m.waiter_count; i++)
        late += fake_now_ns() >= m.waiters[i].queued_ns + connect_ns;
    return late;
}

unsigned m_step(unsigned max, unsigned called_for)
{
    unsigned total = m_total(), connecting = m_count(M_CONNECTING);
    unsigned limit = m.config->size + m.config->max_overflow;
    unsigned demand = m.waiter_count + atomic_load(&kit_pool->eager);
    unsigned missing = m.base > total ? m.base - total : 0;
    unsigned want = missing > m_replaced() ? missing : m_replaced(), allowed = 64 - connecting;
    const struct sp_backoff *backoff = &kit_pool->control.state;
    bool over =
        fake_now_ns() >= backoff->until_ns || (demand > 0 && fake_now_ns() >= backoff->hurried_ns);

    want = want > called_for ? want : called_for;
    want = want > m_spare_missing() ? want : m_spare_missing();
    if (sp_backoff_failing(backoff))
        allowed = connecting == 0 && over;
    want = want < limit - total ? want : limit - total;
    want = want < allowed ? want : allowed;
    return want < max ? want : max;
}
