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

if ! cargo fuzz --version >/dev/null 2>&1; then
    # It only calls cargo: unoptimised it is here sooner.
    cargo install --locked --debug cargo-fuzz
fi

# The instrumentation is behind unstable flags.
toolchain=()
if cargo +nightly --version >/dev/null 2>&1; then
    toolchain=(+nightly)
else
    echo "no nightly toolchain: the stable one, with RUSTC_BOOTSTRAP=1" >&2
    export RUSTC_BOOTSTRAP=1
fi

# No sanitizer: the crate forbids unsafe code, and without one the targets run
# and build in less than half the time. Overflow checks and debug assertions are
# on for our own code (see Cargo.toml).
cargo "${toolchain[@]}" fuzz build --release --sanitizer none --codegen-units 16
triple=$(rustc -vV | sed -n 's/^host: //p')

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
