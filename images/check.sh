# shellcheck shell=bash
# What the verification documents images/NAME/test share. They begin with
#
#   . "$(dirname "$0")/../check.sh"
#   run "$1" -e SOME=thing          # docker run -d with these flags; then $id and $ip are the container's
#   ready                           # waits for /readyz
#   say "What the next lines show"
#   check "it answers" eval 'curl -fsS "http://$ip:8080/health" | grep true'
# and not grep -q, which leaves at the first match: curl, cut off in the middle, then fails.
#
# $docker is the client, $work an empty directory that is gone in the end. LABEL is a label that the containers get.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
docker=$("$root/hack/dockerd.sh" client)
if DOCKER_HOST=$("$root/hack/dockerd.sh" host); then export DOCKER_HOST; else unset DOCKER_HOST; fi
work=$(mktemp -d)
ids=()
failed=0
checks=0
id='' ip=''

finish() {
    local code=$?
    if [ "$code" != 0 ] || [ "$failed" != 0 ]; then
        for id in ${ids[@]+"${ids[@]}"}; do
            echo "--- the end of the container's log"
            "$docker" logs "$id" 2>&1 | tail -n 40
        done
    fi
    for id in ${ids[@]+"${ids[@]}"}; do "$docker" rm -f -v "$id" >/dev/null; done
    rm -rf "$work"
    [ "$code" = 0 ] || exit "$code"
    echo
    echo "$((checks - failed)) passed, $failed failed"
    [ "$failed" = 0 ] || exit 1
}
trap finish EXIT

[ $# -ge 1 ] || { echo "usage: ${0} IMAGE" >&2; exit 2; }

# run IMAGE [FLAG…] [-- COMMAND…]
run() {
    local image=$1 flags=()
    shift
    while [ $# -gt 0 ] && [ "$1" != -- ]; do flags+=("$1"); shift; done
    [ $# = 0 ] || shift
    echo "\$ docker run -d${flags[*]:+ ${flags[*]}} $image${*:+ $*}"
    id=$("$docker" run -d --label "${LABEL:-inpod-check}" ${flags[@]+"${flags[@]}"} "$image" "$@")
    ids+=("$id")
    ip=$("$docker" inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$id")
}

# in_it COMMAND…: in the container, as its user
in_it() { "$docker" exec "$id" "$@"; }

ready() {
    local end=$((SECONDS + ${READY_WAIT:-180}))
    until curl -fs -o /dev/null --max-time 5 "http://$ip:9880/readyz"; do
        [ "$("$docker" inspect -f '{{.State.Running}}' "$id")" = true ] || { echo "FAIL  the container ended before it was ready" >&2; exit 1; }
        [ "$SECONDS" -lt "$end" ] || { echo "FAIL  not ready in time:"; curl -s "http://$ip:9880/readyz?verbose"; exit 1; } >&2
        sleep 0.2
    done
    echo "ready after $(since) ms"
}
# since: milliseconds from the container's start
since() {
    local at
    at=$(date -d "$("$docker" inspect -f '{{.State.StartedAt}}' "$id")" +%s%3N)
    echo $(($(date +%s%3N) - at))
}

say() { printf '\n%s\n' "$*"; }

# check WHAT COMMAND…: shows what the command printed where it failed
check() {
    local what=$1 out
    shift
    checks=$((checks + 1))
    if out=$("$@" 2>&1); then
        echo "ok    $what"
    else
        echo "FAIL  $what"
        printf '      %s\n' "\$ $*" "${out//$'\n'/$'\n      '}"
        failed=$((failed + 1))
    fi
}
