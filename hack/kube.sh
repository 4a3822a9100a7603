#!/bin/bash
# A real Kubernetes with two nodes, of Go modules and Debian's packages, for tests. Root, amd64 or arm64, cgroup v1 or v2.
#
#   kube.sh build [NAME…]      compiles it, or of it helm, kubectl, …, into bin/kube
#   kube.sh images             makes the images that the tests use, as archives in bin/kube/images (docker); needs bin/inpod*
#   kube.sh up                 starts it and waits until both nodes are ready
#   kube.sh down               ends it and removes what it left
#   kube.sh load FILE…         gives both nodes the images of archives (docker save)
#   kube.sh exec COMMAND…      runs a command in its namespaces, with KUBECONFIG
#   kube.sh run COMMAND…       up, exec, down; where a cluster is up already that one is used, and stays
#   kube.sh ctl ARGS…          inpod ctl: kube.sh ctl restart apiserver
#
# It lives in a network, a mount and a process namespace of its own: when the first process of that ends, so do all others,
# with their mounts and addresses. What is left then are its directories and empty cgroups; down removes them.
# KUBE_NAME=other is another cluster.
set -euo pipefail
cd "$(dirname "$0")/.."

version=1.34.3
name=${KUBE_NAME:-inpod-kube}                                  # several may be up at once
dir=/run/$name                                                 # sockets, keys, configuration, logs
data=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/inpod/$name      # images and pods: too large for /run
bin=$PWD/bin/kube
config=$dir/kubeconfig
tmpfs="/run/netns /run/containerd /var/lib/cni /var/log/containers /var/lib/kubelet" # the cluster's own of these

