#!/bin/sh
# Run once by the image of Postgres, when its volume is still empty.
set -eu
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --file=/docker-entrypoint-initdb.d/roles/roles.sql
psql --no-psqlrc --set=ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" \
    --set=owner="$HOLDFAST_DB_OWNER_PASSWORD" --set=app="$HOLDFAST_DB_PASSWORD" <<'SQL'
alter role holdfast_owner password :'owner';
alter role holdfast_app password :'app';
SQL
