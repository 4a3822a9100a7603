#!/bin/bash
# Runs the tool image's supervisor layout with inpod in place of supervisord and checks it from outside with
# the real supervisorctl.
#
#   test.sh [INPOD]     INPOD is the binary, bin/inpod by default
#
# Everything happens in namespaces of its own (mounts, processes, network): a private root in which /init and
# /etc/supervisord exist, inpod below a boot script as in the image, the tools' usual ports free. Nothing is left behind. Works as root and,
# where user namespaces are allowed, as a plain user.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
inpod=$(realpath "${1:-$here/../../bin/inpod}")
[ -x "$inpod" ] || { echo "test.sh: no binary at $inpod: run make build" >&2; exit 1; }
[ -x /usr/bin/supervisorctl ] || { echo "test.sh: supervisorctl is missing: apt-get install supervisor" >&2; exit 1; }

work=$(mktemp -d "${TMPDIR:-/tmp}/neolink.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/root"

flags=(--mount --pid --net --fork --kill-child)
[ "$(id -u)" = 0 ] || flags+=(--user --map-root-user)
# setup.sh ends by becoming the init of the private root; check.sh runs beside it.
unshare "${flags[@]}" /bin/bash "$here/setup.sh" "$work/root" "$inpod" "$here"
