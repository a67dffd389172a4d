#!/bin/sh
# Writes what the documentation says of the code: docs/openapi.json and the settings in docs/operations.md.
set -eu
holdfast=$1
fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
$holdfast openapi >"$fresh/openapi.json"
$holdfast settings >"$fresh/settings.md"
awk -v table="$fresh/settings.md" '
    /<!-- \/settings -->/ { between = 0 }
    !between { print }
    /<!-- settings -->/ { between = 1; print ""; while ((getline line <table) > 0) print line; print "" }
' docs/operations.md >"$fresh/operations.md"
cp "$fresh/openapi.json" docs/openapi.json
cp "$fresh/operations.md" docs/operations.md
