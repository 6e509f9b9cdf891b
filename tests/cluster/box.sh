#!/usr/bin/env bash
# Run a command in a box of its own: no network but loopback, own mounts, own processes.
#   box.sh COMMAND...
# Nothing in the box can be reached from outside; its mounts and daemons end with the command, however it ends.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "box.sh: a Slurm of our own needs root" >&2; exit 2; }
unshare --net --mount --pid --fork --kill-child --mount-proc true ||
  { echo "box.sh: this machine makes no name spaces; a container needs CAP_SYS_ADMIN (docker run --privileged)" >&2; exit 2; }
[ $# -gt 0 ] || { echo "box.sh: no command" >&2; exit 2; }
# An address that is not 127.0.0.1: without one the resolver takes the machine for unconnected and finds no name.
# bash stays process 1, which must reap what daemons leave.
# shellcheck disable=SC2016
exec unshare --net --mount --pid --fork --kill-child --mount-proc bash -c '
  ip link set lo up
  ip addr add 192.0.2.1/32 dev lo
  export DOSELEDGER_BOX=1
  "$@"
  exit $?' box "$@"
