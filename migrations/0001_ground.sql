-- The ground everything stands on: who sells, who may do what, what happened, and where it takes place.

create extension if not exists pg_trgm;

create table organizations (
    id uuid primary key,
    name text not null check (length(name) between 1 and 200),
    slug text not null constraint organizations_slug_key unique,
    currency text not null default 'EUR' check (currency ~ '^[A-Z]{3}$'),
    time_zone text not null default 'UTC',
    contact text check (length(contact) <= 500),
    -- What the organization has decided for itself: minutes of a hold, refund policy, hours of a reminder.
    settings jsonb not null default '{}',
    version bigint not null default 1,
    created_at timestamptz not null,
    updated_at timestamptz
);

-- Rights are data: a role is a set of (resource, action). Built-in roles belong to no organization.
create table roles (
    id uuid primary key,
    organization_id uuid references organizations,
    name text not null,
    constraint roles_name_key unique nulls not distinct (organization_id, name)
);

create table role_rights (
    role_id uuid not null references roles on delete cascade,
    resource text not null,
    action text not null check (action in ('read', 'write', 'create', 'delete')),
    primary key (role_id, resource, action)
);

insert into roles (id, name) values
    ('00000000-0000-7000-8000-000000000001', 'owner'),
    ('00000000-0000-7000-8000-000000000002', 'organizer'),
    ('00000000-0000-7000-8000-000000000003', 'teacher'),
    ('00000000-0000-7000-8000-000000000004', 'door'),
    ('00000000-0000-7000-8000-000000000005', 'member');

-- A key is told once, when it is made; only its hash is here.
create table api_keys (
    id uuid primary key,
    organization_id uuid not null references organizations,
    name text not null,
    -- What it may do: rights like `events:read`, and `internal` for the paths between services.
    scopes text[] not null,
    hash bytea not null constraint api_keys_hash_key unique,
    expires_at timestamptz,
    last_used_at timestamptz,
    revoked_at timestamptz,
    created_at timestamptz not null
);

-- What happened. A line is written by the transaction it tells of and sealed into the chain of its
-- organization a moment later (position, hash). Nothing else about it ever changes.
create table activities (
    seq bigint generated always as identity primary key,
    id uuid not null constraint activities_id_key unique,
    organization_id uuid references organizations,
    kind text not null,
    subject_id uuid not null,
    data jsonb not null,
    actor_kind text not null,
    actor_id uuid,
    -- The request or job that asked for it.
    cause text,
    at timestamptz not null,
    position bigint,
    hash bytea,
    check ((position is null) = (hash is null))
);

create index activities_unsealed on activities (seq) where position is null;
create unique index activities_position
    on activities (coalesce(organization_id, '00000000-0000-0000-0000-000000000000'), position)
    where position is not null;
create index activities_subject on activities (subject_id, seq);

-- The end of each chain, so that lines cut off at the end are missed.
create table activity_chains (
    chain_id uuid primary key,
    position bigint not null,
    hash bytea not null
);

-- A line as it is hashed. Times and JSON are written out by the database, in one form whoever asks.
create view activity_lines as
select
    seq,
    coalesce(organization_id, '00000000-0000-0000-0000-000000000000') as chain_id,
    position,
    hash,
    jsonb_build_array(
        id, organization_id, kind, subject_id, data, actor_kind, actor_id, cause, extract(epoch from at)
    )::text as content
from activities;

create function activities_only_grow() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' and old.position is null and new.position is not null
        and to_jsonb(old) - 'position' - 'hash' = to_jsonb(new) - 'position' - 'hash'
    then
        return new;
    end if;
    raise exception 'activities only grow: a line is never changed or removed'
        using errcode = 'restrict_violation';
end $$;

create trigger activities_only_grow before update or delete on activities
    for each row execute function activities_only_grow();
create trigger activities_are_kept before truncate on activities
    for each statement execute function activities_only_grow();

-- Answers to requests that carried an Idempotency-Key, written by the transaction of the work itself.
create table idempotency_keys (
    caller text not null,
    key text not null,
    -- Hash of method, path and body: the same key with another request is refused.
    fingerprint bytea not null,
    status smallint not null,
    headers jsonb not null,
    body bytea not null,
    created_at timestamptz not null,
    primary key (caller, key)
);

create index idempotency_keys_age on idempotency_keys (created_at);

create table venues (
    id uuid primary key,
    organization_id uuid not null references organizations,
    name text not null check (length(name) between 1 and 200),
    address text not null check (length(address) between 1 and 300),
    city text not null check (length(city) between 1 and 100),
    state text check (length(state) <= 100),
    country text not null check (country ~ '^[A-Z]{2}$'),
    postal_code text check (length(postal_code) <= 20),
    capacity integer not null check (capacity between 1 and 500000),
    layout json,
    contact text check (length(contact) <= 500),
    active boolean not null,
    version bigint not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    deleted_at timestamptz
);

-- One for each order a list is asked in; what is deleted or inactive is not in the way.
create index venues_by_name on venues (lower(name), id) where deleted_at is null and active;
create index venues_by_city on venues (lower(city), lower(name), id) where deleted_at is null and active;
create index venues_by_capacity on venues (capacity, id) where deleted_at is null and active;
create index venues_by_age on venues (created_at, id) where deleted_at is null and active;
create index venues_by_organization on venues (organization_id, lower(name), id) where deleted_at is null;
create index venues_search on venues using gin (lower(name) gin_trgm_ops) where deleted_at is null;
