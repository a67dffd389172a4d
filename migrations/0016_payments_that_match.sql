-- Money that reached Stripe in the name of an order and is not what the order asks for: of a try that is not the order's, in
-- another currency, or another amount. It pays for nothing and goes back.
create table stray_payments (
    payment_id text primary key,
    order_id uuid not null references orders,
    amount bigint not null check (amount > 0),
    currency text not null,
    mismatch text not null check (mismatch in ('attempt', 'currency', 'amount')),
    noted_at timestamptz not null,
    -- Stripe's refund, once it is made, or why there is none.
    refund_id text,
    failure text
);

create index stray_payments_by_order on stray_payments (order_id);
create index stray_payments_open on stray_payments (noted_at) where refund_id is null;

alter table payment_attempts
    -- Money of a slow kind, such as a bank debit, is on its way: its order waits for it beyond its deadline.
    add column under_way boolean not null default false,
    -- The order has ended without a known payment, while one may have been made: when Stripe is asked again, and how often it was.
    add column ask_again_at timestamptz,
    add column asked_again smallint not null default 0;

create index payment_attempts_asked_again on payment_attempts (ask_again_at) where ask_again_at is not null;
