-- Makes the event what Postgres says: every pool as sold there, a hold for each order that waits for its payment and
-- for none that is over, and held in each pool what the holds say. What was told of meanwhile stays: the version of a
-- pool is its generation.
-- Answers how many places had drifted, and how many holds of orders were missing. Asked to, it leaves an event alone
-- that Redis does not know.
--
-- ask: {pools: [{id, capacity, sold, version, types, heard}], waiting: [{id, buyer, deadline, items, proof, sale}],
--       only_known, longest_ordering}
-- heard: the version that Redis knew before Postgres was asked.
-- longest_ordering: an order is written within this time of being let stand on its hold, or never.

lapse()
local cold = redis.call('EXISTS', POOLS) == 0
if cold and ask.only_known then
    return answer('restored', { cold = true, drift = 0, missing = 0 })
end

local missing, waits = 0, {}
for _, order in ipairs(ask.waiting) do
    waits[order.id] = true
    local hold = hold_of(order.id)
    if not hold then
        hold = order
        hold.extended, hold.parts = false, {}
    end
    -- A hold that is there may not know of its order, if what Redis heard last was lost.
    if not hold.ordered then
        missing = missing + 1
        hold.ordered, hold.since = true, now
        lapses_no_more(order.id, hold)
        write(order.id, hold)
    end
end

-- How many places each hold takes from each pool, by what the pools say they are of.
local pools_of_type, held = {}, {}
for _, pool in ipairs(ask.pools) do
    held[pool.id] = 0
    for _, kind in ipairs(pool.types) do
        pools_of_type[kind] = pools_of_type[kind] or {}
        table.insert(pools_of_type[kind], pool.id)
    end
end
local function same(parts, taken)
    local number = 0
    for _ in pairs(taken) do
        number = number + 1
    end
    for _, part in ipairs(parts) do
        if taken[part[1]] ~= part[2] then
            return false
        end
        number = number - 1
    end
    return number == 0
end

-- A type that no pool is of came after Postgres was asked, or is gone: whoever holds tickets of it keeps their places.
-- So do places that were taken out of a pool itself, such as to make it smaller: they are of no type.
local function are_listed(items)
    for _, item in ipairs(items) do
        if not pools_of_type[item[1]] then
            return false
        end
    end
    return #items > 0
end

local function taken_by(hold)
    local taken = {}
    if not are_listed(hold.items) then
        for _, part in ipairs(hold.parts) do
            taken[part[1]] = held[part[1]] and part[2]
        end
        return taken
    end
    for _, item in ipairs(hold.items) do
        for _, pool in ipairs(pools_of_type[item[1]]) do
            taken[pool] = (taken[pool] or 0) + item[2]
        end
    end
    return taken
end

local function count(id, hold)
    local taken, parts = taken_by(hold), {}
    for pool, places in pairs(taken) do
        parts[#parts + 1] = { pool, places }
        held[pool] = held[pool] + places
    end
    if not same(hold.parts, taken) then
        hold.parts = parts
        write(id, hold)
    end
end

local holds = redis.call('HGETALL', HOLDS)
for at = 1, #holds, 2 do
    local id, hold = holds[at], cjson.decode(holds[at + 1])
    if hold.ordered and not waits[id] and hold.since <= now - ask.longest_ordering then
        redis.call('HDEL', HOLDS, id)
    else
        count(id, hold)
    end
end

local drift, listed = 0, {}
for _, pool in ipairs(ask.pools) do
    local text = redis.call('HGET', POOLS, pool.id)
    local known = text and pool_of(text)
    -- Of the same version with other numbers Postgres is right: it never wrote those.
    -- And of an older one, if Redis knew the newer one before it was asked: it has lost that in a failover.
    local is_newer = known and known.version > pool.version and known.version ~= pool.heard
    local now_so = is_newer and known or pool
    if known then
        drift = drift + math.abs(known.held - held[pool.id])
        drift = drift + math.abs(known.capacity - known.sold - now_so.capacity + now_so.sold)
    end
    listed[pool.id] = true
    keep(pool.id, {
        capacity = now_so.capacity, sold = now_so.sold, held = held[pool.id], version = now_so.version,
    })
end
for _, id in ipairs(redis.call('HKEYS', POOLS)) do
    if not listed[id] then
        redis.call('HDEL', POOLS, id)
    end
end
return answer('restored', { cold = cold, drift = drift, missing = missing })
