-- Takes up to ARGV[1] requests out of what is left of a limit of ARGV[2] in this window.
-- KEYS[1] counts the window, and goes away ARGV[3] milliseconds after its first request.
-- Answers how many were taken and how many are left after that.
local limit = tonumber(ARGV[2])
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
local taken = math.min(tonumber(ARGV[1]), limit - used)
if taken <= 0 then
    return {0, 0}
end
used = redis.call('INCRBY', KEYS[1], taken)
if used == taken then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return {taken, limit - used}
