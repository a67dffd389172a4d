-- Mails, waiting and sent. A mail is written by the transaction of what it tells of, so that it exists
-- exactly if that happened; a job sends it afterwards, since a mail server must not hold up a sale.

create table mails (
    id uuid primary key,
    -- Who it is sent for; null for what concerns the whole installation.
    organization_id uuid references organizations,
    -- What it tells of, like `order-paid:<id>`. Whoever tells it again finds it told already.
    cause text not null constraint mails_cause_key unique,
    recipient text not null,
    template text not null,
    locale text not null default 'en',
    params jsonb not null,
    status text not null default 'waiting' check (status in ('waiting', 'sending', 'sent', 'dead')),
    attempts integer not null default 0,
    last_error text,
    -- The same at every attempt, so that a mail server or reader can tell a repetition from a second mail.
    message_id text,
    created_at timestamptz not null,
    -- Set by the first attempt: a worker that was away must not count against the mail.
    give_up_at timestamptz,
    sent_at timestamptz,
    check ((status = 'sent') = (sent_at is not null))
);

-- What an operator looks for; nearly all mails are sent.
create index mails_dead on mails (created_at) where status = 'dead';
