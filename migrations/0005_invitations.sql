-- How people come to belong to an organization: an open invitation is a row, and there are no others. What became
-- of one stands in the activity feed, without the address.

create table invitations (
    id uuid primary key,
    organization_id uuid not null references organizations,
    -- In lower case, like the address of an account.
    email text not null check (email = lower(email) and length(email) <= 254),
    role_id uuid not null references roles on delete cascade,
    vetting_level smallint not null default 0 check (vetting_level between 0 and 9),
    -- The link is mailed; only its hash is here.
    hash bytea not null constraint invitations_hash_key unique,
    created_at timestamptz not null,
    expires_at timestamptz not null,
    constraint invitations_email_key unique (organization_id, email)
);

create index invitations_by_role on invitations (role_id);
create index invitations_age on invitations (expires_at);

create index api_keys_of on api_keys (organization_id, created_at) where revoked_at is null;

-- An organization is changed by version, like everything that two may change at once.
update organizations set updated_at = created_at where updated_at is null;
alter table organizations alter column updated_at set not null;
