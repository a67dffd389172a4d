-- Lets somebody try a password, unless they have failed too often.
-- KEYS[1] is about the account, KEYS[2] about the address. Each is a hash: `failures` so far (one under way
-- counts as failed until it has succeeded) and `free_at`, before which nobody may try again.
-- ARGV: now, failures an account has free, failures an address has free, the longest pause, how long failures
-- are remembered; times in milliseconds.
-- Answers how long to wait; 0 lets the attempt begin and counts it.
local now, longest = tonumber(ARGV[1]), tonumber(ARGV[4])
local wait = 0
for _, key in ipairs(KEYS) do
    local free_at = tonumber(redis.call('HGET', key, 'free_at') or '0')
    wait = math.max(wait, free_at - now)
end
if wait > 0 then
    return wait
end
for i, key in ipairs(KEYS) do
    local failures = redis.call('HINCRBY', key, 'failures', 1)
    local over = failures - tonumber(ARGV[1 + i])
    if over >= 0 then
        redis.call('HSET', key, 'free_at', now + math.min(longest, 1000 * 2 ^ math.min(over, 30)))
    end
    redis.call('PEXPIRE', key, ARGV[5])
end
return 0
