-- Titles are in the order in which people look for them: É next to E, not after Z.
create index events_by_title_in_order on events (lower(title) collate "und-x-icu", id);
drop index events_by_title;
