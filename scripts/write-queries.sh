#!/bin/sh
# Writes what the compiler needs to know of every query into a folder, from a live database at the current schema
# (DATABASE_URL). `make prepare` and `make check-queries` call it.
set -eu
folder=$1

cargo=${CARGO:-cargo}

# Dependencies first, from what they bring along: some have queries of their own, which are none of ours. What of
# our own code does not compile yet is no matter here.
"$cargo" check --workspace --all-targets --keep-going >/dev/null 2>&1 || true

# The macros ask the database while they are compiled, so every file that has one must be compiled anew.
grep -rlE 'query(_as|_scalar|_file|_file_as|_file_scalar)?(_unchecked)?!' --include='*.rs' \
    api cli sandbox shared tests worker |
    while IFS= read -r file; do touch "$file"; done

SQLX_OFFLINE=false SQLX_OFFLINE_DIR=$folder "$cargo" check -q --workspace --all-targets
