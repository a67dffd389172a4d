-- Ends attempts. `lock_by` becomes null: the row is free, and its worker's row may go.
update apalis.jobs job set
    status = ended.status,
    attempts = ended.attempts,
    last_result = ended.result,
    run_at = coalesce(ended.at, coalesce($8::timestamptz, now()) + ended.pause * interval '1 millisecond', job.run_at),
    done_at = case when ended.status in ('Done', 'Killed') then now() end,
    lock_by = null
from unnest($1::text[], $2::text[], $3::int[], $4::jsonb[], $5::bigint[], $6::timestamptz[])
     as ended (id, status, attempts, result, pause, at)
where job.id = ended.id and job.lock_by = $7
