-- The pools of the event as they are now, each as its id and its text; nothing for an event that Redis does not know.
lapse()
return redis.call('HGETALL', POOLS)
