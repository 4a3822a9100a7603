#!/bin/bash
# Installs the Debian or Ubuntu packages that a make target needs, and says so. Does nothing when they are there.
#
#   install.sh SET…     sets: demo, test, bench, lint, images, kube
set -euo pipefail

declare -A sets=(
    [demo]="curl ca-certificates gunicorn python3-flask python3-numpy python3-pil python3-sklearn"
    # The race detector needs cgo, hence the C compiler; the rest are peers and clients of the tests.
    [test]="gcc libc6-dev supervisor util-linux procps tini dumb-init s6 iproute2 curl ca-certificates
            gunicorn python3-flask python3-numpy python3-pil python3-sklearn
            jupyter-notebook python3-ipykernel python3-websocket python3-uvicorn novnc python3-websockify nginx haproxy docker-registry
            openssh-client openssh-server openssh-sftp-server sshpass sshfs fuse3 lftp rclone
            rsync git putty-tools dropbear-bin python3-paramiko ansible-core mount
            ssh-audit xvfb xauth x11-utils sudo"
    # The peers of the proxy and a load generator, beside the set test.
    [bench]="wrk"
    # A Docker, the other builders, what makes a base image and another architecture out of Debian's packages, and clients.
    [images]="docker.io iptables buildah runc mmdebstrap qemu-user-static qemu-user faketime
            ca-certificates curl openssh-client sshpass sshfs fuse3 chromium fonts-dejavu-core fonts-wqy-microhei
            python3-websocket bsdutils iproute2"
    # What a Kubernetes is made of beside its own programs, and clients; beside the set images.
    [kube]="containerd runc containernetworking-plugins conntrack ipset iptables iproute2 util-linux openssl procps
            openssh-client curl ca-certificates docker-registry"
    [lint]="shellcheck binutils"
)

wanted=()
for name in "$@"; do
    [ -n "${sets[$name]:-}" ] || { echo "install.sh: no set of packages named $name" >&2; exit 2; }
    read -ra packages -d '' <<<"${sets[$name]}" || true
    wanted+=("${packages[@]}")
done

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "install.sh: this is no Debian or Ubuntu; needed are: ${wanted[*]}" >&2
    exit 0 # what is really missing is said by whoever needs it
fi

missing=()
for package in "${wanted[@]}"; do
    # shellcheck disable=SC2016 # ${Status} is dpkg-query's
    status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
    [[ $status == *" installed" ]] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

as_root=()
if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
        echo "install.sh: these packages are missing and there is no sudo to install them with; as root, run:" >&2
        echo "    apt-get install ${missing[*]}" >&2
        exit 1
    }
    as_root=(sudo)
fi

echo "installing with apt: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 "$@" >"$log" 2>&1 </dev/null
}
for try in 1 2 3; do
    if apt update && apt install -y --no-install-recommends "${missing[@]}"; then
        exit 0
    fi
    echo "install.sh: apt-get failed (try $try of 3):" >&2
    tail -n 20 "$log" >&2
    sleep $((try * 5))
done
exit 1