build() {
    mkdir -p "$bin"
    local flags="-s -w"
    for v in "gitVersion=v$version" "gitMajor=${version%%.*}" "gitMinor=$(cut -d. -f2 <<<"$version")"; do
        flags+=" -X k8s.io/component-base/version.$v"
    done
    local packages=(tool)
    [ $# = 0 ] || mapfile -t packages < <(go list -C hack/kube tool | grep -E "/($(IFS='|'; echo "$*"))\$")
    CGO_ENABLED=0 go build -C hack/kube -trimpath -ldflags "$flags" -o "$bin/" "${packages[@]}"
    ln -sf server "$bin/etcd" # the name of its package
}

# images: base and injector as users get them, and servers that know nothing of inpod
images() {
    local docker started='' name at=$bin/images
    docker=$(hack/dockerd.sh client)
    if DOCKER_HOST=$(hack/dockerd.sh start); then started=yes; else [ $? = 3 ] || return 1; fi
    export DOCKER_HOST
    mkdir -p "$at"
    CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o "$at/" ./e2e/kube/pause ./e2e/testprog
    hack/images.sh base digits
    "$docker" build -q -t inpod/injector -f cmd/inpod-injector/Dockerfile .
    "$docker" build -q -t inpod-test/digits:plain --target plain --build-arg INPOD_IMAGE=inpod/base -f images/digits/Dockerfile .
    for name in pause testprog; do
        printf 'FROM scratch\nCOPY %s /%s\nENTRYPOINT ["/%s"]\n' $name $name $name |
            "$docker" build -q -t inpod-test/$name:1 -f - "$at"
    done
    for name in base injector digits; do "$docker" tag inpod/$name inpod/$name:e2e; done # latest would be pulled each time
    for name in inpod/base:e2e inpod/injector:e2e inpod/digits:e2e inpod-test/digits:plain inpod-test/pause:1 inpod-test/testprog:1; do
        save "$docker" "$name" "$at"
    done
    [ -z "$started" ] || hack/dockerd.sh stop
}

# save DOCKER IMAGE DIR: the archive, unless it is there already
save() {
    local id file=$3/${2//[:\/]/-}
    id=$("$1" image inspect -f '{{.Id}}' "$2")
    [ "$(cat "$file.id" 2>/dev/null)" != "$id" ] || [ ! -s "$file.tar" ] || return 0
    "$1" save -o "$file.tar" "$2"
    echo "$id" >"$file.id"
}

# pid: the first process of the cluster's namespaces, as it is numbered here
pid() {
    local pid
    pid=$(cat "$dir/pid" 2>/dev/null) || return 1
    # The number may be another's by now.
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = inpod ] && grep -qz "^KUBE_DIR=$dir\$" "/proc/$pid/environ" && echo "$pid"
}

# enter COMMAND…
enter() {
    local pid
    pid=$(pid) || { echo "kube.sh: no cluster is up: kube.sh up" >&2; exit 1; }
    PATH=$bin:$PATH KUBECONFIG=$config nsenter -t "$pid" -n -m -p --wdns="$PWD" "$@"
}

certificates() (
    cd "$dir/pki"
    {
        openssl req -x509 -newkey rsa:2048 -nodes -days 30 -keyout ca.key -out ca.crt -subj /CN=kube-ca
        local who subject extension
        while read -r who subject extension; do
            openssl req -newkey rsa:2048 -nodes -keyout "$who.key" -out "$who.csr" -subj "$subject"
            openssl x509 -req -in "$who.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out "$who.crt" \
                -extfile <(echo "$extension")
        done <<<"apiserver /CN=kube-apiserver subjectAltName=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:10.96.0.1,IP:10.98.0.1
admin /O=system:masters/CN=admin extendedKeyUsage=clientAuth"
        openssl genrsa -out sa.key 2048
        openssl rsa -in sa.key -pubout -out sa.pub
    } 2>../log/openssl || { cat ../log/openssl >&2; exit 1; }
)

# node NUMBER: its containerd and its kubelet
node() {
    local at=$dir/node$1
    mkdir -p "$at/cni" "$data/node$1"
    # Without CAP_SYS_RESOURCE runc cannot lower a process's oom_score_adj.
    cat >"$at/containerd.toml" <<CONFIG
version = 2
root = "$data/node$1/containerd"
state = "$at/containerd"
[grpc]
  address = "$at/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "inpod-test/pause:1"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$at/cni"
  [plugins."io.containerd.grpc.v1.cri".registry.mirrors."10.98.0.1:5000"]
    endpoint = ["http://10.98.0.1:5000"]
[plugins."io.containerd.internal.v1.opt"]
  path = "$data/node$1/opt"
CONFIG
    # ptp and not bridge: what goes from pod to pod is routed, so that kube-proxy and policies see it everywhere.
    cat >"$at/cni/10-ptp.conflist" <<CONFIG
{"cniVersion": "0.4.0", "name": "pods", "plugins": [
  {"type": "ptp", "ipMasq": true, "ipam": {"type": "host-local", "dataDir": "$dir/ipam", "ranges": [[{"subnet": "10.244.0.0/16"}]],
   "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
CONFIG
    cat >"$at/kubelet.yaml" <<CONFIG
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $dir/pki/ca.crt}}
authorization: {mode: Webhook}
port: $((10250 + $1 * 10))
healthzPort: $((10258 + $1 * 10))
cgroupDriver: cgroupfs
cgroupRoot: /$name/node$1
failCgroupV1: false
failSwapOn: false
localStorageCapacityIsolation: false
containerRuntimeEndpoint: unix://$at/containerd.sock
volumePluginDir: $data/node$1/volumeplugins
# A kubelet removes the logs of pods that are not its own.
podLogsDir: $data/node$1/logs
registerWithTaints: []
serializeImagePulls: false
syncFrequency: 10s
evictionHard: {nodefs.available: "1%", nodefs.inodesFree: "1%", imagefs.available: "1%", memory.available: "100Mi"}
CONFIG
}

# cgroups: the directories of the nodes in every hierarchy
cgroups() {
    local at
    if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
        echo "/sys/fs/cgroup/$name"
        return
    fi
    for at in /sys/fs/cgroup/*/; do [ ! -e "$at/cgroup.procs" ] || echo "$at$name"; done
}

# up [COMMAND that starts another…]
up() {
    ! pid >/dev/null || return 3
    [ "$(id -u)" = 0 ] || { echo "kube.sh: only root can start a cluster" >&2; return 1; }
    local tool
    for tool in containerd runc iptables conntrack ip nsenter unshare openssl /usr/lib/cni/ptp; do
        command -v "$tool" >/dev/null || { echo "kube.sh: $tool is missing: hack/install.sh kube" >&2; return 1; }
    done
    if [ ! -x "$bin/kubelet" ] || [ ! -x bin/inpod ] || [ ! -s "$bin/images/inpod-injector-e2e.tar" ]; then
        echo "kube.sh: bin/kube is not complete: make build injector, kube.sh build, kube.sh images" >&2
        return 1
    fi
    down
    mkdir -p "$dir/pki" "$dir/log" "$data"
    chmod 700 "$dir" "$data"
    certificates
    cat >"$config" <<CONFIG
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:6443", certificate-authority: $dir/pki/ca.crt}}]
users: [{name: u, user: {client-certificate: $dir/pki/admin.crt, client-key: $dir/pki/admin.key}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
CONFIG
    node 1
    node 2
    # What the kubelet sets for the whole machine, and this script: everything here watches files.
    sysctl -a 2>/dev/null |
        grep -E '^(vm.overcommit_memory|vm.panic_on_oom|kernel.panic|kernel.panic_on_oops|kernel.keys.root_max(bytes|keys)|fs.inotify.max_user_instances) =' \
            >"$dir/sysctl" || true
    [ "$(cat /proc/sys/fs/inotify/max_user_instances)" -ge 1024 ] || echo 1024 >/proc/sys/fs/inotify/max_user_instances
    local at n
    cgroups | while read -r at; do
        for n in 1 2; do mkdir -p "$at/node$n"; done
        [ ! -e "$at/cpuset.cpus" ] || for n in "$at" "$at/node1" "$at/node2"; do
            cat "${at%/*}/cpuset.cpus" >"$n/cpuset.cpus"
            cat "${at%/*}/cpuset.mems" >"$n/cpuset.mems"
        done
    done
    cat >"$dir/inpod.yaml" <<CONFIG
admin: {listen: "127.0.0.1:9880", socket: $dir/inpod.sock}
ssh: {listen: "off"}
supervisor: {include: []}
CONFIG
    for at in $tmpfs; do
        [ -d "$at" ] || { mkdir -p "$at" && echo "$at" >>"$dir/made"; }
    done
    PATH=$bin:$PATH KUBE_DIR=$dir KUBE_BIN=$bin KUBE_TMPFS=$tmpfs \
        "$@" setsid unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private \
        "$PWD/bin/inpod" run --config "$dir/inpod.yaml" -c "$PWD/hack/kube/cluster.ini" >"$dir/log/inpod" 2>&1 </dev/null &
    local outer=$! at='' end=$((SECONDS + 180))
    # unshare waits for the first process of the new namespaces: its only child.
    until at=$(cat "/proc/$outer/task/$outer/children") && [ -n "$at" ]; do
        kill -0 "$outer" 2>/dev/null || { cat "$dir/log/inpod" >&2; return 1; }
        sleep 0.1
    done
    echo "${at% }" >"$dir/pid"
    until enter kubectl wait --for=condition=Ready node/node1 node/node2 --timeout=60s >/dev/null 2>&1; do
        if ! pid >/dev/null || [ "$SECONDS" -gt "$end" ]; then
            echo "kube.sh: the cluster does not come up; its logs end so:" >&2
            tail -n 8 "$dir"/log/* | cut -c -300 >&2
            down
            return 1
        fi
        sleep 0.5
    done
    load "$bin"/images/*.tar
}

down() {
    local pid end=$((SECONDS + 60)) key value
    if pid=$(pid); then
        # Nothing there is worth an orderly end, and the kernel forgets nothing.
        kill -KILL "$pid"
        while [ -e "/proc/$pid" ]; do
            [ "$SECONDS" -lt "$end" ] || { echo "kube.sh: the cluster's first process ($pid) does not end" >&2; return 1; }
            sleep 0.1
        done
    fi
    if [ -e "$dir/sysctl" ]; then
        while IFS=' =' read -r key value; do sysctl -qw "$key=$value" 2>/dev/null || true; done <"$dir/sysctl"
    fi
    cgroups | while read -r at; do
        [ ! -d "$at" ] || until find "$at" -depth -type d -exec rmdir {} + 2>/dev/null || [ "$SECONDS" -gt "$end" ]; do sleep 0.1; done
    done
    # Only what was not there before, and not for another cluster: whoever removes a directory unmounts what is there, for all.
    [ ! -e "$dir/made" ] || xargs rmdir <"$dir/made" 2>/dev/null || true
    rm -rf --one-file-system "$dir" "$data"
}

load() {
    local file n
    for file in "$@"; do
        for n in 1 2; do
            enter ctr -a "$dir/node$n/containerd.sock" -n k8s.io images import --all-platforms=false "$file" >/dev/null
        done
    done
}

child='' # the command of run
ended() {
    local code=$?
    [ -z "$child" ] || kill "$child" 2>/dev/null || true
    down
    exit "$code"
}
run() {
    if pid >/dev/null; then
        enter "$@"
        exit
    fi
    trap ended EXIT
    trap 'exit 143' TERM
    trap 'exit 130' INT
    trap 'exit 129' HUP
    # Even if this script is killed, nothing of the cluster runs on.
    up setpriv --pdeathsig KILL
    # In the background, since a shell hears no signal while it waits for what is in the foreground.
    enter env --default-signal=INT,QUIT "$@" &
    child=$!
    wait "$child"
}

case ${1:-} in
images | up | down) "$1" ;;
build | load | run) "$@" ;;
exec) shift; enter "$@" ;;
ctl) shift; enter "$PWD/bin/inpod" ctl -s "unix://$dir/inpod.sock" "$@" ;;
*)
    sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2
    exit 2
    ;;
esac
