#!/usr/bin/env bash
# The table of docs/sameness.md: one small cohort on one core, on two, killed in the middle and resumed, and with another
# instruction set. Usage: recipes/sameness.sh FOLDER [PYTHON] [MORE RESULTS...]; results of the same input that another
# machine or Slurm has made (FOLDER/input) can be named as well.
set -euo pipefail
folder=$1
python=${2:-.venv/bin/python}
more=("${@:3}")
export PYTHONPATH=src OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 NUMBA_NUM_THREADS=1
"$python" -c "
import sys
from pathlib import Path
from doseledger.phantom import simulate
simulate(Path(sys.argv[1]), results='../one', cohort='micro', size='micro', sites=3, patients=1, cycles=1, seed=3,
         plant_refusal=False)
" "$folder/input"
config() { echo "$folder/input/$1.yaml"; }
for name in one two resumed other; do sed "s#\.\./one#../$name#" "$folder/input/config.yaml" >"$(config $name)"; done
run() { "$python" -m doseledger.cli run "$(config "$1")" --cores "$2" --directory "$folder/work-$1" >"$folder/$1.log"; }
run one 1
run two 2
# The start of it, in a process group of its own, killed as soon as some stages are there; what it has locked is freed.
setsid "$python" -m doseledger.cli run "$(config resumed)" --cores 2 --directory "$folder/work-resumed" >/dev/null 2>&1 &
started=$!
until [ "$(find "$folder/resumed" -mindepth 4 -maxdepth 4 -path '*/ses-c*/[a-z]*' 2>/dev/null | wc -l)" -ge 7 ]; do sleep 1; done
kill -9 -- "-$started"
"$python" -m doseledger.cli status "$(config resumed)"
"$python" -m snakemake --unlock --profile none --cores 1 --configfile "$(config resumed)" \
  --directory "$folder/work-resumed" >/dev/null 2>&1
run resumed 2
NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL AVX512_SPR" OPENBLAS_CORETYPE=Sandybridge NUMBA_CPU_NAME=generic run other 1
against=()
for results in "$folder/two" "$folder/resumed" "$folder/other" "${more[@]}"; do against+=(--against "$results"); done
"$python" -m doseledger.cli verify "$folder/one" "${against[@]}"
