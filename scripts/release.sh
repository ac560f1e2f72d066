#!/usr/bin/env bash
# From finished runs to released bundles: scripts/release.sh RUNS, where RUNS/base and RUNS/sp3, ... are finished runs.
# Exports each into netx_exports/<name of RUNS>/, verifies it on every backend and SLAYER against the executor on the
# whole test split, measures the table, and writes the tables of netx_exports/README.md anew. What is done already is
# passed over, so that the same command goes on after an interruption; a run trained on since is exported again.
#
# Environment: EXPORTS (netx_exports), SAMPLES (test samples; 0: all), CONFIRM (samples that also run in Lava and over a
# socket; 20), BACKENDS (of verify; all that can run), NEUCODEX_DATA, NEUCODEX.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NEUCODEX=${NEUCODEX:-.venv/bin/neucodex}
PYTHON=$(dirname "$NEUCODEX")/python
exports=${EXPORTS:-netx_exports}
if [ $# -ne 1 ] || ! [ -f "$1/base/run.json" ]; then
    echo "usage: scripts/release.sh RUNS, a folder that holds the finished run 'base' and its split runs 'sp1', ..." >&2
    exit 2
fi
runs=${1%/}
family=$exports/$(basename "$runs")

neucodex() {
    printf '+ neucodex %s\n' "$*"
    "$NEUCODEX" "$@"
}

# has BUNDLE table|slayer: whether its manifest keeps that
has() {
    "$PYTHON" -c 'import json, sys; m = json.load(open(sys.argv[1] + "/manifest.json")); sys.exit(sys.argv[2] not in (m.get("measured") or {}))' "$1" "$2"
}

names=(base)
for run in "$runs"/sp*/; do
    if [ -f "$run/run.json" ]; then names+=("$(basename "$run")"); fi
done

for name in "${names[@]}"; do
    bundle=$family/$name
    if ! [ "$bundle/manifest.json" -nt "$runs/$name/run.json" ]; then
        neucodex export "$runs/$name" --out "$bundle"
    fi
    if ! has "$bundle" slayer; then
        neucodex verify "$bundle" --run "$runs/$name" ${BACKENDS:+--backends $BACKENDS} --dataset-samples "${SAMPLES:-0}" --record
    fi
done
for name in "${names[@]}"; do
    if ! has "$family/$name" table; then
        neucodex sweep "$family" --samples "${SAMPLES:-0}" --confirm "${CONFIRM:-20}" --record
        break
    fi
done

if [ "$exports" = netx_exports ]; then
    grep -qxF "!$family/" .gitignore || sed -i "/^!netx_exports\/README.md/a !$family/" .gitignore
    "$PYTHON" scripts/readme_tables.py
fi
echo "released: $family"
