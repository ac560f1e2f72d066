#!/usr/bin/env bash
# The cloud's end alone on a newer Python: makes .venv-cloud where it is missing or old, with neucodex-lava[cloud]
# and a current torch but neither Lava nor SLAYER, then runs tests/cloud in it. Arguments go to pytest.
# Needs `make setup` to have been run: the edge that the tests let talk to this cloud lives in .venv.
#
# torch's build for CPUs, 0.2 GB, is taken from a folder that pip looks in (find-links) for the newest Python that it has
# one for; else from PyTorch's own index; else the build for GPUs, which takes minutes, only if CLOUD_TORCH=any.
#
#   CLOUD_PYTHON=/path/to/python   this interpreter, 3.11 or newer, and no other
#   CLOUD_VENV=folder              another environment, to try several Pythons side by side
#   CLOUD_REQUIRED=1               fail where these tests cannot be run here, instead of saying so and going on
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=${CLOUD_VENV:-.venv-cloud}
readonly STAMP=$VENV/.neucodex-setup
readonly TORCH=torch==2.13.0

say() { printf 'cloud: %s\n' "$*" >&2; }

skip() {
    say "SKIPPED: $*"
    if [ "${CLOUD_REQUIRED:-0}" != 0 ]; then exit 1; fi
    exit 0
}

fingerprint() {
    { echo "$TORCH"; cat requirements-cloud.lock pyproject.toml "$VENV/pyvenv.cfg" 2>/dev/null; } | sha256sum | cut -d' ' -f1
}

# Newest first, each once.
pythons() {
    local candidate
    if [ -n "${CLOUD_PYTHON:-}" ]; then echo "$CLOUD_PYTHON"; return; fi
    {
        for version in 14 13 12 11; do command -v "python3.$version" || true; done
        printf '%s\n' /usr/bin/python3.1[1-9] /usr/local/bin/python3.1[1-9] "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-9].*/bin/python3
        "$uv" python list --only-installed --no-python-downloads 2>/dev/null | awk '{print $2}' || true
    } | while read -r candidate; do
        "$candidate" -I -c 'import ssl, sys, venv
if (3, 11) <= sys.version_info[:2] <= (3, 13): print("%d.%d.%d" % sys.version_info[:3], sys.executable)' 2>/dev/null || true
    done | sort -k1,1rV -u | cut -d' ' -f2-
}

# has_wheel PYTHON: whether its pip finds torch in a folder of wheels, without asking an index.
has_wheel() {
    "$1" -m pip install --dry-run --quiet --no-index --no-deps --ignore-installed "$TORCH" >/dev/null 2>&1
}

install_torch() {
    if [ "$1" = wheel ]; then
        "$VENV/bin/python" -m pip install --quiet --no-index --no-deps "$TORCH"
    elif "$uv" pip install --quiet --python "$VENV/bin/python" --no-deps --torch-backend cpu "$TORCH" 2>/dev/null; then
        return
    elif [ "${CLOUD_TORCH:-}" = any ]; then
        say "no build for CPUs found: installing torch as it comes, with CUDA"
        "$uv" pip install --quiet --python "$VENV/bin/python" "$TORCH"
    else
        return 1
    fi
}

for uv in uv .tools/bin/uv .venv/bin/uv; do
    if "$uv" --version >/dev/null 2>&1; then break; fi
done

if ! { [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ]; }; then
    mapfile -t found < <(pythons)
    if [ ${#found[@]} -eq 0 ]; then
        skip "no Python from 3.11 to 3.13 on this machine"
    fi
    python=${found[0]} source=index
    for candidate in "${found[@]}"; do
        if has_wheel "$candidate"; then
            python=$candidate source=wheel
            break
        fi
    done
    say "making $VENV with $python"
    "$python" -m venv --clear --prompt cloud "$VENV"
    if ! install_torch "$source"; then
        rm -rf "$VENV"
        skip "no build of $TORCH for CPUs can be had here (CLOUD_TORCH=any takes the one for GPUs)"
    fi
    "$uv" pip install --quiet --python "$VENV/bin/python" --require-hashes --requirement requirements-cloud.lock
    # Offline: the lock and torch must be all that the extra asks for.
    "$uv" pip install --quiet --offline --python "$VENV/bin/python" --no-build-isolation --editable '.[cloud,onnx]'
    fingerprint >"$STAMP"
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec "$VENV/bin/python" -m pytest tests/cloud "$@"
