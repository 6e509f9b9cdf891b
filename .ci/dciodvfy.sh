#!/usr/bin/env bash
# Check every kind of object that the virtual cohort writes against the DICOM standard.
# Of a series the first and the last file: its slices differ in pixels and position alone.
# Needs dciodvfy (Debian package dicom3tools). Usage: .ci/dciodvfy.sh [PYTHON]
set -euo pipefail
cd "$(dirname "$0")/.."
python="${1:-.venv/bin/python}"
command -v dciodvfy >/dev/null || { echo "dciodvfy not found: install dicom3tools" >&2; exit 2; }

# Errors that are wanted: what a real workstation writes against the standard, for the reader to cope with.
#   nm-counts  frames of two energy windows in one reconstruction; PS3.3 C.8.4.8.1.1 knows slices only.
# SUV in a PET series (Units GML) and in a real-world value mapping is standard; only our reader refuses it.
wanted_error() {
    case "$1" in
        */nm-counts/*nm.dcm) echo 'Error - Unrecognized enumerated value (0x54,0x10) for value 1 of attribute <Frame Increment Pointer>' ;;
    esac
}

# What must be there, so that a kind that is no longer written does not pass unseen.
kinds=(ct rtstruct seg pt-bqml pt-bqml-admin pt-bqml-start pt-bqml-none pt-bqml-suv nm-counts nm-rwv nm-rwv-suv
    camera-study/{pt-bqml,nm-counts,nm-rwv}/{cylinder,spheres,kidneys}/{ct,spect})

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
PYTHONPATH="src${PYTHONPATH:+:$PYTHONPATH}" "$python" -m doseledger.phantom.samples "$folder"

failed=0
checked=0
for kind in "${kinds[@]}"; do
    [ -d "$folder/$kind" ] || { failed=$((failed + 1)); echo "$kind: not written" >&2; }
done
while IFS= read -r parent; do
    mapfile -t files < <(find "$parent" -maxdepth 1 -name '*.dcm' | sort)
    for file in $(printf '%s\n' "${files[0]}" "${files[-1]}" | uniq); do
        # dciodvfy exits with 1 on errors: what counts is what it says.
        report="$(dciodvfy "$file" 2>&1 || true)"
        errors="$(grep '^Error' <<<"$report" | grep -vxF -- "$(wanted_error "$file")" || true)"
        checked=$((checked + 1))
        if [ -n "$errors" ]; then
            failed=$((failed + 1))
            printf '%s\n%s\n' "${file#"$folder"/}" "$errors" >&2
        fi
    done
done < <(find "$folder" -name '*.dcm' -printf '%h\n' | sort -u)

echo "dciodvfy: $checked objects, $failed problems"
[ "$checked" -gt 0 ] && [ "$failed" -eq 0 ]
