-- Who people are: accounts, where they are signed in, what they belong to, and what the built-in roles may do.

-- What rights can be about. A role cannot name anything else.
create table resources (
    name text primary key,
    meaning text not null
);

insert into resources (name, meaning) values
    ('organization', 'Name, contact and settings of the organization'),
    ('members', 'Who belongs to it, and the invitations'),
    ('roles', 'Roles of its own'),
    ('api_keys', 'Keys for services'),
    ('activity', 'What happened'),
    ('venues', 'Where events take place'),
    ('events', 'All of its events'),
    ('assigned_events', 'The events one is assigned to, and no others'),
    ('sessions', 'Sessions of its events'),
    ('ticket_types', 'Ticket types of its events'),
    ('orders', 'Sales, payments by hand, the waitlist'),
    ('refunds', 'Giving money back'),
    ('registrations', 'Who comes to its events'),
    ('assigned_registrations', 'Who comes to the events one is assigned to'),
    ('contact_data', 'Mail addresses and telephone numbers of those who come'),
    ('messages', 'Mails to those who come'),
    ('kiosks', 'Stations at the door'),
    ('scans', 'Admission'),
    ('reports', 'Figures and exports');

alter table role_rights add constraint role_rights_resource_fkey foreign key (resource) references resources;

insert into role_rights (role_id, resource, action)
select roles.id, resources.name, action
from roles, resources, unnest(array['read', 'write', 'create', 'delete']) as action
where roles.organization_id is null and roles.name = 'owner';

insert into role_rights (role_id, resource, action)
select roles.id, resource, action
from roles,
     unnest(array['venues', 'events', 'sessions', 'ticket_types', 'orders', 'refunds', 'registrations',
                  'contact_data', 'messages', 'kiosks', 'scans', 'reports']) as resource,
     unnest(array['read', 'write', 'create', 'delete']) as action
where roles.organization_id is null and roles.name = 'organizer';

insert into role_rights (role_id, resource, action)
select roles.id, resource, action
from (values
    ('organizer', 'organization', 'read'),
    ('organizer', 'members', 'read'),
    ('teacher', 'assigned_events', 'read'),
    ('teacher', 'assigned_registrations', 'read'),
    ('door', 'scans', 'read'),
    ('door', 'scans', 'create')
) as narrow (role, resource, action)
join roles on roles.organization_id is null and roles.name = narrow.role;

create table users (
    id uuid primary key,
    -- In lower case: an address is one account, however it is typed.
    email text not null constraint users_email_key unique check (email = lower(email) and length(email) <= 254),
    email_verified_at timestamptz,
    -- Where the address is to move once its owner has followed the link.
    pending_email text,
    full_name text not null check (length(full_name) between 1 and 200),
    phone text check (length(phone) <= 40),
    avatar_url text check (length(avatar_url) <= 2000),
    locale text not null default 'en' check (length(locale) <= 35),
    -- A PHC string; null for an account that has not chosen a password yet.
    password_hash text,
    is_platform_admin boolean not null default false,
    is_active boolean not null default true,
    version bigint not null default 1,
    last_login_at timestamptz,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create index users_by_age on users (created_at, id);
create index users_by_name on users (lower(full_name), id);
create index users_search on users using gin ((lower(full_name) || ' ' || email) gin_trgm_ops);

-- Where somebody is signed in: the family of refresh tokens that began with one login.
create table login_sessions (
    id uuid primary key,
    user_id uuid not null references users on delete cascade,
    address text,
    user_agent text,
    created_at timestamptz not null,
    -- The last login or refresh.
    last_used_at timestamptz not null,
    -- Moves on with each refresh, up to `latest_end`.
    expires_at timestamptz not null,
    latest_end timestamptz not null,
    ended_at timestamptz,
    ended_by text check (ended_by in ('logout', 'revoked', 'reuse', 'password', 'deactivated')),
    check ((ended_at is null) = (ended_by is null))
);

create index login_sessions_of on login_sessions (user_id, created_at) where ended_at is null;
create index login_sessions_age on login_sessions (expires_at);

-- Single use. A spent one stays, so that its second use is seen for what it is.
create table refresh_tokens (
    hash bytea primary key,
    session_id uuid not null references login_sessions on delete cascade,
    issued_at timestamptz not null,
    spent_at timestamptz
);

create index refresh_tokens_of on refresh_tokens (session_id);

-- What was mailed to prove that an address is somebody's: each works once, and not for ever.
create table account_links (
    hash bytea primary key,
    user_id uuid not null references users on delete cascade,
    purpose text not null check (purpose in ('reset', 'verify')),
    -- The address it was mailed to; what it proves is true of that one only.
    email text not null,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    used_at timestamptz
);

create index account_links_of on account_links (user_id, purpose) where used_at is null;
create index account_links_age on account_links (expires_at);

create table members (
    organization_id uuid not null references organizations,
    user_id uuid not null references users,
    role_id uuid not null references roles,
    -- How well the organization knows them; events can ask for a level.
    vetting_level smallint not null default 0 check (vetting_level between 0 and 9),
    created_at timestamptz not null,
    primary key (organization_id, user_id)
);

create index members_by_user on members (user_id);
create index members_by_role on members (role_id);
