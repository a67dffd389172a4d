-- What the scripts share; each of them is appended to this.
--
-- KEYS: the pools of one event, its holds, the deadlines of those that lapse, and how many of those each buyer has.
-- ARGV: the time in milliseconds, what is asked, in JSON, and how many milliseconds the time may be off by the clock of
-- Redis, 0 for any number. The answer is JSON too.
local POOLS, HOLDS, LAPSING, BUYERS = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local now = tonumber(ARGV[1])
local ask = cjson.decode(ARGV[2])
local farthest = tonumber(ARGV[3])
if farthest > 0 then
    -- A process whose clock is wrong, or that was stopped since it looked, would end holds that live.
    local time = redis.call('TIME')
    local off = now - (time[1] * 1000 + math.floor(time[2] / 1000))
    if math.abs(off) > farthest then
        return redis.error_reply(string.format('CLOCK the time is %d ms off', off))
    end
end
-- To Lua the null of JSON is something, and true.
for name, value in pairs(ask) do
    if value == cjson.null then
        ask[name] = nil
    end
end

-- Enough to keep up with any rush, few enough that nobody waits for it.
local MOST_LAPSED_AT_ONCE = 200

-- A pool is "capacity sold held version". What is sold and held may pass the capacity for a moment: a batch that
-- was settled is told of before the one that was settled ahead of it.
local function pool_of(text)
    local capacity, sold, held, version = string.match(text, '^(%d+) (%d+) (%d+) (%d+)$')
    return {
        capacity = tonumber(capacity), sold = tonumber(sold), held = tonumber(held), version = tonumber(version),
    }
end

local function free(pool)
    return pool.capacity - pool.sold - pool.held
end

-- Whether more of a pool is promised than there is: Redis has lost holds, and let others have their places.
local function are_overdrawn(parts)
    for _, part in ipairs(parts) do
        local text = redis.call('HGET', POOLS, part[1])
        if text and free(pool_of(text)) < 0 then
            return true
        end
    end
    return false
end

local function keep(id, pool)
    local text = string.format('%d %d %d %d', pool.capacity, pool.sold, pool.held, pool.version)
    redis.call('HSET', POOLS, id, text)
end

-- A part is {pool, places}. A pool that is gone holds nothing any more.
local function hold_more(parts, sign)
    for _, part in ipairs(parts) do
        local text = redis.call('HGET', POOLS, part[1])
        if text then
            local pool = pool_of(text)
            pool.held = math.max(pool.held + sign * part[2], 0)
            keep(part[1], pool)
        end
    end
end

local function hold_of(id)
    local text = redis.call('HGET', HOLDS, id)
    return text and cjson.decode(text)
end

local function write(id, hold)
    redis.call('HSET', HOLDS, id, cjson.encode(hold))
end

local function will_lapse(id, hold)
    if redis.call('ZADD', LAPSING, hold.deadline, id) == 1 then
        redis.call('HINCRBY', BUYERS, hold.buyer, 1)
    end
end

local function has_one_less(buyer)
    if redis.call('HINCRBY', BUYERS, buyer, -1) <= 0 then
        redis.call('HDEL', BUYERS, buyer)
    end
end

local function lapses_no_more(id, hold)
    if redis.call('ZREM', LAPSING, id) == 1 then
        has_one_less(hold.buyer)
    end
end

-- The hold is no more, and its places are held no more.
local function forget(id, hold)
    hold_more(hold.parts, -1)
    lapses_no_more(id, hold)
    redis.call('HDEL', HOLDS, id)
end

-- Places of holds whose time is over are free from their deadline on. An order's hold waits for the order's end.
-- Answers how many there were. Forgets them together: in a rush a place is waiting for this.
local function lapse()
    local over = redis.call('ZRANGEBYSCORE', LAPSING, '-inf', now, 'LIMIT', 0, MOST_LAPSED_AT_ONCE)
    if #over == 0 then
        return 0
    end
    local places, parts = {}, {}
    for _, text in ipairs(redis.call('HMGET', HOLDS, unpack(over))) do
        local hold = text and cjson.decode(text)
        for _, part in ipairs(hold and hold.parts or {}) do
            places[part[1]] = (places[part[1]] or 0) + part[2]
        end
        if hold then
            has_one_less(hold.buyer)
        end
    end
    for pool, number in pairs(places) do
        parts[#parts + 1] = { pool, number }
    end
    hold_more(parts, -1)
    redis.call('ZREM', LAPSING, unpack(over))
    redis.call('HDEL', HOLDS, unpack(over))
    return #over
end

-- The hold if it lives and, where a proof is asked for, is the caller's.
local function living(id, proof)
    local hold = hold_of(id)
    if not hold or (proof and hold.proof ~= proof) then
        return nil
    end
    if not hold.ordered and hold.deadline <= now then
        forget(id, hold)
        return nil
    end
    return hold
end

-- More requests than this about one hold are not told apart.
local MOST_WRITERS = 8

-- A request is about to write the order of a hold. Several may be, under one key or with one token: the hold stays the
-- order's until each of them has said that it did not write it. Whatever made it the order's without being counted here, a
-- restoration or an order that was paid late, counts as one of them.
local function add_writer(hold, writer)
    local writers, number = hold.writers or {}, 0
    for _ in pairs(writers) do
        number = number + 1
    end
    if number >= MOST_WRITERS or (hold.ordered and number == 0) then
        writers.uncounted = true
    end
    if number < MOST_WRITERS then
        writers[writer] = true
    end
    hold.writers = writers
end

-- Takes over what Postgres says of a pool, unless something newer is known.
local function learn(pool)
    local text = redis.call('HGET', POOLS, pool.id)
    local known = text and pool_of(text)
    if known and known.version < pool.version then
        known.capacity, known.sold, known.version = pool.capacity, pool.sold, pool.version
        keep(pool.id, known)
    end
end

local function answer(outcome, fields)
    fields = fields or {}
    fields.outcome = outcome
    return cjson.encode(fields)
end
