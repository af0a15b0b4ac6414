#!/bin/sh
# Prints how many instructions a verification takes, of each way: the difference between
# many and twice as many, so that what comes before and after them does not count.
# Usage: proof/hits/run.sh [TARGET_DIR [WAYS]]
set -eu
target=$(realpath -m "${1:-$(dirname "$0")/../../target/hits}")
cd "$(dirname "$0")"
cargo build --locked --quiet --release --target-dir "$target"
counted() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null "$target/release/gatekey-hits" "$1" "$2" 2>&1 |
        sed -n 's/.*Collected : *//p'
}
for way in ${2:-hit two_limits two_levels three_levels quota two_quotas permission revoked malformed shapeless source noted noted_source}; do
    # Multiples of what a log of uses has when it is added up.
    few=$(counted "$way" 20480)
    many=$(counted "$way" 40960)
    echo "$way: $(((many - few) * 10 / 20480)) tenths of an instruction"
done
