#!/bin/bash
# The digits example from start to end: inpod runs a real model server, a picture goes in, a digit comes out.
#
#   demo.sh [INPOD]     INPOD is the binary, bin/inpod by default
#
# On a terminal it stays until Ctrl-C. Without one, or with CI=true or DEMO_ONCE=1, it shows everything once,
# checks it, stops and exits 0. The ports can be moved:
#   DEMO_PORT=8080 DEMO_ADMIN_PORT=9880 DEMO_UPSTREAM_PORT=18080
# and everything it writes goes to DEMO_DIR (.demo in the repository); delete it to train again.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
inpod=${1:-$root/bin/inpod}
port=${DEMO_PORT:-8080}
admin=${DEMO_ADMIN_PORT:-9880}
upstream=${DEMO_UPSTREAM_PORT:-18080}
dir=${DEMO_DIR:-$root/.demo}
log=$dir/inpod.log

fail() {
    echo "demo: $1" >&2
    if [ "${2:-}" = log ] && [ -s "$log" ]; then
        echo "demo: the end of $log:" >&2
        tail -n 25 "$log" >&2
    fi
    exit 1
}
say() { printf '\n\033[1m%s\033[0m\n' "$1"; }
[ -t 1 ] || say() { printf '\n%s\n' "$1"; }

[ -x "$inpod" ] || fail "no binary at $inpod: run make build"
command -v curl >/dev/null || fail "curl is missing: apt-get install curl"
[ -x /usr/bin/gunicorn ] || fail "gunicorn is missing: apt-get install gunicorn"

