#!/bin/bash
# Static checks, each with its reason. Reads only; bin/inpod-linux-* must have been built.
# shellcheck disable=SC2317,SC2329 # functions are called by name, through check
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
failed=0
check() { # check NAME COMMAND…: the command prints what is wrong and fails
    local name=$1 out
    shift
    if out=$("$@" 2>&1); then
        echo "ok    $name"
    else
        echo "FAIL  $name"
        [ -z "$out" ] || printf '      %s\n' "${out//$'\n'/$'\n      '}"
        failed=1
    fi
}
nothing() { # nothing COMMAND…: fails when the command prints something
    local out
    out=$("$@") || return 1
    [ -z "$out" ] || { echo "$out"; return 1; }
}
scripts() { grep -rlE '^#!/bin/(ba)?sh' --exclude-dir=.git --exclude-dir=bin --exclude-dir=.demo . ; }
binary() { # one file, no interpreter, no bigger than 15 MB
    local size
    size=$(stat -c %s "$1") || return 1
    [ "$size" -le 15000000 ] || { echo "$1 has $size bytes, more than 15,000,000"; return 1; }
    if readelf -lW "$1" | grep -q INTERP; then echo "$1 is linked dynamically"; return 1; fi
}

check "gofumpt: one format" nothing go tool gofumpt -l .
check "go vet" go vet -tags images,kube,chart ./...
check "staticcheck: bugs that vet does not know" go tool staticcheck -tags images,kube,chart ./...
check "go.mod and go.sum are tidy" go mod tidy -diff
check "those of hack/kube too" go -C hack/kube mod tidy -diff
mapfile -t files < <(scripts)
check "shellcheck (${#files[@]} scripts)" shellcheck "${files[@]}"
for arch in amd64 arm64; do
    file=bin/inpod-linux-$arch
    check "$file is static and small ($(($(stat -c %s "$file" 2>/dev/null || echo 0) / 1000)) KB)" binary "$file"
done
exit "$failed"
