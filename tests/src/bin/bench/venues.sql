-- $1 venues in a hundred cities.
insert into venues (id, organization_id, name, address, city, country, capacity, active, version, created_at, updated_at)
select md5('venue' || n)::uuid, (select min(id::text)::uuid from organizations), 'Hall ' || n, 'Street ' || n,
       'City ' || n % 100, 'DE', 100, true, 1, $2, $2
from generate_series(0, $1 - 1) n
