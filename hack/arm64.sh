#!/bin/bash
# Runs arm64 on another machine, through qemu: for the tests of the cross-built binary. Needs root and qemu-user-static.
#
#   arm64.sh on          tells the kernel about qemu-aarch64; exit code 0: done here, 3: it knew already
#   arm64.sh off         takes that back
#   arm64.sh image TAG   makes a small Debian for arm64 with bin/inpod-linux-arm64 in it, which make cross builds
set -euo pipefail
cd "$(dirname "$0")/.."

misc=/proc/sys/fs/binfmt_misc
on() {
    [ -e $misc/register ] || mount -t binfmt_misc binfmt_misc $misc
    [ "$(uname -m)" != aarch64 ] || return 3
    [ ! -e $misc/qemu-aarch64 ] || return 3
    # Debian's own line. Its flag F keeps the interpreter open, so that it is there in containers too.
    cat /usr/lib/binfmt.d/qemu-aarch64.conf >$misc/register
}
off() { [ ! -e $misc/qemu-aarch64 ] || echo -1 >$misc/qemu-aarch64; }

image() {
    local dir docker
    docker=$(hack/dockerd.sh client)
    DOCKER_HOST=$(hack/dockerd.sh host)
    export DOCKER_HOST
    dir=$(mktemp -d)
    # shellcheck disable=SC2064 # dir is wanted as it is now
    trap "rm -rf '$dir'" EXIT
    # Only unpacked: its maintainer scripts would take minutes under qemu, and what they do is not needed here.
    mmdebstrap --quiet --architectures=arm64 --variant=extract --include=base-files,base-passwd,coreutils,dash,procps bookworm "$dir/root"
    local file
    for file in passwd group; do cp "$dir/root/usr/share/base-passwd/$file.master" "$dir/root/etc/$file"; done
    rm -rf "$dir"/root/usr/share/{doc,locale,man}
    mkdir -p "$dir"/root/{root,usr/local/bin,etc/supervisord}
    cp bin/inpod-linux-arm64 "$dir/root/usr/local/bin/inpod"
    # shellcheck disable=SC2016 # the program's shell expands it
    printf '[program:arch]\ncommand=/bin/sh -c "echo I am $(uname -m), child of $PPID; exec sleep infinity"\n%s\n%s\n' \
        stdout_logfile=/dev/stdout stdout_logfile_maxbytes=0 >"$dir/root/etc/supervisord/arch.ini"
    tar -C "$dir/root" --numeric-owner -cf "$dir/root.tar" --exclude='./dev/*' .
    rm -rf "$dir/root"
    printf 'FROM scratch\nADD root.tar /\nENTRYPOINT ["inpod", "run"]\n' >"$dir/Dockerfile"
    DOCKER_BUILDKIT=0 "$docker" build -q --platform linux/arm64 -t "$1" "$dir" >/dev/null
    echo "$1"
}

case ${1:-} in
on | off) "$1" ;;
image) image "${2:-inpod/arm64}" ;;
*)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
    ;;
esac
