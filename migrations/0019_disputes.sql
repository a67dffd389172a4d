-- A payment can be disputed more than once, each time for a part of it. An order is marked while one of its disputes is open
-- or lost, so each is kept: the one that was heard of last does not speak for the others.
create table disputes (
    -- Stripe's.
    id text primary key,
    order_id uuid not null references orders,
    status text not null check (status in ('open', 'won', 'lost')),
    heard_at timestamptz not null
);

create index disputes_by_order on disputes (order_id);

-- Of what was heard before, there are the lines that tell when the mark changed.
insert into disputes (id, order_id, status, heard_at)
select distinct on (a.data ->> 'dispute_id')
       a.data ->> 'dispute_id', a.subject_id, case when (a.data ->> 'disputed')::boolean then 'open' else 'won' end, a.at
from activities a join orders o on o.id = a.subject_id
where a.kind = 'order.disputed' and a.data ->> 'dispute_id' is not null
order by a.data ->> 'dispute_id', a.seq desc;
