#!/bin/sh
# Installs a cargo tool at a version that is known to work, unless there is one already.
set -eu
tool=$1
version=$2
command -v "$tool" >/dev/null 2>&1 || {
    echo "$tool is missing, so this installs it: cargo install --locked $tool@$version"
    cargo install --locked "$tool@$version"
}
