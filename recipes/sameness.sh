#!/usr/bin/env bash
# The table of docs/sameness.md: one small cohort on one core, on two, killed in the middle and resumed, on the one-machine
# Slurm of the tests (as root, where the machine makes name spaces), and with another instruction set.
# Usage, from the folder of the repository: recipes/sameness.sh FOLDER [PYTHON] [MORE RESULTS...]; results of the same input
# that another machine has made (FOLDER/input) can be named as well.
set -euo pipefail
folder=$(realpath -m "$1")
python=${2:-.venv/bin/python}
more=("${@:3}")
# Jobs run in a folder of their own, where a relative path would not be found.
export PYTHONPATH=$PWD/src OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1
"$python" -c "
import sys
from pathlib import Path
from doseledger.phantom import simulate
simulate(Path(sys.argv[1]), results='../one', cohort='micro', size='micro', sites=3, patients=1, cycles=1, seed=3,
         plant_refusal=False)
" "$folder/input"
config() { echo "$folder/input/$1.yaml"; }
for name in one two resumed slurm other; do sed "s#\.\./one#../$name#" "$folder/input/config.yaml" >"$(config $name)"; done
# What a run is started by, if anything.
by=()
start() { "${by[@]}" "$python" -m doseledger.cli run "$(config "$1")" --directory "$folder/work-$1" --cores "${@:2}"; }
run() { start "$@" >"$folder/$1.log"; }
run one 1
run two 2
# The start of it, killed with all that it has started as soon as some stages are there. The same command goes on.
family() { local child; echo "$1"; for child in $(pgrep -P "$1"); do family "$child"; done; }
start resumed 2 >/dev/null 2>&1 &
started=$!
until [ "$(find "$folder/resumed" -mindepth 4 -maxdepth 4 -path '*/ses-c*/[a-z]*' 2>/dev/null | wc -l)" -ge 7 ]; do
  kill -0 "$started" || { echo "the run to be killed has ended before" >&2; exit 1; }
  sleep 1
done
# shellcheck disable=SC2046
kill -9 $(family "$started")
wait "$started" || true
"$python" -m doseledger.cli status "$(config resumed)"
run resumed 2
others=("$folder/two" "$folder/resumed")
if tests/cluster/box.sh true 2>"$folder/slurm.log"; then
  by=(env SLURM_TEST_NODES=2 timeout --kill-after 30 1800 tests/cluster/box.sh tests/cluster/on_slurm.sh)
  run slurm 2 --profile profiles/test-cluster
  by=()
  others+=("$folder/slurm")
else
  echo "no Slurm: $(cat "$folder/slurm.log")" >&2
fi
NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR" OPENBLAS_CORETYPE=Sandybridge NUMBA_CPU_NAME=generic run other 1
against=()
for results in "${others[@]}" "$folder/other" "${more[@]}"; do against+=(--against "$results"); done
"$python" -m doseledger.cli verify "$folder/one" "${against[@]}"
