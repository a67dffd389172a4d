-- Lets an order stand on a hold, which lapses no more then; or, told so, no longer. Answers whether that was not so
-- before.
--
-- ask: {id, proof, ordered}
local hold = living(ask.id, ask.proof)
if not hold then
    return answer('missing')
end
if hold.ordered == ask.ordered then
    if ask.ordered then
        -- A request that is sent again has as long to write its order as the first one.
        hold.since = math.max(hold.since, now)
        write(ask.id, hold)
    end
    return answer('attached', { anew = false })
end
if ask.ordered then
    hold.since = now
    lapses_no_more(ask.id, hold)
else
    will_lapse(ask.id, hold)
end
hold.ordered = ask.ordered
write(ask.id, hold)
return answer('attached', { anew = true })
