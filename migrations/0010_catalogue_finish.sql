-- Lists filter by what is on sale in one condition: some price of an event lies in a range. The lowest and the highest
-- alone let in what has nothing in between, and whether there is something took a look at the types of every candidate.
alter table events add column prices int8multirange not null default '{}';

update events e set prices = p.prices, prices_until = '-infinity'
from (select event_id, range_agg(int8range(price, price, '[]')) as prices from ticket_types where not hidden group by 1) p
where p.event_id = e.id;

-- Prices are looked for among the soonest events first: the time lies in the same index, so that what fits only later is
-- not even listed. (Words are not: GIN would read every beginning within a wide range of dates.)
create extension if not exists btree_gist;
create index events_by_prices on events using gist (prices, starts_at) where status <> 'draft';
drop index events_by_highest_price;

-- Without these the planner takes one in two hundred for granted, and fetches a quarter of all events to sort them.
create statistics events_by_category_counted on (lower(category)) from events;

-- What visitors agree to: house rules, what to bring, photographs. HTML, sanitised on its way in.
alter table events add column policies text;
