-- Gives the places of a hold back. With a proof only to its owner, and only while no order stands on it.
--
-- ask: {id, proof}
local hold = living(ask.id, ask.proof)
if not hold then
    return answer('missing')
end
if ask.proof and hold.ordered then
    return answer('ordered')
end
forget(ask.id, hold)
return answer('released')
