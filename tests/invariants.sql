-- What must hold whenever nothing is under way. Each row that comes back is a breach, by name and subject. $1 is the time.

select 'a venue has one line that tells of its making' as invariant, venues.id::text as subject
from venues
where (select count(*) from activities a where a.subject_id = venues.id and a.kind = 'venue.created') <> 1

union all
select 'a venue has as many lines of change as it has versions', venues.id::text
from venues
where (select count(*) from activities a where a.subject_id = venues.id and a.kind = 'venue.changed') <> version - 1

union all
select 'a venue is deleted if and only if a line tells so', venues.id::text
from venues
where (deleted_at is not null)
      <> exists (select from activities a where a.subject_id = venues.id and a.kind = 'venue.deleted')

union all
select 'an organization has one line that tells of its making', organizations.id::text
from organizations
where (select count(*) from activities a
       where a.subject_id = organizations.id and a.kind = 'organization.created') <> 1

union all
select 'a line of an organization has that organization''s things as its subject', activities.id::text
from activities join venues on venues.id = activities.subject_id
where activities.organization_id is distinct from venues.organization_id

union all
select 'an organization has as many lines of change as it has versions', organizations.id::text
from organizations
where (select count(*) from activities a
       where a.subject_id = organizations.id and a.kind = 'organization.changed') <> version - 1

union all
select 'an organization that had an owner has one whose account is in use', organizations.id::text
from organizations
where exists (select from activities a
              where a.organization_id = organizations.id and a.kind = 'member.added'
                and a.data ->> 'role_id' = '00000000-0000-7000-8000-000000000001')
      and not exists (select from members m join users u on u.id = m.user_id
                      where m.organization_id = organizations.id and u.is_active
                        and m.role_id = '00000000-0000-7000-8000-000000000001')

union all
select 'the last use of a key has a line that tells of it', k.id::text
from api_keys k
where k.last_used_at is not null
      and (select count(*) from activities a
           where a.subject_id = k.id and a.kind = 'api_key.used' and a.at = k.last_used_at
             and a.organization_id = k.organization_id) <> 1

union all
select 'an account has one line that tells of its making', users.id::text
from users
where (select count(*) from activities a where a.subject_id = users.id and a.kind = 'user.created') <> 1

union all
select 'a session that was ended has one line that tells so', s.id::text
from login_sessions s
where s.ended_at is not null
      and (select count(*) from activities a
           where a.subject_id = s.user_id and a.kind = 'user.session_ended'
                 and a.data ->> 'session_id' = s.id::text) <> 1

union all
select 'a session has at most one refresh token that is not spent', session_id::text
from refresh_tokens where spent_at is null
group by session_id having count(*) > 1

union all
select 'a deactivated account is signed in nowhere', users.id::text
from users join login_sessions s on s.user_id = users.id
where not users.is_active and s.ended_at is null

union all
select 'nobody has a role of another organization', members.user_id::text
from members join roles on roles.id = members.role_id
where roles.organization_id is distinct from members.organization_id and roles.organization_id is not null

union all
select 'an event has one line that tells of its making', events.id::text
from events
where (select count(*) from activities a where a.subject_id = events.id and a.kind = 'event.created') <> 1

union all
select 'an event has as many lines of change as it has versions', events.id::text
from events
where (select count(*) from activities a
       where a.subject_id = events.id and a.kind in ('event.changed', 'event.status_changed')) <> version - 1

union all
select 'an event has a session', events.id::text
from events
where not exists (select from event_sessions s where s.event_id = events.id)

union all
select 'an event begins with its first session and ends with its last, of those that take place', e.id::text
from events e
where (select min(s.starts_at) filter (where s.active) <> e.starts_at
              or coalesce(max(s.ends_at) filter (where s.active), max(s.ends_at)) <> e.ends_at
       from event_sessions s where s.event_id = e.id)

union all
select 'a session has its pool', s.id::text
from event_sessions s
where not exists (select from pools p where p.id = s.id and p.event_id = s.event_id and p.kind = 'session')

union all
select 'a pool counts the places of something', p.id::text
from pools p
where not (p.kind = 'event' and p.id = p.event_id
           or p.kind = 'session' and exists (select from event_sessions s where s.id = p.id)
           or p.kind = 'ticket_type' and exists (select from ticket_types t where t.id = p.id))

union all
select 'a session''s code was given', s.id::text
from event_sessions s join events e on e.id = s.event_id
where s.number >= e.next_session

