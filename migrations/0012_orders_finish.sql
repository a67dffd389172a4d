-- How many orders a buyer keeps waiting is asked with each that is not paid at once.
drop index orders_waiting_by_event;
create index orders_waiting_by_buyer on orders (event_id, (hold ->> 'buyer')) where status in ('pending', 'requires_action');

-- What a bank takes for a dispute, and brings back when it is won.
alter table ledger drop constraint ledger_kind_check;
alter table ledger add constraint ledger_kind_check check (kind in ('payment', 'refund', 'dispute'));
