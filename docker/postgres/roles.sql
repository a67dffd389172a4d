-- The roles of Holdfast in its database, made by a superuser. Safe to run again.
--
-- `holdfast_owner` runs the migrations and nothing else. `holdfast_app` is the API's and the workers': it may read and write
-- rows, and neither change the schema nor do what superusers may on the server. Passwords are set beside this file.

do $$
begin
    if not exists (select from pg_roles where rolname = 'holdfast_owner') then
        create role holdfast_owner;
    end if;
    if not exists (select from pg_roles where rolname = 'holdfast_app') then
        create role holdfast_app;
    end if;
    execute format('alter database %I owner to holdfast_owner', current_database());
    execute format('revoke all on database %I from public', current_database());
    execute format('grant connect on database %I to holdfast_app', current_database());
end
$$;

alter role holdfast_owner login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;
alter role holdfast_app login nosuperuser nocreatedb nocreaterole noreplication nobypassrls;

alter schema public owner to holdfast_owner;
revoke create on schema public from public;
grant usage on schema public to holdfast_app;

-- Of what the migrations make, now and later. The job engine has a schema of its own.
alter default privileges for role holdfast_owner grant usage on schemas to holdfast_app;
alter default privileges for role holdfast_owner grant select, insert, update, delete on tables to holdfast_app;
alter default privileges for role holdfast_owner grant usage, select on sequences to holdfast_app;
alter default privileges for role holdfast_owner grant execute on functions to holdfast_app;
