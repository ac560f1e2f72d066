#!/usr/bin/env bash
# Write requirements.lock and those of crosscheck, peers and cloud: names, versions and hashes, from the
# ordinary index alone, whatever this machine's pip or uv is configured to look at besides.
# Arguments go to uv (--upgrade, …). Packages that several of them hold have one version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

unset PIP_FIND_LINKS PIP_EXTRA_INDEX_URL PIP_INDEX_URL UV_FIND_LINKS UV_INDEX UV_EXTRA_INDEX_URL
for uv in uv .tools/bin/uv .venv/bin/uv; do
    if "$uv" --version >/dev/null 2>&1; then break; fi
done
lock() {
    "$uv" pip compile --quiet --no-config \
        --python-version 3.10 --python-platform x86_64-manylinux_2_28 \
        --generate-hashes --no-header --no-emit-index-url --no-emit-find-links "$@"
}
lock pyproject.toml --extra train --extra cloud --extra otel --extra onnx --extra ray --extra dev \
    --output-file requirements.lock "$@"
lock pyproject.toml requirements-crosscheck.in --extra cloud --constraint requirements.lock \
    --output-file requirements-crosscheck.lock "$@"
# For any Python from 3.11, hence of its own versions; torch is chosen by scripts/cloud.sh.
"$uv" pip compile --quiet --no-config --universal --python-version 3.11 \
    --override <(echo 'torch ; python_version < "3"') \
    --generate-hashes --no-header --no-emit-index-url --no-emit-find-links \
    pyproject.toml requirements-cloud.in --extra cloud --extra onnx \
    --output-file requirements-cloud.lock "$@"
lock requirements-peers.in --constraint requirements.lock --output-file requirements-peers.lock "$@"
