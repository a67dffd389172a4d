-- Moves the deadline of a hold, once.
--
-- ask: {id, proof, by}
local hold = living(ask.id, ask.proof)
if not hold then
    return answer('missing')
end
if hold.ordered then
    return answer('ordered')
end
if hold.extended then
    return answer('extended_before', { deadline = hold.deadline })
end
hold.deadline = hold.deadline + ask.by
hold.extended = true
write(ask.id, hold)
will_lapse(ask.id, hold)
return answer('extended', { deadline = hold.deadline })
