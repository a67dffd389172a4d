-- Claims due jobs, the oldest first, and none that another worker is about to claim. What was found is locked, so it is
-- still where it was found, and is named by its place. The places come as an array because Postgres takes a `limit` it does
-- not know for a tenth of the table: joined, it would read the whole table each time.
update apalis.jobs set status = 'Queued', lock_by = $1, lock_at = now()
where ctid = any(array(
    select ctid from apalis.jobs
    where job_type = $2
      and (status = 'Pending' or (status = 'Failed' and attempts < max_attempts))
      and run_at <= now()
    order by priority desc, run_at
    limit $3
    for update skip locked
))
returning id, job_type as queue, job as payload, attempts, max_attempts
