#!/bin/bash
# Starts Debian's dockerd as root where none runs; images stay between runs. For machines without an init system.
#
#   dockerd.sh start    prints the address for DOCKER_HOST; exit code 0: it was started here, 3: one ran already
#   dockerd.sh stop     stops the one that start started
#   dockerd.sh host     prints the address of the one that runs; 1 when none does
#   dockerd.sh client   prints the client to use: $DOCKER, or Debian's, or the one in PATH
#
# Its data is in ${XDG_CACHE_HOME:-~/.cache}/inpod/docker, its socket, pid and log in /run/inpod-docker.
set -euo pipefail

run=/run/inpod-docker
data=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/inpod/docker
ours=unix://$run/docker.sock
docker=${DOCKER:-docker}
# Debian's, which speaks to Debian's dockerd and has both of its builders; a newer client elsewhere in PATH may not.
[ -n "${DOCKER:-}" ] || [ ! -x /usr/bin/docker ] || docker=/usr/bin/docker

answers() { DOCKER_HOST=$1 timeout 20 "$docker" version --format '{{.Server.Version}}' >/dev/null 2>&1; }
host() {
    local at
    for at in "${DOCKER_HOST:-}" unix:///var/run/docker.sock "$ours"; do
        if [ -n "$at" ] && answers "$at"; then
            echo "$at"
            return 0
        fi
    done
    return 1
}

# stale NAME FILE: removes the file of a process number when that is not a process of this name.
stale() {
    local pid
    pid=$(cat "$2" 2>/dev/null) || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] || rm -f "$2"
}

start() {
    host && return 3
    [ "$(id -u)" = 0 ] || { echo "dockerd.sh: no dockerd runs, and only root can start one" >&2; return 1; }
    command -v dockerd >/dev/null || { echo "dockerd.sh: dockerd is missing: apt-get install docker.io" >&2; return 1; }
    mkdir -p "$run" "$data"
    # Of one that was killed: its number may be somebody else's by now, and dockerd would take that for containerd.
    stale dockerd "$run/pid"
    stale containerd "$run/exec/containerd/containerd.pid"
    # A session of its own: a Ctrl-C at the tests stops them first, and then this. No standard file is kept open.
    setsid dockerd --data-root "$data" --exec-root "$run/exec" --pidfile "$run/pid" -H "$ours" >"$run/log" 2>&1 </dev/null &
    local pid=$! end=$((SECONDS + 60))
    until answers "$ours"; do
        if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -gt "$end" ]; then
            echo "dockerd.sh: dockerd does not come up; the end of $run/log:" >&2
            tail -n 15 "$run/log" >&2
            kill "$pid" 2>/dev/null || true
            return 1
        fi
        sleep 0.2
    done
    echo "$ours"
}

stop() {
    local pid end=$((SECONDS + 60))
    pid=$(cat "$run/pid" 2>/dev/null) || return 0
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ] || return 0
    kill "$pid"
    while kill -0 "$pid" 2>/dev/null; do
        [ "$SECONDS" -lt "$end" ] || { echo "dockerd.sh: dockerd ($pid) does not end" >&2; return 1; }
        sleep 0.2
    done
}

case ${1:-} in
start | stop | host) "$1" ;;
client) echo "$docker" ;;
*)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
    ;;
esac
