#!/usr/bin/env bash
# The RO-Crate of a small virtual cohort, against the profile Workflow Run Crate: all that is required. No network
# but the package registry's.
set -euo pipefail
python=$1
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/validator"
"$work/validator/bin/python" -m pip install --quiet --requirement "$root/envs/roc-validator.txt"
"$python" -c "
import sys
from pathlib import Path
from doseledger.phantom import simulate
simulate(Path(sys.argv[1]), results='../results', cohort='crate', size='micro', sites=1, patients=1, cycles=1, seed=3)
" "$work/input"
cd "$root"
"$python" -m doseledger.cli run "$work/input/config.yaml" --cores 1 --directory "$work/work" >/dev/null
"$python" -m doseledger.cli crate "$work/input/config.yaml" --out "$work/crate"
context=$("$python" -c "import rocrate, pathlib; print(pathlib.Path(rocrate.__file__).parent / 'data' / 'ro-crate.jsonld')")
validate() { "$work/validator/bin/python" tests/crate/validate.py "$context" "$1"; }
validate "$work/crate"
# The check can fail: a crate without what it conforms to, and one without a file that it lists.
cp -r "$work/crate" "$work/broken" && rm "$work/broken/settings.json"
if validate "$work/broken" >/dev/null; then echo "a crate without one of its files passed"; exit 1; fi
