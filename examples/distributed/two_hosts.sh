#!/usr/bin/env bash
# Two hosts on one machine: two network namespaces joined by a cable, one process of one run in each (needs root and
# iproute2).
#
#   PYTHON=.venv/bin/python examples/distributed/two_hosts.sh train config.yaml --output runs/two
#
# On real hosts no namespace is needed. Type on each of them, with the same files at the same paths and the first
# host's address:
#
#   torchrun --nnodes=2 --nproc_per_node=8 --rdzv_backend=c10d --rdzv_id=run1 --rdzv_endpoint=10.0.0.1:29500 \
#       -m hbo train config.yaml --output runs/two
#
# If the first host doesn't know itself by that address, add --rdzv_conf=is_host=1 there and is_host=0 on the other.
# The run folder must be on a disk that all hosts share. If a host has several networks, name the one to use:
# NCCL_SOCKET_IFNAME=eth0 (GPUs) or GLOO_SOCKET_IFNAME=eth0 (CPUs).
set -euo pipefail

PYTHON=${PYTHON:-python3}
NAME=hbo$$
clean_up() {
  jobs -p | xargs -r kill 2>/dev/null || true
  ip netns delete "$NAME-1" 2>/dev/null || true
  ip netns delete "$NAME-2" 2>/dev/null || true
}
trap clean_up EXIT

for host in 1 2; do
  ip netns add "$NAME-$host"
  ip -n "$NAME-$host" link set lo up
done
ip -n "$NAME-1" link add cable type veth peer name cable netns "$NAME-2"
for host in 1 2; do
  ip -n "$NAME-$host" address add "10.77.0.$host/24" dev cable
  ip -n "$NAME-$host" link set cable up
done

host() {
  local number=$1
  shift
  ip netns exec "$NAME-$number" env GLOO_SOCKET_IFNAME=cable "$PYTHON" -m torch.distributed.run \
    --nnodes=2 --nproc_per_node=1 --rdzv_backend=c10d --rdzv_id=run --rdzv_endpoint=10.77.0.1:29500 \
    --rdzv_conf="is_host=$((2 - number))" --local_addr="10.77.0.$number" -m hbo "$@"
}

host 2 "$@" &
host 1 "$@"
wait
