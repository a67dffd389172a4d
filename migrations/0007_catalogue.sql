-- What takes place, in which dated parts, what is on sale of it, and how many places each of these has.

create table events (
    id uuid primary key,
    organization_id uuid not null references organizations,
    title text not null check (length(title) between 3 and 200),
    -- Made from the title once and kept, so that links stay good.
    slug text not null constraint events_slug_key unique,
    short_description text check (length(short_description) <= 500),
    -- HTML, sanitised on its way in.
    description text,
    event_type text not null,
    category text check (length(category) <= 100),
    venue_id uuid references venues,
    image_urls text[] not null,
    -- Who teaches: with the right to assigned events they see this one backstage.
    teacher_ids uuid[] not null,
    time_zone text not null,
    currency text not null check (currency ~ '^[A-Z]{3}$'),
    status text not null,
    status_reason text,
    -- The first beginning and the last end of its sessions.
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    max_tickets_per_order integer not null check (max_tickets_per_order > 0),
    -- Who is vetted less neither sees the event nor buys it.
    required_vetting_level smallint not null check (required_vetting_level between 0 and 9),
    is_featured boolean not null,
    is_sensitive boolean not null,
    -- The number of the next session: one that was given is not given again.
    next_session integer not null default 1,
    version bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    constraint events_end_after_start check (ends_at > starts_at)
);

-- The public lists show what is neither a draft nor cancelled; an organizer's list shows everything of theirs.
create index events_by_start on events (starts_at, id) where status <> 'draft';
create index events_by_title on events (lower(title), id) where status <> 'draft';
create index events_by_age on events (created_at, id) where status <> 'draft';
create index events_by_organization on events (organization_id, starts_at, id);
create index events_by_venue on events (venue_id, ends_at);
create index events_search on events using gin (lower(title) gin_trgm_ops);
-- What the clock moves on.
create index events_to_begin on events (starts_at) where status = 'published';
create index events_to_end on events (ends_at) where status = 'in_progress';

create table event_sessions (
    id uuid primary key,
    event_id uuid not null references events on delete cascade,
    number integer not null,
    name text not null check (length(name) between 1 and 200),
    starts_at timestamptz not null,
    ends_at timestamptz not null,
    active boolean not null,
    version bigint not null,
    constraint event_sessions_number_key unique (event_id, number),
    check (ends_at > starts_at)
);

create table ticket_types (
    id uuid primary key,
    event_id uuid not null references events on delete cascade,
    name text not null check (length(name) between 1 and 200),
    description text check (length(description) <= 2000),
    -- In the minor unit of the event's currency.
    price bigint not null check (price >= 0),
    original_price bigint check (original_price >= 0),
    member_price bigint check (member_price >= 0),
    sales_start timestamptz,
    sales_end timestamptz,
    min_per_order integer not null check (min_per_order > 0),
    max_per_order integer check (max_per_order >= min_per_order),
    max_per_buyer integer check (max_per_buyer > 0),
    hidden boolean not null,
    version bigint not null,
    created_at timestamptz not null,
    check (sales_end > sales_start)
);

create index ticket_types_by_event on ticket_types (event_id, created_at, id);

create table ticket_type_sessions (
    ticket_type_id uuid not null references ticket_types on delete cascade,
    session_id uuid not null constraint ticket_type_sessions_session_fkey references event_sessions,
    primary key (ticket_type_id, session_id)
);

create index ticket_type_sessions_by_session on ticket_type_sessions (session_id);

-- The one rule of capacity: places that can run out. A pool has the id of what it counts the places of: an event
-- with a total, a session, a ticket type with a quantity.
create table pools (
    id uuid primary key,
    event_id uuid not null references events on delete cascade,
    kind text not null check (kind in ('event', 'session', 'ticket_type')),
    capacity integer not null check (capacity > 0),
    sold integer not null default 0,
    -- How many of those are sold by another service, which can return them.
    sold_elsewhere integer not null default 0,
    -- Grows with every change of these numbers; tells which of two that Redis hears of is the newer one.
    version bigint not null default 1,
    constraint pools_sold_elsewhere check (sold_elsewhere between 0 and sold),
    constraint pools_not_overdrawn check (sold between 0 and capacity)
);

create index pools_by_event on pools (event_id);

-- A ticket takes one place from every pool that its type draws on: its own, its sessions', its event's.
create view ticket_type_pools as
select t.id as ticket_type_id, p.id as pool_id
from ticket_types t join pools p on p.event_id = t.event_id
where p.id in (t.id, t.event_id)
      or p.id in (select s.session_id from ticket_type_sessions s where s.ticket_type_id = t.id);
