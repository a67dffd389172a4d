-- Forgets holds whose places are sold now, and takes over what Postgres says of the pools. Without holds, it tells of
-- places that were sold, returned or resized otherwise. An event that Redis does not know stays unknown.
--
-- ask: {holds, pools: [{id, capacity, sold, version}]}
for _, id in ipairs(ask.holds) do
    local hold = hold_of(id)
    if hold then
        forget(id, hold)
    end
end
for _, pool in ipairs(ask.pools) do
    learn(pool)
end
return answer('settled')
