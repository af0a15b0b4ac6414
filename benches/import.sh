#!/usr/bin/env bash
# A million keys of another system: how long their import takes by the command line, and how
# long it then takes to find one. docs/BENCHMARKS.md has what it printed.
#
#     benches/import.sh [KEYS]
set -euo pipefail
cd "$(dirname "$0")/.."
keys=${1:-1000000}
cargo build --release --quiet -p gatekey-cli
gatekey=$PWD/target/release/gatekey
folder=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$folder"' EXIT
export GATEKEY_STORE=$folder/keys.redb

# An owner has ten keys. Each hash is that of a token of its own.
python3 - "$keys" >"$folder/keys.csv" <<'EOF'
import hashlib, sys
print("id,hash,owner,permissions,expires_at")
for n in range(int(sys.argv[1])):
    digest = hashlib.sha256(b"token-of-the-old-system-%07d" % n).hexdigest()
    print(f"{n},{digest},org-{n // 10}/service,read,2035-01-01T00:00:00Z")
EOF
"$gatekey" init
"$gatekey" keyspace create acme_live --permission read >/dev/null
echo "import of $keys keys"
time "$gatekey" import --format sha256 "$folder/keys.csv" --keyspace acme_live --source-permissions
du -h "$folder/keys.redb"
"$gatekey" check --json >/dev/null

# Five of them, far apart.
numbers=$(seq 7 $((keys / 5)) $((keys - 1)))
token() { printf 'token-of-the-old-system-%07d' "$1"; }
of() { python3 -c 'import json, sys; print(json.loads(sys.stdin.read())[sys.argv[1]])' "$1"; }
ms() { # A command, its time in milliseconds.
    local began ended
    began=$(date +%s%N)
    "$@" >/dev/null
    ended=$(date +%s%N)
    printf '%s ' "$(((ended - began) / 10000))" | sed 's/\(..\) $/.\1 /'
}
find_one() { token "$1" | "$gatekey" find --json; }
ids=$(for n in $numbers; do find_one "$n" | of id; done)

commands() {
    printf '  find:             '; for n in $numbers; do ms find_one "$n"; done; echo
    printf '  key list --owner: '; for n in $numbers; do ms "$gatekey" key list --owner "org-$((n / 10))"; done; echo
    printf '  key show:         '; for id in $ids; do ms "$gatekey" key show "$id"; done; echo
}
echo 'the whole command on the file, ms (opening included)'
commands
"$gatekey" serve 2>"$folder/log" &
server=$!
until grep -qs serving "$folder/log"; do sleep 0.1; done
echo 'the whole command while a server holds the file, ms'
commands
echo 'the answer of the server alone, ms'
ask() { curl -s -o /dev/null -w '%{time_total} %{http_code}\n' --unix-socket "$GATEKEY_STORE.sock" "$@" |
    awk '$2 != 200 {exit 1} {printf "%.2f ", $1 * 1000}'; }
json=(-H 'content-type: application/json')
printf '  find:             '
for n in $numbers; do ask "${json[@]}" -d "{\"token\": \"$(token "$n")\"}" http://admin/v1/keys/find; done; echo
printf '  key list --owner: '
for n in $numbers; do ask "http://admin/v1/keys?owner=org-$((n / 10))&limit=100"; done; echo
printf '  key show:         '
for id in $ids; do ask "http://admin/v1/keys/$id"; done; echo
