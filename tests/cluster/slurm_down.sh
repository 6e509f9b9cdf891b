#!/usr/bin/env bash
# Stop what slurm_up.sh started in SLURM_TEST_DIR, by its pid files alone.
set -uo pipefail
folder=${SLURM_TEST_DIR:?}

stop() {
  local pid
  pid=$(cat "$1" 2>/dev/null) || return 0
  kill "$pid" 2>/dev/null
  for _ in $(seq 50); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null
  rm -f "$1"
}

[ -s "$folder/run/slurmctld.pid" ] && timeout 10 scancel --user=root 2>/dev/null
for file in "$folder"/run/{slurmctld,slurmd-n*,munged}.pid; do stop "$file"; done
umount /etc/slurm 2>/dev/null
true
