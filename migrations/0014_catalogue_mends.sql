-- An event begins and ends with those of its sessions that take place, if any does.
update events e set starts_at = s.starts_at, ends_at = s.ends_at
from (select event_id, min(starts_at) filter (where active) as starts_at, max(ends_at) filter (where active) as ends_at
      from event_sessions group by event_id) s
where e.id = s.event_id and s.starts_at is not null and (e.starts_at, e.ends_at) <> (s.starts_at, s.ends_at);

-- What was cancelled before the public saw it stays out of sight.
alter table events add column never_published boolean not null default false;

-- Titles are in the order in which people look for them: É next to E, not after Z.
drop index events_by_title;
create index events_by_title on events (lower(title) collate "und-x-icu", id);
