#!/bin/sh
# Makes .sqlx/ exactly what the queries of today need.
set -eu
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
"$(dirname "$0")/write-queries.sh" "$fresh"
mkdir -p .sqlx
rm -f .sqlx/query-*.json
find "$fresh" -name 'query-*.json' -exec cp {} .sqlx/ \;
echo ".sqlx/ holds $(find .sqlx -name 'query-*.json' | wc -l | tr -d ' ') queries"
