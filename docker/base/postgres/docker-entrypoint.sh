#!/usr/bin/env bash
# Starts PostgreSQL, and makes the cluster on the first boot. The environment, folders and arguments mean what they
# mean to users of the official image: https://hub.docker.com/_/postgres documents them.
#
# One promise goes further. As long as $PGDATA/.first-boot exists, the first boot has not come to its end and no client
# can have been served: a boot that finds it (the one before was killed) discards what is there and begins again.
set -euo pipefail
shopt -s nullglob

fail() {
    echo "docker-entrypoint: $*" >&2
    exit 1
}

# Set the variable $1 to its own value, else to the content of the file that $1_FILE names, else to $2.
from_env() {
    local name=$1 file="$1_FILE"
    if [[ -n ${!name-} && -n ${!file-} ]]; then
        fail "$name and $file are both set, but only one of them can count"
    fi
    if [[ -n ${!file-} ]]; then
        [[ -r ${!file} ]] || fail "$file names ${!file}, which cannot be read"
        printf -v "$name" %s "$(<"${!file}")"
    elif [[ -z ${!name-} ]]; then
        printf -v "$name" %s "${2-}"
    fi
    export "${name?}"
    unset "$file"
}

# Whether these arguments ask for a text and not for a server.
asks_for_help() {
    local argument
    for argument; do
        case $argument in -'?' | --help | --describe-config | -V | --version) return 0 ;; esac
    done
    return 1
}

# As root: give the folders to postgres and go on as postgres.
drop_privileges() {
    mkdir -p "$PGDATA" /var/run/postgresql
    find "$PGDATA" \! -user postgres -exec chown postgres {} +
    chown postgres:postgres /var/run/postgresql
    chmod 3777 /var/run/postgresql
    if [[ -n ${POSTGRES_INITDB_WALDIR-} ]]; then
        mkdir -p "$POSTGRES_INITDB_WALDIR"
        find "$POSTGRES_INITDB_WALDIR" \! -user postgres -exec chown postgres {} +
    fi
    export HOME=/var/lib/postgresql USER=postgres LOGNAME=postgres
    exec setpriv --reuid=postgres --regid=postgres --init-groups -- "${BASH_SOURCE[0]}" "$@"
}

# psql on the server of the first boot, which listens on its socket only.
local_psql() {
    PGHOST='' PGHOSTADDR='' psql -v ON_ERROR_STOP=1 --no-psqlrc --no-password \
        --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" "$@"
}

# Called by this name in the scripts that the official image's users write.
docker_process_sql() {
    local_psql "$@"
}

start_local() {
    # A port that the arguments ask for would move the socket away from where psql looks.
    serving=yes
    PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" --wait --silent start \
        -o "$(printf '%q ' "$@" -c listen_addresses= -p "${PGPORT:-5432}")"
}

stop_local() {
    if [[ -n ${serving-} ]]; then
        serving=
        PGUSER=$POSTGRES_USER pg_ctl -D "$PGDATA" --mode=fast --wait --silent stop
    fi
}

run_scripts() {
    local file
    for file in /docker-entrypoint-initdb.d/*; do
        case $file in
            *.sh)
                if [[ -x $file ]]; then
                    echo "docker-entrypoint: running $file"
                    "$file"
                else
                    echo "docker-entrypoint: sourcing $file"
                    # shellcheck disable=SC1090
                    . "$file"
                fi
                ;;
            *.sql)
                echo "docker-entrypoint: running $file"
                local_psql -f "$file"
                ;;
            *.sql.gz | *.sql.xz | *.sql.zst)
                echo "docker-entrypoint: running $file"
                case $file in
                    *.gz) gzip -dc "$file" ;;
                    *.xz) xz -dc "$file" ;;
                    *.zst) zstd -dc "$file" ;;
                esac | local_psql
                ;;
            *) echo "docker-entrypoint: ignoring $file" ;;
        esac
    done
}

first_boot() {
    local unfinished=$PGDATA/.first-boot entry arguments method=${POSTGRES_HOST_AUTH_METHOD-}

    from_env POSTGRES_PASSWORD
    from_env POSTGRES_USER postgres
    from_env POSTGRES_DB "$POSTGRES_USER"
    from_env POSTGRES_INITDB_ARGS
    if [[ -z $POSTGRES_PASSWORD && $method != trust ]]; then
        fail "the database has no password yet: set POSTGRES_PASSWORD (POSTGRES_HOST_AUTH_METHOD=trust lets everybody in)"
    fi

    if [[ -e $unfinished ]]; then
        echo "docker-entrypoint: the first boot was not finished; beginning again"
        # The mark goes last, or a kill in between would leave a folder that is nobody's.
        find "$PGDATA" -mindepth 1 -maxdepth 1 \! -name .first-boot -exec rm -rf {} +
        [[ -z ${POSTGRES_INITDB_WALDIR-} ]] || find "$POSTGRES_INITDB_WALDIR" -mindepth 1 -delete
        rm -rf "$unfinished"
    fi
    if [[ -n $(ls -A "$PGDATA") ]]; then
        fail "$PGDATA is not empty, and is no cluster either: use a folder below it (PGDATA), or empty it"
    fi

    mkdir "$unfinished"
    # Quotes in POSTGRES_INITDB_ARGS are the shell's.
    eval "arguments=($POSTGRES_INITDB_ARGS)"
    [[ -z ${POSTGRES_INITDB_WALDIR-} ]] || arguments+=(--waldir "$POSTGRES_INITDB_WALDIR")
    # Through a pipe: the password is in no file and in no process's arguments.
    initdb --pgdata "$unfinished/data" --username "$POSTGRES_USER" --pwfile <(printf '%s\n' "$POSTGRES_PASSWORD") \
        --no-instructions "${arguments[@]}"
    # What lies there may be moved: a cluster knows no absolute path of its own.
    for entry in "$unfinished"/data/*; do
        mv "$entry" "$PGDATA/"
    done
    rmdir "$unfinished/data"

    [[ -n $method ]] || method=$(postgres -D "$PGDATA" -C password_encryption "$@")
    printf '\nhost all all all %s\n' "$method" >>"$PGDATA/pg_hba.conf"

    export PGPASSWORD=${PGPASSWORD-$POSTGRES_PASSWORD}
    start_local "$@"
    if [[ $POSTGRES_DB != postgres ]]; then
        POSTGRES_DB=postgres local_psql --quiet --set db="$POSTGRES_DB" <<<'CREATE DATABASE :"db";'
    fi
    run_scripts
    stop_local
    unset PGPASSWORD

    # On the disk before the mark goes: without it, a crash could leave a cluster that looks complete and is not.
    sync -f "$PGDATA"
    rmdir "$unfinished"
    sync "$PGDATA"
    echo "docker-entrypoint: the first boot is finished"
}

boot() {
    # Not as PID 1, nor while a child runs, would bash end by itself; the next boot begins again then.
    trap 'exit 130' INT
    trap 'exit 143' TERM
    trap stop_local EXIT
    mkdir -p "$PGDATA"
    chmod 700 "$PGDATA"
    if [[ ! -s $PGDATA/PG_VERSION || -e $PGDATA/.first-boot ]]; then
        first_boot "$@"
    fi
    trap - INT TERM EXIT
}

if [[ ${1-} == -* ]]; then
    set -- postgres "$@"
fi
if [[ ${1-} == postgres ]] && ! asks_for_help "$@"; then
    if [[ $(id -u) == 0 ]]; then
        drop_privileges "$@"
    fi
    boot "${@:2}"
fi
exec "$@"
