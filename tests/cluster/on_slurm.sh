#!/usr/bin/env bash
# Run a command beside a Slurm of its own on this machine; in a box (box.sh) alone.
#   box.sh on_slurm.sh COMMAND...
set -euo pipefail
here=$(dirname "$0")
SLURM_TEST_DIR=$(mktemp -d)
export SLURM_TEST_DIR
trap '"$here/slurm_down.sh"; rm -rf "$SLURM_TEST_DIR"' EXIT
"$here/slurm_up.sh"
"$@"
