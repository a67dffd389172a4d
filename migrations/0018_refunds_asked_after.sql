-- Each minute some of the open refunds are asked after: those that were not asked after for longest. By when they last changed,
-- the same ones would be asked after for ever, and no other would have its turn.
alter table refunds add column asked_at timestamptz;
update refunds set asked_at = updated_at;
alter table refunds alter column asked_at set not null;

drop index refunds_open;
create index refunds_open on refunds (asked_at) where status in ('requested', 'processing');
