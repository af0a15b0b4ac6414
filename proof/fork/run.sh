#!/usr/bin/env bash
# Forks a process whose threads issue, revoke and verify, again and again, and looks
# what parent and child can do. How many forks: the first argument, 40 if none.
set -euo pipefail
cd "$(dirname "$0")"

# What both are built from is built once.
export CARGO_TARGET_DIR=../memcheck/target
cargo build --release --quiet
"$CARGO_TARGET_DIR"/release/gatekey-fork "${1:-40}"
