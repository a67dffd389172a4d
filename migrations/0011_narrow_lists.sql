-- A list costs what it looks at, and rows of events are wide: whatever lists filter by most lies in the index that they are
-- read by, so that only what fits is fetched.

-- The city of its venue, in small letters.
alter table events add column city text;

create or replace function make_event_searchable() returns trigger language plpgsql as $$
declare
    place record;
begin
    select name, city into place from venues where id = new.venue_id;
    new.words := setweight(to_tsvector('any_language', apart(new.title)), 'A')
        || setweight(to_tsvector('any_language', apart(new.short_description)), 'B')
        || setweight(to_tsvector('any_language', apart(regexp_replace(new.description, '<[^>]*>', ' ', 'g'))), 'C')
        || setweight(to_tsvector('any_language', apart(concat_ws(' ', place.name, place.city))), 'D');
    new.names := lower(unaccent(concat_ws(' ', new.title, place.name, place.city)));
    new.city := lower(place.city);
    return new;
end $$;

update events e set city = lower(v.city) from venues v where v.id = e.venue_id;

-- With the end, so that what is over is passed by without fetching it.
create index events_by_city on events (city, starts_at, id, event_type, ends_at) where status <> 'draft';
drop index events_by_type;
create index events_by_type on events (event_type, starts_at, id, ends_at) where status <> 'draft';
drop index events_by_category;
create index events_by_category on events (lower(category), starts_at, id, event_type, ends_at) where status <> 'draft';

-- Prices that many events have are looked for in the order of time, those that few have by what they are: at least so much by
-- the highest, at most so much by the lowest, and between two by the ranges.
drop index events_open_by_start;
create index events_open_by_start on events (starts_at, id, lowest_price, highest_price)
    where status in ('published', 'postponed', 'on_hold', 'in_progress');
create index events_by_highest_price on events (highest_price) where status <> 'draft';
