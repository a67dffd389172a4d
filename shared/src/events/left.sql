-- The most tickets of one type that could be bought: of each type on sale, what its scarcest pool has left; nothing
-- where that is less than an order must have. An event that is not published, or has begun, sells nothing.
select e.id as "id!", coalesce(max(t.left), 0) as "spots!", count(t.id) > 0 as "on_sale!"
from events e
left join lateral (
    select t.id, case when min(p.capacity - p.sold) < t.min_per_order then 0 else min(p.capacity - p.sold) end as left
    from ticket_types t
    join ticket_type_pools d on d.ticket_type_id = t.id
    join pools p on p.id = d.pool_id
    where t.event_id = e.id and e.status = 'published' and e.starts_at > $2 and is_on_sale(t, $2)
    group by t.id
) t on true
where e.id = any($1)
group by e.id
