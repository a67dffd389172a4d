-- Lets an order stand on a hold, which lapses no more then; or, told so, no longer.
--
-- ask: {id, proof, ordered}
local hold = living(ask.id, ask.proof)
if not hold then
    return answer('missing')
end
if ask.ordered and not hold.ordered then
    hold.since = now
    lapses_no_more(ask.id, hold)
elseif hold.ordered and not ask.ordered then
    will_lapse(ask.id, hold)
end
hold.ordered = ask.ordered
write(ask.id, hold)
return answer('attached')
