#!/usr/bin/env bash
# Make .venv-peers where it is missing or old (requirements-peers.lock): snnTorch and SpikingJelly, which
# `neucodex bench train` runs beside ours. Without it that benchmark leaves their cases out and says so.
# Needs `make setup` to have been run, for its Python and its uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv-peers
readonly STAMP=$VENV/.neucodex-setup

fingerprint() {
    cat requirements-peers.lock "$VENV/pyvenv.cfg" 2>/dev/null | sha256sum | cut -d' ' -f1
}

if [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ]; then exit 0; fi
for uv in uv .tools/bin/uv .venv/bin/uv; do
    if "$uv" --version >/dev/null 2>&1; then break; fi
done
printf 'peers: making %s\n' "$VENV" >&2
"$uv" venv --quiet --clear --no-python-downloads --prompt peers --python .venv/bin/python "$VENV"
"$uv" pip install --quiet --python "$VENV/bin/python" --require-hashes --requirement requirements-peers.lock
fingerprint >"$STAMP"
