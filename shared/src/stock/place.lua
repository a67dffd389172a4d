-- Takes places from every pool or from none.
--
-- ask: {id, buyer, deadline, ordered, parts, items, proof, sale, most_holds, writer}
lapse()
local known = hold_of(ask.id)
if known and not known.ordered and known.deadline <= now then
    -- It is over, and not yet forgotten.
    forget(ask.id, known)
elseif known then
    local again = known.ordered and ask.ordered
    if again then
        -- The order is about to be written, or to be paid: its hold is not one that nobody came back for.
        known.since = math.max(known.since, now)
    end
    if ask.writer then
        add_writer(known, ask.writer)
    end
    if again or ask.writer then
        write(ask.id, known)
    end
    return answer('placed', { deadline = known.deadline, overdrawn = again and are_overdrawn(known.parts) })
end

local ids = {}
for at, part in ipairs(ask.parts) do
    ids[at] = part[1]
end
local pools, short, cold
repeat
    local texts = redis.call('HMGET', POOLS, unpack(ids))
    pools, short, cold = {}, {}, false
    for at, part in ipairs(ask.parts) do
        cold = cold or not texts[at]
        pools[at] = texts[at] and pool_of(texts[at])
        if pools[at] and free(pools[at]) < part[2] then
            short[#short + 1] = { part[1], math.max(free(pools[at]), 0) }
        end
    end
    -- Nobody is refused for places of holds that are over, however many lapsed at once.
until cold or #short == 0 or lapse() == 0
if cold then
    return answer('cold')
end
if #short > 0 then
    return answer('short', { short = short })
end
if not ask.ordered and tonumber(redis.call('HGET', BUYERS, ask.buyer) or 0) >= ask.most_holds then
    return answer('too_many')
end

local hold = {
    buyer = ask.buyer, deadline = ask.deadline, ordered = ask.ordered, extended = false,
    parts = ask.parts, items = ask.items, proof = ask.proof, sale = ask.sale, since = now,
    writers = ask.writer and { [ask.writer] = true } or nil,
}
for at, part in ipairs(ask.parts) do
    pools[at].held = pools[at].held + part[2]
    keep(part[1], pools[at])
end
write(ask.id, hold)
if not ask.ordered then
    will_lapse(ask.id, hold)
end
return answer('placed', { deadline = ask.deadline })
