#!/usr/bin/env bash
# Check one small object of every kind that the virtual cohort writes against the DICOM standard.
# Needs dciodvfy (Debian package dicom3tools). Usage: .ci/dciodvfy.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
python="${1:-.venv/bin/python}"
command -v dciodvfy >/dev/null || { echo "dciodvfy not found: install dicom3tools" >&2; exit 2; }

# Errors that are wanted: what a real workstation writes against the standard, for the reader to cope with.
#   nm-counts  frames of two energy windows in one reconstruction; PS3.3 C.8.4.8.1.1 knows slices only.
wanted_error() {
    case "$1" in
        nm-counts) echo 'Error - Unrecognized enumerated value (0x54,0x10) for value 1 of attribute <Frame Increment Pointer>' ;;
    esac
}

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" "$python" -m doseledger.phantom.samples "$folder"

failed=0
checked=0
while IFS= read -r file; do
    kind="$(basename "$(dirname "$file")")"
    # dciodvfy exits with 1 on errors: what counts is what it says.
    report="$(dciodvfy "$file" 2>&1 || true)"
    errors="$(grep '^Error' <<<"$report" | grep -vxF -- "$(wanted_error "$kind")" || true)"
    checked=$((checked + 1))
    if [ -n "$errors" ]; then
        failed=$((failed + 1))
        printf '%s\n%s\n' "${file#"$folder"/}" "$errors" >&2
    fi
done < <(find "$folder" -name '*.dcm' | sort)

echo "dciodvfy: $checked objects, $failed with errors"
[ "$checked" -gt 0 ] && [ "$failed" -eq 0 ]
