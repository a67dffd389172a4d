-- The tables of apalis as we need them. Run at every migrate, so it changes only what is not yet so.
do $$
begin
    -- Its NOTIFY serialises the commits of everyone who enqueues and halves their rate. Workers are woken through Redis.
    if exists (
        select from pg_trigger
        where tgrelid = 'apalis.jobs'::regclass and tgname = 'notify_workers' and tgenabled <> 'D'
    ) then
        alter table apalis.jobs disable trigger notify_workers;
    end if;
end
$$;

-- Two of its indexes have twins; every change of a job would write them all.
drop index if exists apalis.lidx, apalis.unique_job_id;

-- Every job changes twice and is looked for among those that wait: what it leaves behind is swept up early.
alter table apalis.jobs set (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);

-- The few dead among the many done, for the operator and for the gauge.
create index if not exists jobs_dead on apalis.jobs (id) where status = 'Killed';