# listener PORT: prints what listens there; fails when nothing does. From /proc, since ss may not be installed.
listener() {
    local hex inode fd pid
    printf -v hex '%04X' "$1"
    inode=$(cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk -v p=":$hex\$" '$2 ~ p && $4 == "0A" { print $10; exit }')
    [ -n "$inode" ] || return 1
    for fd in /proc/[0-9]*/fd/*; do
        if [ "$(readlink "$fd" 2>/dev/null)" = "socket:[$inode]" ]; then
            pid=${fd#/proc/} pid=${pid%%/*}
            echo "process $pid ($(tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-80))"
            return 0
        fi
    done
    echo "a process that cannot be seen from here"
}
busy=0
for pair in "$port:DEMO_PORT" "$admin:DEMO_ADMIN_PORT" "$upstream:DEMO_UPSTREAM_PORT"; do
    if who=$(listener "${pair%%:*}"); then
        echo "demo: port ${pair%%:*} is in use by $who; end it, or choose another with ${pair#*:}=…" >&2
        busy=1
    fi
done
[ "$busy" = 0 ] || exit 1

mkdir -p "$dir"
export DIGITS_MODEL=$dir/model.npz
export INPOD_DRAIN_DELAY=${INPOD_DRAIN_DELAY:-0s} # nobody else routes to the demo
config=$here/inpod.yaml programs=$here/programs.ini
if [ "$port:$admin:$upstream" != 8080:9880:18080 ]; then # the same files with other ports
    config=$dir/inpod.yaml programs=$dir/programs.ini
    sed -e "s/:18080/:$upstream/; s/:8080/:$port/; s/:9880/:$admin/" "$here/inpod.yaml" >"$config"
    sed -e "s/=18080:/=$upstream:/; s#%(here)s#$here#; s#gunicorn.conf.py#& --bind 127.0.0.1:$upstream#" "$here/programs.ini" >"$programs"
    export INPOD_ADMIN_SOCKET=${INPOD_ADMIN_SOCKET:-$dir/inpod.sock}
fi

pid=
stop() { # the agent's exit code; idempotent
    [ -n "$pid" ] || return 0
    local it=$pid code=0
    pid=
    kill -TERM "$it" 2>/dev/null || true
    wait "$it" || code=$?
    return "$code"
}
trap 'stop || true' EXIT
interrupted() {
    trap '' INT TERM HUP
    say "stopping"
    if stop; then echo "stopped; nothing is left running"; exit 0; fi
    fail "the agent did not stop cleanly" log
}
trap interrupted INT TERM HUP

say "\$ inpod run --config ${config#"$root"/} -c ${programs#"$root"/}"
# In a session of its own, so that Ctrl-C reaches this script only, which then stops the agent.
setsid "$inpod" run --config "$config" -c "$programs" >"$log" 2>&1 </dev/null &
pid=$!

echo "waiting for http://127.0.0.1:$admin/readyz (the first run trains the model, some 15 s)"
end=$((SECONDS + ${DEMO_WAIT:-180}))
until curl -fs -o "$dir/readyz" --max-time 5 "http://127.0.0.1:$admin/readyz"; do
    kill -0 "$pid" 2>/dev/null || fail "the agent ended early" log
    [ "$SECONDS" -lt "$end" ] || fail "not ready after ${DEMO_WAIT:-180} s" log
    sleep 0.2
done
grep -hoE '(trained on|held out:|.*up to date).*' "$log" || true

cd "$here"
say "\$ curl -X POST http://127.0.0.1:$port/ -F images=@seven.jpg"
got=$(curl -sS --max-time 30 -X POST "http://127.0.0.1:$port/" -F images=@seven.jpg) || fail "the request failed" log
echo "$got"
[ "$got" = '{"mnist_result": 7}' ] || fail "want {\"mnist_result\": 7}" log

say "\$ curl http://127.0.0.1:$admin/health"
got=$(curl -sS --max-time 10 "http://127.0.0.1:$admin/health") || fail "the request failed" log
echo "$got"
[ "$got" = '{"health": "true"}' ] || fail "want {\"health\": \"true\"}" log

ctl=("$inpod" ctl)
shown="bin/inpod ctl"
if [ -n "${INPOD_ADMIN_SOCKET:-}" ]; then shown="INPOD_ADMIN_SOCKET=$INPOD_ADMIN_SOCKET $shown"; fi
say "\$ $shown status"
# As with supervisorctl, the exit code is 3 while any program is stopped, and train has done its work. A program may be
# ready before it is RUNNING, which it is after startsecs.
end=$((SECONDS + 20))
while :; do
    got=$("${ctl[@]}" status) || [ $? = 3 ] || fail "inpod ctl status failed: $got" log
    ! grep -q '^digits .*RUNNING' <<<"$got" || break
    [ "$SECONDS" -lt "$end" ] || fail "want digits to be RUNNING: $got" log
    sleep 0.2
done
echo "$got"

say "\$ curl http://127.0.0.1:$admin/metrics"
curl -sS --max-time 10 "http://127.0.0.1:$admin/metrics" >"$dir/metrics" || fail "the request failed" log
grep -E '^inpod_(phase.* 1$|program_(up|restarts_total|memory_rss_bytes|cpu_seconds_total)|proxy_requests_total|orphans_reaped_total)' "$dir/metrics" || true
echo "… $(grep -vc '^#' "$dir/metrics") values in all"
grep -q '^inpod_' "$dir/metrics" || fail "no inpod_ metrics" log

if [ -t 0 ] && [ -t 1 ] && [ "${CI:-}" != true ] && [ "${DEMO_ONCE:-}" != 1 ]; then
    say "It goes on running. In another terminal:"
    # With echo: bash drops a Ctrl-C that comes while a child such as cat is about to end.
    echo "\
  tail -f ${log#"$root"/}                    the agent's log and the programs' output
  $shown                             restart digits, tail -f digits, status: as supervisorctl
  curl 'http://127.0.0.1:$admin/readyz?verbose'   what ready means here
  curl http://127.0.0.1:$port/ -F images=@your-own-digit.png

Ctrl-C here stops everything."
    wait "$pid" || true
    fail "the agent ended by itself" log
fi

say "stopping"
stop || fail "the agent exited with code $?" log
for p in "$port" "$admin" "$upstream"; do
    if who=$(listener "$p"); then fail "port $p is still in use by $who"; fi
done
echo "stopped; nothing is left running"
