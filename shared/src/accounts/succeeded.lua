-- Takes back what `attempt.lua` counted, for an attempt that has succeeded: the account starts anew, the
-- address has one failure less.
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[2]) == 1 then
    redis.call('HDEL', KEYS[2], 'free_at')
    if redis.call('HINCRBY', KEYS[2], 'failures', -1) <= 0 then
        redis.call('DEL', KEYS[2])
    end
end
return 0
