-- Finding events: by words, by price, by who organizes them; and what buyers of one get back.

create extension if not exists unaccent;

-- Titles come in any language, and nobody says which. A stemmer of the wrong language spoils words, so none is used:
-- words count as they are written, without case and accents ("Café" is found by "cafe"). What stemming would have
-- found is found by the beginning of the last word (`words_asked`), and typos by trigrams of `names`.
create text search configuration any_language (copy = simple);
alter text search configuration any_language
    alter mapping for word, hword, hword_part, numword, numhword, hword_numpart with unaccent, simple;

-- The parser takes "Rock/Pop", "Node.js" and "Open-Air" for paths, hosts and compounds, which are not found by their
-- parts. The first leaf of a hyphen stays: in a question it means "without".
create function apart(said text) returns text language sql immutable parallel safe
return regexp_replace(translate(coalesce(said, ''), '/.@_:', '     '), '(?<=\w)-(?=\w)', ' ', 'g');

-- Words, "phrases", or, -without; the last word may be only begun.
create function words_asked(said text) returns tsquery language sql stable parallel safe
return (
    select case when asked ~ '(^|[^!])''[^'']*''$' and said ~ '\w$' then (asked || ':*')::tsquery else asked::tsquery end
    from (select websearch_to_tsquery('any_language', apart(said))::text as asked) question
);

alter table events
    -- Weighted: title, short description, description, venue and city.
    add column words tsvector,
    -- What a typo is looked for in: title, venue and city.
    add column names text,
    -- Over the ticket types on sale, as of the last look; right until `prices_until`, when a window of sales opens or
    -- closes. Lists sort and filter by them; what is shown is computed when it is asked for.
    add column lowest_price bigint,
    add column highest_price bigint,
    add column prices_until timestamptz,
    -- Members of the organization whose event it is in particular.
    add column organizer_ids uuid[] not null default '{}',
    -- What buyers get back; that of the organization at the time of its making, unless said otherwise.
    add column refund_policy jsonb not null
        default '{"full_until_hours": 48, "partial_percent": 0, "partial_until_hours": 0, "keep_fees": false}';

-- The one rule of what is on sale at a moment, as far as the type itself decides it.
create function is_on_sale(kind ticket_types, at timestamptz) returns boolean language sql immutable parallel safe
return not kind.hidden
    and (kind.sales_start is null or kind.sales_start <= at)
    and (kind.sales_end is null or kind.sales_end > at);

create function make_event_searchable() returns trigger language plpgsql as $$
declare
    place record;
begin
    select name, city into place from venues where id = new.venue_id;
    new.words := setweight(to_tsvector('any_language', apart(new.title)), 'A')
        || setweight(to_tsvector('any_language', apart(new.short_description)), 'B')
        || setweight(to_tsvector('any_language', apart(regexp_replace(new.description, '<[^>]*>', ' ', 'g'))), 'C')
        || setweight(to_tsvector('any_language', apart(concat_ws(' ', place.name, place.city))), 'D');
    new.names := lower(unaccent(concat_ws(' ', new.title, place.name, place.city)));
    return new;
end $$;

create trigger events_searchable_when_made before insert on events
    for each row execute function make_event_searchable();

create trigger events_searchable_when_changed before update on events
    for each row when (
        new.words is null or new.names is null
        or (old.title, old.short_description, old.description, old.venue_id)
           is distinct from (new.title, new.short_description, new.description, new.venue_id)
    ) execute function make_event_searchable();

-- Events are found by what their venue is called today. Whoever takes a venue for an event locks the venue first, then
-- the event, which is the order of this statement too.
create function make_events_of_venue_searchable() returns trigger language plpgsql as $$
begin
    update events set words = null where venue_id = new.id;
    return null;
end $$;

create trigger venues_searchable after update on venues
    for each row when ((old.name, old.city) is distinct from (new.name, new.city))
    execute function make_events_of_venue_searchable();

-- What is there already.
update events e set refund_policy = o.settings -> 'refund_policy'
from organizations o where o.id = e.organization_id and o.settings ? 'refund_policy';
update events set words = null;
update events e set lowest_price = p.lowest, highest_price = p.highest, prices_until = '-infinity'
from (select event_id, min(price) as lowest, max(price) as highest from ticket_types where not hidden group by 1) p
where p.event_id = e.id;

-- Rare words must be known to be rare, or the planner walks the whole list looking for them.
alter table events alter column words set statistics 1000;
create index events_by_words on events using gin (words);
create index events_by_names on events using gin (names gin_trgm_ops);
drop index events_search;

-- The public list is of what is to come; what is over or cancelled is asked for less often.
create index events_open_by_start on events (starts_at, id)
    where status in ('published', 'postponed', 'on_hold', 'in_progress');
create index events_by_lowest_price on events (lowest_price, id) where status <> 'draft';
create index events_by_lowest_price_down on events (lowest_price desc nulls last, id desc) where status <> 'draft';
create index events_by_highest_price on events (highest_price) where status <> 'draft';
create index events_by_type on events (event_type, starts_at, id) where status <> 'draft';
create index events_by_category on events (lower(category), starts_at, id) where status <> 'draft';
create index events_featured on events (starts_at, id) where is_featured and status <> 'draft';
create index events_by_organizer on events using gin (organizer_ids);
create index events_prices_due on events (prices_until) where prices_until is not null;
create index venues_by_place on venues (lower(city));
