#!/usr/bin/env bash
# The long forms of the proofs: proof/long.sh [part ...], of all parts where none is
# named. What each part printed goes to docs/proof/<part>.txt, with the date and the
# machine. All of them take some three hours on two cores; a part ends at its first
# failure, and keeps its last file then.
set -euo pipefail
cd "$(dirname "$0")/.."

proof() {
    GATEKEY_PROOF=long cargo test --release --all-features --test proof -- \
        --nocapture --test-threads=1 "$@"
}

power() { proof power:: power_quotas:: power_threads:: failing_disk:: fleet_disk::; }
killed() { proof killed:: real_disk::; }
linear() { proof linear:: levels::; }
loom() {
    RUSTC_WORKSPACE_WRAPPER=$PWD/proof/rustc_loom cargo test --all-features --lib interleavings::
}
shuttle() {
    RUSTC_WORKSPACE_WRAPPER=$PWD/proof/rustc_shuttle GATEKEY_PROOF=long cargo test --release \
        -p gatekey -p gatekey-oauth --all-features --test schedules -- --nocapture --test-threads=1
}
# Ten minutes each.
fuzz() { fuzz/run.sh 600; }
written() { proof written::; }
timing() { cargo bench --features proof --bench timing; }
memcheck() { proof/memcheck/run.sh; }
secrets() { proof canary memory:: entropy::; }
bounds() { proof flood:: clocks::; }
oauth() {
    # What it waits for is optimised anyway, and a second build of it takes longer.
    GATEKEY_PROOF=long cargo test -p gatekey-oauth --all-features --test oauth_proof -- \
        --nocapture --test-threads=1
}
# Not optimised more: it waits for the network. A million trials of both tests together, and
# primaries that are deposed for five minutes.
fleet() {
    GATEKEY_FLEET_TRIALS=500000 cargo test -p gatekey-postgres --test it -- --nocapture network::
    GATEKEY_FLEET_SECONDS=300 cargo test -p gatekey-postgres --test it -- --nocapture deposed::a_
    GATEKEY_FLEET_SECONDS=180 cargo test -p gatekey-logkit --test it -- --nocapture linear::
}
flood() { cargo bench --bench flood; }
# Branches are counted by a nightly compiler alone. Without the conformance tests, which
# drive a program of its own.
coverage() {
    local report
    report=$(cargo +nightly llvm-cov --all-features --lib --test http --test it --test proof \
        --test tower --branch --summary-only) || {
        tail -n 60 <<<"$report" >&2
        return 1
    }
    # The table's lines, with regions left out.
    sed -n '/^Filename/,$p' <<<"$report" |
        awk 'NR == 1 { print "file functions lines branches"; next }
            !/^-+$/ { print $1, $7, $10, $13 }' | column -t
}
parts=(power killed linear loom shuttle fuzz written timing memcheck secrets bounds oauth fleet flood coverage)

mkdir -p docs/proof
for part in "${@:-${parts[@]}}"; do
    if [[ " ${parts[*]} " != *" $part "* ]]; then
        echo "there is no part $part; there are: ${parts[*]}" >&2
        exit 1
    fi
    echo "== $part"
    log=$(mktemp)
    begun=$SECONDS
    "$part" 2>"$log.err" | tee "$log" || {
        tail -n 60 "$log.err" >&2
        exit 1
    }
    cpu=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)
    {
        echo "# proof/long.sh $part, $(date -u +%F), ${cpu:-$(uname -m)}, $(nproc) cores, $((SECONDS - begun)) s"
        # Without what the test runner says around it.
        sed -e '/^$/d' -e '/^ok$/d' -e '/^running [0-9]* tests\?$/d' "$log"
    } >"docs/proof/$part.txt"
    rm -f "$log" "$log.err"
done
