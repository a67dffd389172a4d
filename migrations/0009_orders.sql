-- What somebody bought, what became of its payment, and the tickets that came of it.

create table orders (
    -- That of the hold that it stands on: one hold makes one order.
    id uuid primary key,
    organization_id uuid not null references organizations,
    event_id uuid not null references events,
    user_id uuid references users,
    email text not null,
    -- Opens the order to a guest. It stands in every mail about the order, so it is kept.
    secret text not null,
    status text not null,
    -- Why it failed, was cancelled or needs an eye: a code.
    reason text,
    method text not null,
    currency text not null,
    total bigint not null check (total >= 0),
    paid bigint not null default 0 check (paid >= 0),
    -- Given back or on its way there; what failed does not count.
    refunded bigint not null default 0,
    -- Frozen with the prices.
    refund_policy jsonb not null,
    -- One for each ticket, or one for all.
    attendees jsonb not null,
    -- What Redis needs to hold the places again after a loss.
    hold jsonb not null,
    payment_deadline timestamptz not null,
    -- Where the buyer acts, or what their browser confirms the payment with.
    payment_url text,
    client_secret text,
    disputed boolean not null default false,
    version bigint not null default 1,
    placed_at timestamptz not null,
    -- When the payment's fate was last asked for.
    asked_at timestamptz not null,
    constraint orders_refunds_within_payment check (refunded between 0 and paid)
);

create index orders_by_event on orders (event_id, placed_at desc, id desc);
create index orders_by_user on orders (user_id, placed_at desc, id desc) where user_id is not null;
create index orders_by_email on orders (event_id, lower(email));
-- Those whose payment must be asked after.
create index orders_waiting on orders (asked_at) where status in ('pending', 'requires_action');
create index orders_waiting_by_event on orders (event_id) where status in ('pending', 'requires_action');

create table order_items (
    order_id uuid not null references orders on delete cascade,
    position smallint not null,
    ticket_type_id uuid not null references ticket_types,
    name text not null,
    quantity integer not null check (quantity > 0),
    price bigint not null check (price >= 0),
    primary key (order_id, position)
);

create index order_items_by_type on order_items (ticket_type_id);

-- One try to be paid. Its id is the key under which Stripe does it once.
create table payment_attempts (
    id uuid primary key,
    order_id uuid not null references orders,
    method text not null,
    -- Whose card it is, in Stripe's words; forgotten when the attempt is over.
    token text,
    -- Where the buyer comes back to from Stripe's page.
    return_url text,
    -- Stripe's payment, or its checkout until there is a payment.
    payment_id text,
    checkout_id text,
    status text not null check (status in ('open', 'paid', 'failed', 'cancelled')),
    created_at timestamptz not null
);

create unique index payment_attempts_open on payment_attempts (order_id) where status = 'open';
create index payment_attempts_by_order on payment_attempts (order_id);
create unique index payment_attempts_by_payment on payment_attempts (payment_id) where payment_id is not null;
create unique index payment_attempts_by_checkout on payment_attempts (checkout_id) where checkout_id is not null;

create table refunds (
    -- Also the key under which Stripe gives it back once.
    id uuid primary key,
    order_id uuid not null references orders,
    -- Stripe's payment that it is of; none for what was paid by hand.
    payment_id text,
    amount bigint not null check (amount > 0),
    reason text not null,
    status text not null check (status in ('requested', 'processing', 'succeeded', 'failed')),
    provider_id text unique,
    failure text,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create index refunds_by_order on refunds (order_id, created_at);
create index refunds_open on refunds (updated_at) where status in ('requested', 'processing');

-- What was received and given back. Never changed, never removed.
create table ledger (
    seq bigint generated always as identity primary key,
    organization_id uuid not null,
    event_id uuid not null,
    order_id uuid not null references orders,
    kind text not null check (kind in ('payment', 'refund')),
    -- Below 0 for what was given back.
    amount bigint not null,
    currency text not null,
    provider text not null check (provider in ('stripe', 'manual', 'free')),
    -- The provider's payment or refund; counted once.
    reference text not null,
    at timestamptz not null,
    constraint ledger_once unique (kind, reference)
);

create index ledger_by_order on ledger (order_id);
create index ledger_by_time on ledger (at) where provider = 'stripe';

create function only_grows() returns trigger language plpgsql as $$
begin
    raise exception '% only grows', tg_table_name;
end $$;

create trigger ledger_only_grows before update or delete on ledger
    for each row execute function only_grows();
create trigger ledger_is_kept before truncate on ledger
    for each statement execute function only_grows();

create table tickets (
    id uuid primary key,
    order_id uuid not null references orders,
    event_id uuid not null references events,
    organization_id uuid not null,
    ticket_type_id uuid not null references ticket_types,
    user_id uuid references users,
    -- What the QR shows.
    code text not null constraint tickets_code_key unique,
    status text not null check (status in ('valid', 'cancelled')),
    -- What it cost.
    price bigint not null,
    attendee jsonb not null,
    version bigint not null default 1,
    created_at timestamptz not null
);

create index tickets_by_order on tickets (order_id);
create index tickets_by_event on tickets (event_id, id);
create index tickets_by_user on tickets (user_id, id) where user_id is not null;
create index tickets_by_type on tickets (ticket_type_id) where status = 'valid';

-- What Stripe told us, each once.
create table stripe_events (
    id text primary key,
    kind text not null,
    object_id text,
    payment_id text,
    -- The order that its metadata names.
    order_id uuid,
    received_at timestamptz not null
);

create index stripe_events_by_age on stripe_events (received_at);
