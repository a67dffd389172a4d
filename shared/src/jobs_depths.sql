-- Each part counts along an index of its own, so that a week of finished jobs costs nothing.
with waiting as (
    select job_type, count(*) as waiting, count(*) filter (where run_at <= now()) as due, min(run_at) as oldest
    from apalis.jobs
    where status = 'Pending' or (status = 'Failed' and attempts < max_attempts)
    group by job_type
), running as (
    select job_type, count(*) as running from apalis.jobs where lock_by is not null group by job_type
), dead as (
    select job_type, count(*) as dead from apalis.jobs where status = 'Killed' group by job_type
)
select
    queue as "queue!",
    coalesce(waiting, 0) as "waiting!",
    coalesce(due, 0) as "due!",
    coalesce(running, 0) as "running!",
    coalesce(dead, 0) as "dead!",
    coalesce(greatest(extract(epoch from now() - oldest), 0), 0)::float8 as "oldest_due_seconds!"
from unnest($1::text[]) as queue
left join waiting on waiting.job_type = queue
left join running on running.job_type = queue
left join dead on dead.job_type = queue
order by queue
