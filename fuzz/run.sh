#!/usr/bin/env bash
# Runs each fuzz target from its corpus for so many seconds: fuzz/run.sh [seconds].
#
# TARGETS="token store" runs these alone. What is found meanwhile goes to
# fuzz/found, not into the corpus that is committed; a failing input goes to
# fuzz/artifacts, and belongs into the corpus once it is mended.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${1:-10}
targets=${TARGETS:-token headers record entry store ops}

# What `cargo fuzz build --release --sanitizer none --codegen-units 16` does, without the
# program, which would have to be built first: libFuzzer learns from these which branches an
# input took and what it was compared with. No sanitizer: the crate forbids unsafe code, and
# without one the targets run and build in less than half the time. Overflow checks and debug
# assertions are on for our own code (see Cargo.toml).
flags=(-Cpasses=sancov-module -Ccodegen-units=16 --cfg fuzzing)
for flag in sanitizer-coverage-{level=4,inline-8bit-counters,pc-table,trace-compares,stack-depth} \
    simplifycfg-branch-fold-threshold=0; do
    flags+=("-Cllvm-args=-$flag")
done
triple=$(rustc -vV | sed -n 's/^host: //p')
# With a target, the flags are not those of build scripts and macros.
# For a short run, a faster build pays.
config=()
if [ "$seconds" -lt 60 ]; then
    config=(--config profile.release.package.gatekey.opt-level=1)
fi
RUSTFLAGS="${flags[*]}" cargo build "${config[@]}" --release --target "$triple"

# Stores on real files need no real disk here.
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then
    export TMPDIR=/dev/shm
fi

run() {
    local target=$1 len memory_mb log status runs coverage
    # The longest input: a header, a token, a record; sixteen edits; eighty steps.
    len=4096 memory_mb=1024
    case $target in
    # For a page whose forged name says so, redb asks for up to 4 GiB.
    store) len=129 memory_mb=6000 ;;
    ops) len=324 ;;
    esac
    mkdir -p "found/$target" "artifacts/$target"
    log=$(mktemp)
    status=0
    "target/$triple/release/$target" "found/$target" "corpus/$target" \
        -max_total_time="$seconds" -timeout=60 -rss_limit_mb="$memory_mb" \
        -max_len="$len" -len_control=0 -artifact_prefix="artifacts/$target/" \
        >"$log" 2>&1 || status=$?
    # Where the storage engine has panicked, and gatekey has made an error of it.
    sed -n "s/^PANIC panicked at .*\/\(redb-.*\):$/$target: caught in \1/p" "$log"
    runs=$(sed -n 's/^Done \([0-9]*\) runs.*/\1/p' "$log")
    if [ "$status" -ne 0 ] || [ -z "$runs" ]; then
        grep -av '^#' "$log" | tail -n 60 >&2
        echo "$target: failed; its input is in fuzz/artifacts/$target" >&2
        exit 1
    fi
    coverage=$(grep -aoE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$log" | tail -n 1)
    echo "$target: $runs executions in $seconds s, $coverage"
    rm -f "$log"
}

# Two at a time.
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
running=0
for target in $targets; do
    if [ "$running" -eq 2 ]; then
        wait -n
        running=1
    fi
    run "$target" &
    running=$((running + 1))
done
for ((; running > 0; running--)); do
    wait -n
done
