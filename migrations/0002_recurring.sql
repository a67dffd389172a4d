-- The last tick of each recurring job that was turned into a job. It is kept apart from the jobs themselves, so
-- that missed ticks are known after a pause, and pruning finished jobs cannot make a tick run twice.
create table recurring_jobs (
    name text primary key,
    last_tick timestamptz not null
);
