#!/bin/sh
# Licences, bans, sources and known advisories of everything we depend on.
set -eu
cargo deny check licenses bans sources
if cargo deny fetch db; then
    cargo deny check --disable-fetch advisories
else
    echo >&2
    echo "!!! The advisory database cannot be fetched: dependencies were NOT checked for known advisories." >&2
    echo >&2
fi
