#!/usr/bin/env bash
# Forks a process whose threads issue, revoke and verify, again and again, and looks
# what parent and child can do. How many forks: the first argument, 40 if none.
set -euo pipefail
cd "$(dirname "$0")"

# The packages that other tests are built with, too: so it builds little besides.
cargo test --quiet --all-features -p gatekey -p gatekey-oauth -p gatekey-fork -p workspace-hack \
    --test fork -- "${1:-40}"
