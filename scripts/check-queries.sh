#!/bin/sh
# Fails when .sqlx/ is not exactly what the queries of today need.
set -eu
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"$(dirname "$0")/write-queries.sh" "$fresh"
if ! diff -rq .sqlx "$fresh"; then
    echo ".sqlx/ is out of date: run \`make prepare\` and commit what it writes" >&2
    exit 1
fi