union all
select 'an event is found by what it and its venue are called', e.id::text
from events e left join venues v on v.id = e.venue_id
where e.words is null or e.names is distinct from lower(unaccent(concat_ws(' ', e.title, v.name, v.city)))

union all
select 'the prices next to an event are those of what is on sale', e.id::text
from events e join lateral (
    select min(price) as lowest, max(price) as highest, count(sales_start) + count(sales_end) as windows,
           bool_and(s.active) as active, min(s.begins) as begins
    from ticket_types t join lateral (
        select bool_and(s.active) as active, min(s.starts_at) as begins
        from ticket_type_sessions i join event_sessions s on s.id = i.session_id where i.ticket_type_id = t.id
    ) s on true
    where t.event_id = e.id and not t.hidden
) t on true
where (lower(e.prices), upper(e.prices) - 1) is distinct from (e.lowest_price, e.highest_price)
      or e.status not in ('published', 'in_progress') and e.lowest_price is not null
      -- Nothing of it had begun or had a window of its own when it was looked at last.
      or e.status = 'published' and t.windows = 0 and t.active and e.prices_until <= t.begins
         and (e.lowest_price, e.highest_price) is distinct from (t.lowest, t.highest)

union all
select 'what a pool has sold are good tickets and seats of other services', p.id::text
from pools p
where p.sold - p.sold_elsewhere
      <> (select count(*) from ticket_type_pools d join tickets t on t.ticket_type_id = d.ticket_type_id
          where d.pool_id = p.id and t.status = 'valid')

union all
select 'an order has one line that tells of its placing', o.id::text
from orders o
where (select count(*) from activities a where a.subject_id = o.id and a.kind = 'order.placed') <> 1

union all
select 'an order costs what its items cost', o.id::text
from orders o
where o.total <> (select sum(i.quantity * i.price) from order_items i where i.order_id = o.id)

union all
select 'an order has a ticket for each place once it was paid, and none before', o.id::text
from orders o
where (select count(*) from tickets t where t.order_id = o.id)
      <> case when exists (select from activities a where a.subject_id = o.id and a.kind = 'order.status_changed'
                                                          and a.data -> 'status' ->> 1 = 'paid')
              then (select sum(i.quantity) from order_items i where i.order_id = o.id) else 0 end

union all
select 'good tickets are of paid orders', t.id::text
from tickets t join orders o on o.id = t.order_id
where t.status = 'valid' and o.status not in ('paid', 'partially_refunded')

union all
select 'a paid order has a good ticket', o.id::text
from orders o
where o.status in ('paid', 'partially_refunded')
      and not exists (select from tickets t where t.order_id = o.id and t.status = 'valid')

union all
select 'an order was paid what the ledger says, and what it costs if it was sold', o.id::text
from orders o
where o.paid <> (select coalesce(sum(l.amount), 0) from ledger l where l.order_id = o.id and l.kind = 'payment')
      or o.status in ('paid', 'partially_refunded') and o.paid < o.total

union all
select 'what goes back of an order are its refunds that have not failed', o.id::text
from orders o
where o.refunded <> (select coalesce(sum(r.amount), 0) from refunds r where r.order_id = o.id and r.status <> 'failed')

union all
select 'an order without tickets keeps no money but that of a refund which has failed', o.id::text
from orders o
where not exists (select from tickets t where t.order_id = o.id)
      and o.paid - o.refunded
          > (select coalesce(sum(r.amount), 0) from refunds r where r.order_id = o.id and r.status = 'failed')

union all
select 'what was paid for an order beyond its price goes back, unless a refund has failed', o.id::text
from orders o
where o.paid > o.total
      and o.paid - o.total
          > (select coalesce(sum(r.amount), 0) from refunds r where r.order_id = o.id)

union all
select 'a refund stands in the ledger as its status says', r.id::text
from refunds r
where (select coalesce(sum(l.amount), 0) from ledger l
       where l.order_id = r.order_id and l.kind = 'refund'
             and l.reference in (r.provider_id, r.provider_id || ' came back'))
      <> case r.status when 'succeeded' then -r.amount else 0 end

union all
select 'a refund that is on its way or was made has the provider''s name for it', r.id::text
from refunds r
where r.status in ('processing', 'succeeded') and r.provider_id is null

union all
select 'a line of the ledger about money that went back is of a refund', l.seq::text
from ledger l
where l.kind = 'refund'
      and not exists (select from refunds r
                      where r.order_id = l.order_id
                            and l.reference in (r.provider_id, r.provider_id || ' came back'))

