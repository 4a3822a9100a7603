#!/bin/bash
# A desktop that reaches nothing but the code server, and an airlock through which files come to it, with Docker.
#
#   homepod.sh up       starts all of it and says how to get in
#   homepod.sh check    shows that what must work works, and that what must not does not
#   homepod.sh down     removes all of it, the volumes too
#
#   NAME=homepod        prefix of everything that is made
#   PAGE_PORT=7030      where the desktop's page is published, on 127.0.0.1
#   SFTP_PORT=10022     where the airlock is
#   HOMEPOD_IMAGE, AIRLOCK_IMAGE, BASE_IMAGE    inpod/homepod, inpod/airlock, inpod/base
# The password of desktop and airlock is made by up, and kept in SECRETS (secrets beside this script).
# shellcheck disable=SC2016 # what is in quotes is expanded by eval, or in the container
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
name=${NAME:-homepod}
page=${PAGE_PORT:-7030}
sftp=${SFTP_PORT:-10022}
secrets=${SECRETS:-$here/secrets}
docker=${DOCKER:-docker}
label=(--label "${LABEL:-inpod-example=$name}")
homepod=${HOMEPOD_IMAGE:-inpod/homepod}

up() {
    mkdir -p "$secrets"
    chmod 755 "$secrets" # the airlock's user reads it
    [ -s "$secrets/airlock" ] || head -c 9 /dev/urandom | base64 | tr '+/' 'xy' >"$secrets/airlock"

    # inside leads nowhere: no route out, no name but those of its containers.
    "$docker" network create --internal "${label[@]}" "$name-inside" >/dev/null
    "$docker" network create "${label[@]}" "$name-outside" >/dev/null
    "$docker" volume create "${label[@]}" "$name-airlock" >/dev/null

    # The airlock is outside, and writes. First, since a new volume belongs to whom it belongs to in this image.
    "$docker" run -d "${label[@]}" --name "$name-airlock" --network "$name-outside" -p "127.0.0.1:$sftp:10022" \
        --read-only --tmpfs /tmp --cap-drop ALL \
        -v "$secrets:/run/secrets:ro" -v "$name-airlock:/opt/public/airlock" "${AIRLOCK_IMAGE:-inpod/airlock}" >/dev/null
    # Stands in for the code server, the one thing that the desktop may reach.
    "$docker" run -d "${label[@]}" --name "$name-code" --network "$name-inside" --network-alias code \
        --entrypoint inpod "$homepod" run --config "" -- python3 -m http.server --directory /usr/share/common-licenses 8000 >/dev/null
    # The desktop is inside, and reads.
    "$docker" run -d "${label[@]}" --name "$name-desktop" --network "$name-inside" --network-alias desktop --shm-size 1g \
        -e DEEPVAC_USER=ada -e "DEEPVAC_PASSWORD=$(cat "$secrets/airlock")" \
        -v "$name-airlock:/opt/public/airlock:ro" "$homepod" >/dev/null
    # The door is in both, and lets in: what is published on a network without a way out cannot be reached.
    "$docker" create "${label[@]}" --name "$name-door" --network "$name-outside" -p "127.0.0.1:$page:7030" --user 1000:1000 \
        -e INPOD_PROXY_ROUTES='[{listen: ":7030", upstream: "desktop:7030", preset: novnc}]' "${BASE_IMAGE:-inpod/base}" >/dev/null
    "$docker" network connect "$name-inside" "$name-door"
    "$docker" start "$name-door" >/dev/null

    local end=$((SECONDS + 180))
    until curl -fs -o /dev/null --max-time 5 "http://127.0.0.1:$page/vnc.html"; do
        [ "$SECONDS" -lt "$end" ] || { echo "homepod.sh: the desktop did not come" >&2; exit 1; }
        sleep 0.5
    done
    echo "the desktop:  http://127.0.0.1:$page/"
    echo "the airlock:  sftp -P $sftp airlock@127.0.0.1"
    echo "the password of both: $secrets/airlock"
}

down() {
    local thing
    for thing in door desktop code airlock; do "$docker" rm -f -v "$name-$thing" >/dev/null 2>&1 || true; done
    for thing in inside outside; do "$docker" network rm "$name-$thing" >/dev/null 2>&1 || true; done
    "$docker" volume rm -f "$name-airlock" >/dev/null 2>&1 || true
    rm -rf "$secrets"
}

passed=0 failed=0
try() { # try WHAT COMMAND…
    local what=$1 out
    shift
    if out=$("$@" 2>&1); then
        echo "ok    $what"
        passed=$((passed + 1))
    else
        echo "FAIL  $what: $out"
        failed=$((failed + 1))
    fi
}
not() { ! "$@"; }
desktop() { "$docker" exec --user ada "$name-desktop" "$@"; }
# get URL: from the desktop, which has Python and no curl
get() { desktop python3 -c 'import sys, urllib.request as u; u.urlopen(sys.argv[1], timeout=5)' "$1"; }
files() {
    sshpass -f "$secrets/airlock" sftp -F /dev/null -o BatchMode=no -o PubkeyAuthentication=no -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -P "$sftp" -b - airlock@127.0.0.1 <<<"$1"
}

check() {
    local airlock
    airlock=$("$docker" inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$name-airlock")
    try "the desktop's page, through the door" curl -fsS -o /dev/null "http://127.0.0.1:$page/vnc.html"
    try "the desktop runs" desktop sh -c 'i=0; until pgrep -x icewm; do i=$((i + 1)); [ $i -lt 300 ] || exit 1; sleep 0.1; done'
    try "the desktop reaches the code server" get http://code:8000/Apache-2.0
    try "and nothing else: no address outside" not get "http://$airlock:9880/livez"
    try "nor a name" not get http://www.example.com/
    try "a file goes into the airlock" files "put $here/README.md hello.md"
    try "and is on the desktop" desktop grep -q airlock /opt/public/airlock/hello.md
    try "where it can only be read" not desktop rm /opt/public/airlock/hello.md
    try "the airlock has no command" not sshpass -f "$secrets/airlock" ssh -F /dev/null -o PubkeyAuthentication=no -o StrictHostKeyChecking=no \
        -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -p "$sftp" airlock@127.0.0.1 id
    try "and says who wrote what" eval '"$docker" logs "$name-airlock" 2>&1 | grep "\"transfer\"" | grep "\"path\":\"/hello.md\""'
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}

case ${1:-} in
up | check | down) "$1" ;;
*) echo "usage: homepod.sh up|check|down" >&2; exit 2 ;;
esac
