-- What must hold whenever nothing is under way. Each row that comes back is a breach, by name and subject.

select 'a venue has one line that tells of its making' as invariant, venues.id::text as subject
from venues
where (select count(*) from activities a where a.subject_id = venues.id and a.kind = 'venue.created') <> 1

union all
select 'a venue has as many lines of change as it has versions', venues.id::text
from venues
where (select count(*) from activities a where a.subject_id = venues.id and a.kind = 'venue.changed') <> version - 1

union all
select 'a venue is deleted if and only if a line tells so', venues.id::text
from venues
where (deleted_at is not null)
      <> exists (select from activities a where a.subject_id = venues.id and a.kind = 'venue.deleted')

union all
select 'an organization has one line that tells of its making', organizations.id::text
from organizations
where (select count(*) from activities a
       where a.subject_id = organizations.id and a.kind = 'organization.created') <> 1

union all
select 'a line of an organization has that organization''s things as its subject', activities.id::text
from activities join venues on venues.id = activities.subject_id
where activities.organization_id is distinct from venues.organization_id
