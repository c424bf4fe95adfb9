#!/bin/sh
# What a GPU does, in one command of at most 9 minutes, without a network and without installing anything:
#     OUT=results sh benchmarks/gpu.sh [--dry]
# Wheels that `benchmarks/gpu_wheels.sh` collected in .whl are unpacked beside the results where a package is missing.
# Each piece has its own time, and leaves its rows in $OUT/gpu.json and $OUT/gpu.md; --dry is the same on the CPU.
cd "$(dirname "$0")/.." || exit 1
OUT=${OUT:-gpu_results}
mkdir -p "$OUT"
python=${PYTHON:-python3}
site=${TMPDIR:-/tmp}/melody_cm_site
$python benchmarks/gpu_site.py .whl "$site" || exit 1
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" HF_HUB_OFFLINE=1 OMP_WAIT_POLICY=PASSIVE PYTHONUNBUFFERED=1
started=$(date +%s)
for piece in machine:30 musiccm:90 melody:110 stages:120 agree:60 learn:60 tests:60 recurrence:20 peers:80; do
    left=$((530 - $(date +%s) + started))
    limit=${piece#*:}
    [ "${1:-}" = --dry ] && limit=900 left=900
    [ "$left" -lt 15 ] && break
    [ "$limit" -gt "$left" ] && limit=$left
    timeout "$limit" $python benchmarks/gpu.py "${piece%:*}" --out "$OUT" "$@" >>"$OUT/log.txt" 2>&1 ||
        echo "${piece%:*}: ended with $? (see $OUT/log.txt)"
done
cat "$OUT/gpu.md"
