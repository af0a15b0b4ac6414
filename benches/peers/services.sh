#!/bin/sh
# Starts PostgreSQL and Redis for the peers' run, from Debian's packages, with
# all of their files under one directory, and stops them.
#
#   services.sh start DIR REDIS_PORT
#   services.sh stop DIR
#
# `start` prints one line a server on stdout:
#   postgres ready SOCKET_DIR      or  postgres missing WHY
#   redis ready PORT               or  redis missing WHY
# PostgreSQL listens on a unix socket in DIR only, Redis on 127.0.0.1 only.
# What is missing is not an error: `apt-get install postgresql redis-server`.

set -eu

usage() {
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

# PostgreSQL does not run as root: as root, its account from Debian is taken.
as_postgres() {
    if [ "$(id -u)" -eq 0 ]; then
        runuser -u postgres -- "$@"
    else
        "$@"
    fi
}

# The newest PostgreSQL of Debian's, or what is in PATH.
postgres_bin() {
    newest=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
    if [ -n "$newest" ]; then
        echo "$newest"
    elif command -v pg_ctl >/dev/null; then
        dirname "$(command -v pg_ctl)"
    fi
}

start_postgres() {
    bin=$(postgres_bin)
    if [ -z "$bin" ]; then
        echo "postgres missing not installed (apt-get install postgresql)"
        return
    fi
    if [ "$(id -u)" -eq 0 ] && ! id postgres >/dev/null 2>&1; then
        echo "postgres missing run as root, and there is no account 'postgres'"
        return
    fi
    base="$dir/postgres"
    mkdir -p "$base"
    if [ "$(id -u)" -eq 0 ]; then
        chown postgres "$base"
        # So that the account can reach its own directory.
        chmod a+x "$dir"
    fi
    cd "$base"
    # fsync and synchronous_commit are on by default, and named for the reader.
    # The manual advises a quarter of the memory for shared_buffers; this holds
    # all of a million keys.
    options="-c listen_addresses='' -c unix_socket_directories='$base'"
    options="$options -c fsync=on -c synchronous_commit=on"
    options="$options -c shared_buffers=1GB -c max_wal_size=4GB"
    if as_postgres "$bin/initdb" -D "$base/data" -U bench -A trust -E UTF8 \
        --locale=C >"$dir/postgres-initdb.log" 2>&1 &&
        as_postgres "$bin/pg_ctl" -D "$base/data" -l "$base/server.log" -w \
            -o "$options" start >"$dir/postgres-start.log" 2>&1; then
        echo "postgres ready $base"
    else
        cat "$dir"/postgres-*.log "$base/server.log" >&2 2>/dev/null || true
        echo "postgres missing did not start (its log is on stderr)"
    fi
}

start_redis() {
    if ! command -v redis-server >/dev/null; then
        echo "redis missing not installed (apt-get install redis-server)"
        return
    fi
    base="$dir/redis"
    mkdir -p "$base"
    # `appendfsync always` is what its manual names for writes that survive
    # power loss. No rewrite of the file in the middle of the run.
    redis-server --port "$port" --bind 127.0.0.1 --dir "$base" --daemonize yes \
        --pidfile "$base/pid" --logfile "$base/log" --save '' \
        --appendonly yes --appendfsync always --auto-aof-rewrite-percentage 0 \
        >"$base/start.log" 2>&1 || true
    tries=0
    while [ $tries -lt 50 ]; do
        if redis-cli -h 127.0.0.1 -p "$port" ping 2>/dev/null | grep -q PONG; then
            echo "redis ready $port"
            return
        fi
        tries=$((tries + 1))
        sleep 0.1
    done
    cat "$base/start.log" "$base/log" >&2 2>/dev/null || true
    echo "redis missing did not start (its log is on stderr)"
}

stop_all() {
    if [ -d "$dir/postgres/data" ]; then
        cd "$dir/postgres"
        as_postgres "$(postgres_bin)/pg_ctl" -D "$dir/postgres/data" -w -m fast stop \
            >/dev/null 2>&1 || true
    fi
    if [ -f "$dir/redis/pid" ]; then
        pid=$(cat "$dir/redis/pid")
        kill "$pid" 2>/dev/null || true
        tries=0
        while kill -0 "$pid" 2>/dev/null && [ $tries -lt 100 ]; do
            tries=$((tries + 1))
            sleep 0.1
        done
    fi
}

[ $# -ge 2 ] || usage
dir=$(mkdir -p "$2" && cd "$2" && pwd)
case "$1" in
start)
    [ $# -eq 3 ] || usage
    port=$3
    # Each in its own shell: neither changes the other's directory.
    (start_postgres)
    (start_redis)
    ;;
stop) stop_all ;;
*) usage ;;
esac
