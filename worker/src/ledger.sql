-- Ends attempts. `lock_by` becomes null: the row is free, and its worker's row may go. A job that asks for a time that
-- is past waits a second, or it would run without pause. Each row is looked up by its id and named by its place, so that no
-- plan can read the whole table, or all that the worker has, for each of them.
update apalis.jobs job set
    status = ended.status,
    attempts = ended.attempts,
    last_result = ended.result,
    run_at = case
        when ended.at is not null then greatest(ended.at, clock.now + interval '1 second')
        when ended.pause is not null then clock.now + ended.pause * interval '1 millisecond'
        else job.run_at
    end,
    done_at = case when ended.status in ('Done', 'Killed') then now() end,
    lock_by = null
from unnest($1::text[], $2::text[], $3::int[], $4::jsonb[], $5::bigint[], $6::timestamptz[])
     as ended (id, status, attempts, result, pause, at)
     cross join lateral (select ctid as place from apalis.jobs where id = ended.id limit 1) as found
     cross join (select coalesce($8::timestamptz, now()) as now) as clock
where job.ctid = found.place and (job.lock_by = $7) is true
