#!/usr/bin/env bash
# Which branches and addresses depend on a secret: asserts what valgrind's
# memcheck reports of each case of src/main.rs. Needs valgrind with its headers,
# and a C compiler.
set -euo pipefail
cd "$(dirname "$0")"

cargo build --release --quiet
report="$(mktemp)"
trap 'rm -f "$report"' EXIT
failed=0

# The reports of a case, one a line, their frames joined; without what its second
# argument, a pattern, is found in.
reports_of() {
    valgrind --quiet --num-callers=12 --log-file="$report" target/release/gatekey-memcheck "$1"
    sed -E 's/^==[0-9]+== ?//' "$report" |
        awk -v RS= -v left_out="$2" '{ gsub("\n", " ") } /depends on|Use of uninit/ && $0 !~ left_out'
}

# A case, how many reports there must be, where, and what is left out of them.
expect() {
    local name="$1" count="$2" where="$3" reports found
    reports="$(reports_of "$name" "${4:-^$}")"
    found="$(grep -c . <<<"$reports" || true)"
    if [[ "$count" == some && "$found" -gt 0 || "$count" == "$found" ]] &&
        ! grep . <<<"$reports" | grep -vqE "$where"; then
        echo "ok: $name: $found"
    else
        printf 'FAILED: %s: %s reports, where %s were to be, in "%s"\n%s\n' \
            "$name" "$found" "$count" "$where" "$reports" >&2
        failed=1
    fi
}

# The control first: what is not reported here would not be elsewhere.
expect compare-early-exit some 'equal_early_exit'
expect compare 0 ''
expect digest 0 ''
expect mac 0 ''
# The one branch is on the answer of the comparison. Whether a function is inlined, and so
# how it is named, differs from build to build: it is known by its file.
answer='at 0x[0-9A-F]+: [^()]+ \((prove|verify)\.rs:'
expect verify-resident 1 "$answer"
# Before the file is asked, the text presented is looked at for its form: its own
# digits, by a table, and its check. No stored secret is known there yet.
expect verify-file 1 "$answer" 'is_token [(]token[.]rs:'
exit "$failed"
