-- Events from number $1 up to number $2 of the year after $3, in $4 venues, with sessions, ticket types and places, made of nothing but their numbers: the
-- words of titles and descriptions are as common as words are, and prices, cities and dates are spread over what there is.
with numbers as (
    select n, md5('event' || n) as salt from generate_series($1::int, $2::int) n
), drawn as (
    -- Eight numbers that look drawn, of which each is used for one thing.
    select n, array(select ('x' || substr(salt, 1 + 4 * at, 4))::bit(16)::int from generate_series(0, 7) at) as r,
           salt::uuid as id
    from numbers
), words as (
    select array['ba','ri','ko','lu','men','ta','so','vin','del','par','ost','quen','fir','gal','hul','jin'] as s,
           array['Evening','Concert','Workshop','Harbour','Rope','Organ','Winter','Garden','Chamber','Open','Late','Silent'] as t
), made as (
    select d.*, -- One in two is an evening, one in twenty in the harbour; ten in all are of Zanzibar.
           case when r[1] % 2 = 0 then 'Evening ' else '' end
           || case when r[2] % 20 = 0 then 'Harbour ' else '' end
           || case when n <= 10 then 'Zanzibar ' else '' end
           || w.t[1 + r[3] % 12] || ' ' || initcap(w.s[1 + r[4] % 16] || w.s[1 + r[5] % 16] || w.s[1 + r[6] % 16])
           || ' ' || initcap(w.s[1 + r[7] % 16] || w.s[1 + r[8] % 16]) as title,
           '<p>' || (select string_agg(w.s[1 + (r[1] * at + r[2]) % 16] || w.s[1 + (r[3] * at + r[4]) % 16] || case at % 3 when 0 then w.s[1 + (r[5] + at) % 16] else '' end, ' ')
                     from generate_series(1, 60) at) || ' for all who like it</p>' as description,
           $3::timestamptz + make_interval(mins => (r[1] * 7 + r[2]) % 525600) as starts_at,
           md5('venue' || (r[3] % $4::int))::uuid as venue_id,
           500 + 100 * (r[4] % 400)::bigint as price
    from drawn d, words w
), events as (
    insert into events (id, organization_id, title, slug, short_description, description, event_type, category, venue_id,
                        image_urls, teacher_ids, time_zone, currency, status, starts_at, ends_at, max_tickets_per_order,
                        required_vetting_level, is_featured, is_sensitive, version, created_at, updated_at,
                        lowest_price, highest_price, prices)
    select id, (select min(id::text)::uuid from organizations), title, 'event-' || n, 'Doors open at seven.', description,
           (array['class','social_event','concert','conference','festival','sports','theatre','exhibition','meetup','other'])[1 + r[5] % 10],
           (array['Music','Dance','Talks','Crafts'])[1 + r[6] % 4], venue_id, '{}', '{}', 'Europe/Berlin', 'EUR',
           case when n > 10 and r[7] % 20 = 0 then 'cancelled' else 'published' end, starts_at, starts_at + interval '2 hours', 10, 0,
           r[8] % 100 = 0, false, 1, starts_at - interval '1 year', starts_at - interval '1 year',
           price, 2 * price, int8multirange(int8range(price, price, '[]'), int8range(2 * price, 2 * price, '[]'))
    from made returning id
), sessions as (
    insert into event_sessions (id, event_id, number, name, starts_at, ends_at, active, version)
    select md5('session' || n)::uuid, id, 1, 'Evening', starts_at, starts_at + interval '2 hours', true, 1 from made
), types as (
    insert into ticket_types (id, event_id, name, price, min_per_order, hidden, version, created_at)
    select md5('type' || kind || n)::uuid, id, case kind when 1 then 'Standard' else 'Patron' end, price * kind, 1, false, 1, starts_at
    from made, generate_series(1, 2) kind
), included as (
    insert into ticket_type_sessions (ticket_type_id, session_id)
    select md5('type' || kind || n)::uuid, md5('session' || n)::uuid from made, generate_series(1, 2) kind
)
-- One in ten is sold out.
insert into pools (id, event_id, kind, capacity, sold)
select md5('session' || n)::uuid, id, 'session', 100, case when r[2] % 10 = 0 then 100 else r[1] % 100 end from made
