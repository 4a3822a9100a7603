#!/bin/bash
# Builds the images, each after the one it is made from, and prints their names.
#
#   images.sh [NAME…]     all of images/*/Dockerfile by default
#
# An image is called inpod/NAME:VERSION, where VERSION is its label org.opencontainers.image.version, and inpod/NAME.
#   DOCKER=docker           the client; DOCKER_BUILDKIT=0 or 1 chooses its builder
#   BASE_IMAGE=debian:12-slim
#   BUILD_ARGS="--network host"   further arguments of docker build
# Where no registry can be reached, debian:12-slim is made with mmdebstrap from Debian's packages. An image whose parts come
# from elsewhere says so by an ARG …_SOURCE=https://…; where that cannot be reached it is passed over when all are built, and
# is an error (exit code 3) when it was named.
set -euo pipefail
cd "$(dirname "$0")/.."

docker=$(hack/dockerd.sh client)
if DOCKER_HOST=$(hack/dockerd.sh host); then
    export DOCKER_HOST
else
    echo "images.sh: no dockerd runs here; as root, hack/dockerd.sh start starts one" >&2
    exit 1
fi
base=${BASE_IMAGE:-debian:12-slim}
read -ra extra <<<"${BUILD_ARGS:-}"

# debian NAME: the image, from Debian's packages alone, about as small as the real one.
debian() {
    local dir
    dir=$(mktemp -d)
    # shellcheck disable=SC2064 # dir is wanted as it is now
    trap "rm -rf '$dir'" RETURN
    local options=() line
    # What this machine's apt needs to reach its packages, an image built from them needs too.
    while read -r line; do options+=(--aptopt="$line"); done \
        < <(apt-config dump | grep -E '^Acquire::(https?::Proxy|Check-Valid-Until|Check-Date|Retries) ' | grep -v '""')
    # shellcheck disable=SC2016 # mmdebstrap expands it
    mmdebstrap --quiet --variant=minbase --include=ca-certificates "${options[@]}" \
        --dpkgopt=force-unsafe-io \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
        --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --aptopt='Apt::Install-Recommends "false"' \
        --customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/etc/hostname "$1"/etc/resolv.conf' \
        bookworm "$dir/root"
    # As the real one does: what apt downloads is gone before the layer is made.
    echo 'DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };' >"$dir/root/etc/apt/apt.conf.d/docker-clean"
    # The machine's own certificates: pip, npm and curl in a build go the same way as here.
    cp /usr/local/share/ca-certificates/*.crt "$dir/root/usr/local/share/ca-certificates/" 2>/dev/null || true
    chroot "$dir/root" update-ca-certificates >/dev/null 2>&1
    tar -C "$dir/root" --numeric-owner -cf "$dir/root.tar" --exclude='./dev/*' .
    rm -rf "$dir/root"
    # Not docker import: it records the wrong architecture on some machines.
    printf 'FROM scratch\nADD root.tar /\nCMD ["bash"]\n' >"$dir/Dockerfile"
    DOCKER_BUILDKIT=0 "$docker" build -q -t "$1" "$dir" >/dev/null
}

if ! "$docker" image inspect "$base" >/dev/null 2>&1 && ! "$docker" pull -q "$base" >/dev/null 2>&1; then
    [ "$base" = debian:12-slim ] || { echo "images.sh: cannot pull $base" >&2; exit 1; }
    command -v mmdebstrap >/dev/null || {
        echo "images.sh: cannot pull $base, and there is no mmdebstrap to make it: apt-get install mmdebstrap" >&2
        exit 1
    }
    echo "images.sh: cannot pull $base; making it from Debian's packages" >&2
    debian "$base"
fi

# version NAME: what the image says of itself; of base it is the binary's.
version() {
    if [ "$1" = base ]; then
        bin/inpod version | awk '{ print "base" ($2 ~ /^v?[0-9]+\./ ? "" : "0.0.0-") substr($2, $2 ~ /^v[0-9]/ ? 2 : 1); exit }'
        return
    fi
    sed -nE 's/.*org\.opencontainers\.image\.version="?([^" ]+)"?.*/\1/p' "images/$1/Dockerfile" | head -n 1
}

build() {
    local name=$1 tag log
    tag=$(version "$name")
    [ -n "$tag" ] || { echo "images.sh: images/$name/Dockerfile has no label org.opencontainers.image.version" >&2; exit 1; }
    log=$(mktemp)
    if ! "$docker" build ${extra[@]+"${extra[@]}"} --build-arg "BASE_IMAGE=$base" --build-arg INPOD_IMAGE=inpod/base \
        --build-arg "VERSION=$tag" -f "images/$name/Dockerfile" -t "inpod/$name:$tag" -t "inpod/$name:latest" . >"$log" 2>&1; then
        echo "images.sh: cannot build images/$name; the end of what $docker said:" >&2
        tail -n 40 "$log" >&2
        rm -f "$log"
        exit 1
    fi
    rm -f "$log"
    echo "inpod/$name:$tag"
}

# reachable NAME: whether what the image fetches can be had; says what cannot.
reachable() {
    local url
    while read -r url; do
        if ! curl -s -o /dev/null --max-time 20 "$url"; then
            echo "images.sh: images/$1 cannot be built here: $url cannot be reached" >&2
            return 1
        fi
    done < <(sed -nE 's/^ARG [A-Z0-9_]*_SOURCE="?(https?:[^" ]+).*/\1/p' "images/$1/Dockerfile")
}

[ -x bin/inpod ] || { echo "images.sh: there is no bin/inpod: make build" >&2; exit 1; }
names=("$@")
if [ $# = 0 ]; then
    for file in images/*/Dockerfile; do
        file=${file%/Dockerfile}
        [ "${file##*/}" = base ] || names+=("${file##*/}")
    done
    names=(base "${names[@]}")
fi
for name in "${names[@]}"; do
    [ -f "images/$name/Dockerfile" ] || { echo "images.sh: there is no images/$name/Dockerfile" >&2; exit 2; }
done
# Everything has the binary from base; where nothing changed it takes a moment.
[ "${names[0]}" = base ] || build base >/dev/null
for name in "${names[@]}"; do
    if reachable "$name"; then
        build "$name"
    elif [ $# -gt 0 ]; then
        exit 3
    fi
done
