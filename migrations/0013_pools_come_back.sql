-- A total or a quantity that was taken away and is given again has a pool again, of the same id. Whoever was told of the old
-- one knows it by its version, so the new one goes on where that ended.
alter table events add column next_pool_version bigint not null default 1;
alter table ticket_types add column next_pool_version bigint not null default 1;

-- Organizers list their drafts too, by title and by age.
drop index events_by_title;
drop index events_by_age;
create index events_by_title on events (lower(title), id);
create index events_by_age on events (created_at desc, id desc);
