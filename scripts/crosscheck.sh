#!/usr/bin/env bash
# Compare our counts with Sinabs's and NeuroBench's: makes .venv-crosscheck where it is missing or old
# (requirements-crosscheck.lock and this project), then runs tests/crosscheck in it. Arguments go to pytest.
# Needs `make setup` to have been run, for its Python and its uv.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv-crosscheck
readonly STAMP=$VENV/.neucodex-setup

fingerprint() {
    cat requirements-crosscheck.lock pyproject.toml "$VENV/pyvenv.cfg" 2>/dev/null | sha256sum | cut -d' ' -f1
}

if ! { [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ]; }; then
    for uv in uv .tools/bin/uv .venv/bin/uv; do
        if "$uv" --version >/dev/null 2>&1; then break; fi
    done
    printf 'crosscheck: making %s\n' "$VENV" >&2
    "$uv" venv --quiet --clear --no-python-downloads --prompt crosscheck --python .venv/bin/python "$VENV"
    "$uv" pip install --quiet --python "$VENV/bin/python" --require-hashes \
        --requirement requirements-crosscheck.lock
    "$uv" pip install --quiet --python "$VENV/bin/python" --no-deps --no-build-isolation --editable .
    fingerprint >"$STAMP"
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "$VENV/bin/python" -m pytest tests/crosscheck "$@"
