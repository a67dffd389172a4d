-- Whoever reads the database, or a backup of it, must not be able to open an order or a door with what stands there. Secrets
-- of orders and codes of tickets are found by their hash, and told again from a text that is encrypted with a key outside of
-- the database. The columns in plain stay for the version before, which writes them as long as it still runs; a job moves
-- them over.

alter table orders alter column secret drop not null;
alter table orders add column secret_hash bytea, add column secret_encrypted bytea;
alter table orders add constraint orders_secret_once
    check (num_nonnulls(secret, secret_hash) = 1 and num_nonnulls(secret_hash, secret_encrypted) <> 1) not valid;

alter table tickets alter column code drop not null;
alter table tickets add column code_hash bytea constraint tickets_code_hash_key unique, add column code_encrypted bytea;
alter table tickets add constraint tickets_code_once
    check (num_nonnulls(code, code_hash) = 1 and num_nonnulls(code_hash, code_encrypted) <> 1) not valid;

-- The links and codes in the parameters of a mail are encrypted.
alter table mails add column encrypted boolean not null default false;

-- The secrets of a kept answer, encrypted; the answer itself has a mark in their place.
alter table idempotency_keys add column secrets bytea;

-- What the job has still to do: nothing, once the version before is gone.
create index orders_in_plain on orders (id) where secret is not null;
create index tickets_in_plain on tickets (id) where code is not null;
create index mails_in_plain on mails (id) where not encrypted;
