#!/bin/bash
# Runs every Go test with the race detector.
#
#   test.sh [PACKAGE…]     ./... by default
#
# As a plain user: as that user. As root: as root and then as nobody, with the same test binaries, which are
# compiled once in a copy of the tree that nobody can read (a home directory often cannot be).
# Vet is left to hack/lint.sh: here it would look at all dependencies once more, with the race detector's tag.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=1 # the race detector needs it
[ $# -gt 0 ] || set -- ./...
timeout=20m
# gotestsum prints a line a package, what failed in full, and the number of tests at the end.
summary=(go tool gotestsum --format pkgname --format-icons text --format-hide-empty-pkg --hide-summary skipped)

# test2json, and a shell that has put this script into the background, ignore SIGINT, and so would everything below:
# peers that a test interrupts would not notice.
signals=(env "--default-signal=INT,QUIT,PIPE,HUP")

if [ "$(id -u)" != 0 ]; then
    exec "${signals[@]}" "${summary[@]}" -- -race -vet=off -timeout "$timeout" "$@"
fi

work=$(mktemp -d /tmp/inpod-test.XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT
mkdir "$work/src" "$work/tests" "$work/bin" "$work/events"
export WORK=$work TIMEOUT=$timeout
tar -c --exclude=./.git --exclude=./bin --exclude=./.demo --exclude='*.test' . | tar -x -C "$work/src" --no-same-owner
chmod -R a+rX "$work/src"
cd "$work/src"

echo "compiling the tests"
go tool gotestsum --version >/dev/null
list="$work/list"
go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}' "$@" >"$list"
alone='/e2e '    # fills all cores by itself
longest='/sshd ' # begins first, so that the short ones fill the gaps
{ grep -E "$alone" "$list" || true; } >"$list.alone"
{ grep -E "$longest" "$list" || true; grep -vE "$alone|$longest" "$list" || true; } >"$list.beside"
mapfile -t packages < <(cut -d ' ' -f 1 "$list")
# All in one command, which links as many at once as there are cores. -exec because `go test -c` names a binary by the last
# part of its package alone.
cat >"$work/keep.sh" <<'KEEP'
#!/bin/bash
# Called by go test in the package's directory: keep.sh BINARY FLAG…
mkdir "$WORK/tests/${PWD//\//_}" && exec cp "$1" "$_"
KEEP
chmod +x "$work/keep.sh"
go test -race -vet=off -count=1 -exec "$work/keep.sh" "${packages[@]}" >"$work/compiled" || { cat "$work/compiled"; exit 1; }
# The binaries that the tests start, so that a user without a Go cache need not build them again.
export TEST_BIN_DIR=$work/bin
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$work/bin/inpod" ./cmd/inpod
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$work/bin/testprog" ./e2e/testprog
go build -race -trimpath -buildvcs=false -o "$work/bin/inpod-race" ./cmd/inpod
chmod -R a+rX "$work"

# Called by gotestsum: run.sh [COMMAND that changes the user…], prints the events of every package. As many packages at
# once as there are cores, as go test does, but for the first.
cat >"$work/run.sh" <<'RUN'
#!/bin/bash
failed=0
xargs -r -L 1 "$WORK/one.sh" "$@" <"$WORK/list.alone" || failed=1
xargs -r -L 1 -P "$(nproc)" "$WORK/one.sh" "$@" <"$WORK/list.beside" || failed=1
exit "$failed"
RUN
cat >"$work/one.sh" <<'ONE'
#!/bin/bash
# one.sh [COMMAND…] PACKAGE DIRECTORY
package=${*: -2:1}
cd "${*: -1}" || exit 1
events="$WORK/events/${PWD//\//_}"
go tool test2json -t -p "$package" "${@:1:$#-2}" "$WORK/tests/${PWD//\//_}"/*.test \
    -test.v=test2json -test.paniconexit0 -test.timeout="$TIMEOUT" </dev/null >"$events"
code=$?
flock "$WORK/lock" cat "$events" # in one piece
exit "$code"
ONE
chmod +x "$work/run.sh" "$work/one.sh"

# left_over USER: says which processes of the tests still run; there must be none.
left_over() {
    local exe found=0
    for exe in /proc/[0-9]*/exe; do
        case $(readlink "$exe" 2>/dev/null) in
        "$work"/*)
            echo "left running after the tests as $1: $exe $(tr '\0' ' ' <"${exe%/exe}/cmdline")" >&2
            found=1
            ;;
        esac
    done
    return "$found"
}

result=0
echo "as root"
"${summary[@]}" --raw-command -- "$work/run.sh" "${signals[@]}" || result=1
left_over root || result=1

echo "as nobody"
user=$(id -u nobody) group=$(id -g nobody)
mkdir "$work/home" "$work/tmp"
chown -R "$user:$group" "$work/home" "$work/tmp" "$work/src"
as_nobody=(setpriv --reuid "$user" --regid "$group" --clear-groups --inh-caps=-all --bounding-set=-all
    env -i "PATH=$PATH" "HOME=$work/home" "TMPDIR=$work/tmp" "TEST_BIN_DIR=$work/bin" "LANG=${LANG:-C.UTF-8}" "CI=${CI:-}")
"${summary[@]}" --raw-command -- "$work/run.sh" "${signals[@]}" "${as_nobody[@]}" || result=1
left_over nobody || result=1
exit "$result"
