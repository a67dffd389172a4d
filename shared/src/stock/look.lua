-- One hold, for its owner.
--
-- ask: {id, proof}
local hold = living(ask.id, ask.proof)
if not hold then
    return answer('missing')
end
return answer('found', {
    deadline = hold.deadline, ordered = hold.ordered, extended = hold.extended, buyer = hold.buyer, sale = hold.sale,
})
