-- Lets the order that a writer is about to write stand on a hold, which lapses no more then; or takes that back, which counts
-- when no other writer is left. Answers whether the hold became the order's by this, or ceased to be.
--
-- ask: {id, proof, ordered, writer}
local hold = living(ask.id, ask.proof)
if not hold then
    return answer('missing')
end
local before = hold.ordered
if ask.ordered then
    add_writer(hold, ask.writer)
    if before then
        -- A request that is sent again has as long to write its order as the first one.
        hold.since = math.max(hold.since, now)
    else
        hold.ordered, hold.since = true, now
        lapses_no_more(ask.id, hold)
    end
elseif hold.writers and hold.writers[ask.writer] then
    hold.writers[ask.writer] = nil
    if not next(hold.writers) then
        hold.ordered = false
        will_lapse(ask.id, hold)
    end
end
write(ask.id, hold)
return answer('attached', { anew = hold.ordered ~= before })
