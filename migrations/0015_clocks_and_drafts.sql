-- What was cancelled before the public saw it stays out of sight.
alter table events add column never_published boolean not null default false;
update events e set never_published = true
where status = 'cancelled' and exists (
    select from activities a
    where a.subject_id = e.id and a.kind = 'event.status_changed' and a.data->'status' = '["draft", "cancelled"]');

-- An event begins and ends with those of its sessions that take place, if any does. What has begun stays as it is.
update events e set starts_at = s.starts_at, ends_at = s.ends_at
from (select event_id, min(starts_at) filter (where active) as starts_at, max(ends_at) filter (where active) as ends_at
      from event_sessions group by event_id) s
where e.id = s.event_id and e.status in ('draft', 'published', 'postponed', 'on_hold')
      and s.starts_at is not null and (e.starts_at, e.ends_at) <> (s.starts_at, s.ends_at);