union all
select 'what goes back can be paid in its currency', r.id::text
from refunds r join orders o on o.id = r.order_id
where r.amount % case when o.currency in ('ISK', 'UGX') then 100
                      when o.currency in ('BHD', 'JOD', 'KWD', 'OMR', 'TND') then 10 else 1 end <> 0

union all
select 'a line of the ledger has the currency, the event and the organization of its order', l.seq::text
from ledger l join orders o on o.id = l.order_id
where (l.currency, l.event_id, l.organization_id) is distinct from (o.currency, o.event_id, o.organization_id)

union all
select 'an order that waits for Stripe has one open attempt to be paid, and no other order has one', o.id::text
from orders o
where (select count(*) from payment_attempts a where a.order_id = o.id and a.status = 'open')
      <> case when o.status in ('pending', 'requires_action') and o.method in ('card', 'client', 'checkout')
              then 1 else 0 end

union all
select 'a payment by Stripe is that of an attempt of its order, or goes back', l.seq::text
from ledger l
where l.kind = 'payment' and l.provider = 'stripe'
      and not exists (select from payment_attempts a where a.order_id = l.order_id and a.payment_id = l.reference)
      and l.amount > (select coalesce(sum(r.amount), 0) from refunds r where r.payment_id = l.reference)

union all
select 'the tickets of an order are those of its items, by type and price', i.order_id::text
from order_items i
where exists (select from tickets t where t.order_id = i.order_id)
      and i.quantity <> (select count(*) from tickets t
                         where t.order_id = i.order_id and t.ticket_type_id = i.ticket_type_id and t.price = i.price)

union all
select 'an order goes from one status to the next as it may', steps.order_id::text
from (select subject_id as order_id, told, became,
             lag(became, 1, 'pending') over (partition by subject_id order by seq) as before
      from (select subject_id, seq,
                   case kind when 'order.status_changed' then data -> 'status' ->> 0 end as told,
                   case kind when 'order.status_changed' then data -> 'status' ->> 1 else 'cancelled' end as became
            from activities where kind in ('order.status_changed', 'order.cancelled')) as lines) as steps
where coalesce(told, before) <> before
      or (before, became) not in (
          ('pending', 'requires_action'), ('pending', 'paid'), ('pending', 'failed'), ('pending', 'expired'),
          ('pending', 'cancelled'), ('requires_action', 'paid'), ('requires_action', 'failed'),
          ('requires_action', 'expired'), ('requires_action', 'cancelled'), ('failed', 'paid'), ('failed', 'refunded'),
          ('expired', 'paid'), ('expired', 'refunded'), ('paid', 'partially_refunded'), ('paid', 'cancelled'),
          ('partially_refunded', 'cancelled'), ('cancelled', 'refunded'))

union all
select 'an order stands where its last step has led', o.id::text
from orders o
where o.status <> coalesce((select case a.kind when 'order.status_changed' then a.data -> 'status' ->> 1 else 'cancelled' end
                            from activities a
                            where a.subject_id = o.id and a.kind in ('order.status_changed', 'order.cancelled')
                            order by a.seq desc limit 1), 'pending')

union all
-- Two minutes for calls to Stripe that were under way, and two for the job that comes back each minute.
select 'no order waits longer than its deadline and what it takes to close its payment', o.id::text
from orders o
where o.status in ('pending', 'requires_action') and o.payment_deadline + interval '4 minutes' < $1
      and not exists (select from payment_attempts a where a.order_id = o.id and a.under_way)

union all
select 'an answer that is kept of a placed order names an order', k.headers ->> 'location'
from idempotency_keys k
where k.status between 200 and 299 and k.headers ->> 'location' ~ '/orders/[0-9a-f-]{36}$'
      and not exists (select from orders o where k.headers ->> 'location' like '%/orders/' || o.id)

union all
-- Of an order whose tickets have all been given back before the mail was written there is none.
select 'a buyer hears once that an order is paid', o.id::text
from orders o cross join lateral (
    select (select count(*) from mails m where m.cause = 'order-paid:' || o.id) as mails,
           (select count(*) from activities a
            where a.subject_id = o.id and a.kind = 'order.status_changed' and a.data -> 'status' ->> 1 = 'paid') as times,
           exists (select from tickets t where t.order_id = o.id and t.status = 'valid') as has_tickets
) as told
where told.mails > told.times or told.mails < told.times and told.has_tickets
