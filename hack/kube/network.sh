#!/bin/bash
# The nodes' network: cluster.ini runs this first, in a network namespace that has nothing yet.
set -euo pipefail
ip link set lo up
# The address of both nodes. A default route, though nothing is behind it: kube-proxy and ptp look for one.
ip link add node type veth peer name outside
ip link set outside up
ip addr add 10.98.0.1/24 dev node
ip link set node up
ip route add default via 10.98.0.254 dev node
echo 1 >/proc/sys/net/ipv4/ip_forward
