#!/bin/bash
# The nodes' network and directories: cluster.ini runs this first, in namespaces that are the cluster's alone.
set -euo pipefail
# What cannot be told to write elsewhere writes here: network namespaces, runc's and CNI's state, links to logs.
mount --make-rshared /
for at in $KUBE_TMPFS; do mount -t tmpfs kube "$at"; done
ip link set lo up
# The address of both nodes. A default route, though nothing is behind it: kube-proxy and ptp look for one.
ip link add node type veth peer name outside
ip link set outside up
ip addr add 10.98.0.1/24 dev node
ip link set node up
ip route add default via 10.98.0.254 dev node
echo 1 >/proc/sys/net/ipv4/ip_forward
