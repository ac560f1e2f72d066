#!/usr/bin/env bash
# Prepare .venv: find or install uv, find Python 3.10, install requirements.lock and this project.
# Needs no root, writes only inside the project (.venv, .tools), and does nothing when all is in place.
#
#   NEUCODEX_PYTHON=/path/to/python3.10   use this interpreter and look no further
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly VENV=.venv
readonly TOOLS=.tools
readonly STAMP=$VENV/.neucodex-setup
readonly WANTED=3.10

say() { printf 'setup: %s\n' "$*" >&2; }
die() {
    printf 'setup: error: %s\n' "$1" >&2
    printf 'setup:   way out: %s\n' "$2" >&2
    exit 2
}

# An interpreter counts only if it runs: pyenv's shims exist for versions that are not active.
is_wanted() {
    "$1" -I -c 'import ssl, sys; sys.exit(sys.version_info[:2] != (3, 10))' >/dev/null 2>&1
}

is_usable() {
    "$1" -I -c 'import ssl, sys; sys.exit(sys.version_info < (3, 8))' >/dev/null 2>&1
}

real_path() { "$1" -I -c 'import sys; print(sys.executable)'; }

fingerprint() {
    cat requirements.lock pyproject.toml "$VENV/pyvenv.cfg" 2>/dev/null | sha256sum | cut -d' ' -f1
}

is_current() {
    [ -f "$STAMP" ] && [ "$(cat "$STAMP")" = "$(fingerprint)" ] && [ -x "$VENV/bin/python" ]
}

pyenv_pythons() {
    local root=${PYENV_ROOT:-$HOME/.pyenv}
    { printf '%s\n' "$root"/versions/$1/bin/python3 | sort -rV; } 2>/dev/null
}

find_uv() {
    local candidate
    for candidate in "$(command -v uv || true)" "$TOOLS/bin/uv" "$VENV/bin/uv"; do
        if [ -n "$candidate" ] && "$candidate" --version >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    return 1
}

# uv goes into .tools with whatever Python 3 there is; one without venv or pip is passed over.
install_uv() {
    local python log
    log=$(mktemp)
    while read -r python; do
        [ -n "$python" ] && is_usable "$python" || continue
        say "no uv found: installing it into $TOOLS with $python"
        rm -rf "$TOOLS"
        if "$python" -m venv "$TOOLS" >"$log" 2>&1 &&
            "$TOOLS/bin/python" -m pip install --quiet --disable-pip-version-check \
                'uv>=0.5' >"$log" 2>&1; then
            rm -f "$log"
            return
        fi
        say "that did not work: $(tail -n 1 "$log")"
    done < <(
        command -v python3 python3.14 python3.13 python3.12 python3.11 python3.10 python || true
        printf '%s\n' /usr/bin/python3 /usr/local/bin/python3
        pyenv_pythons '3.*'
    )
    rm -rf "$TOOLS" "$log"
    die "uv is not here and could not be installed into $TOOLS" \
        "install uv (any way you like), or Python 3 with its venv module (Debian: python3-venv), and run this again"
}

find_python() {
    local candidate
    if [ -n "${NEUCODEX_PYTHON:-}" ]; then
        is_wanted "$NEUCODEX_PYTHON" ||
            die "NEUCODEX_PYTHON=$NEUCODEX_PYTHON is not a working Python $WANTED" \
                "point it at one, or unset it"
        real_path "$NEUCODEX_PYTHON"
        return
    fi
    while read -r candidate; do
        if [ -n "$candidate" ] && is_wanted "$candidate"; then
            real_path "$candidate"
            return
        fi
    done < <(
        "$UV" python find --system --no-python-downloads "$WANTED" 2>/dev/null || true
        command -v python3.10 python3 python || true
        pyenv_pythons "$WANTED*"
        printf '%s\n' /usr/local/bin/python3.10 /usr/bin/python3.10
    )
    say "no Python $WANTED here: asking uv for one"
    if timeout 300 "$UV" python install "$WANTED" >/dev/null 2>&1; then
        candidate=$("$UV" python find --managed-python "$WANTED" 2>/dev/null || true)
        if [ -n "$candidate" ] && is_wanted "$candidate"; then
            printf '%s\n' "$candidate"
            return
        fi
    fi
    die "no Python $WANTED found: not in uv's list, not on PATH, not in pyenv's versions, and uv could not download one (Lava runs on no other version)" \
        "install one ('uv python install $WANTED', 'pyenv install $WANTED' or your system's package), or set NEUCODEX_PYTHON to one, and run this again"
}

if is_current; then
    exit 0
fi
if command -v flock >/dev/null 2>&1; then
    exec 9>.setup.lock.tmp
    flock 9
    if is_current; then exit 0; fi
fi

[ -f requirements.lock ] || die "requirements.lock is missing" "check it out again, or 'make lock'"
UV=$(find_uv) || { install_uv; UV=$TOOLS/bin/uv; }
# A uv that lies in .venv would be removed with it.
if ! is_wanted "$VENV/bin/python"; then
    if [ "$UV" = "$VENV/bin/uv" ]; then install_uv; UV=$TOOLS/bin/uv; fi
    PYTHON=$(find_python)
    say "making $VENV with $PYTHON"
    "$UV" venv --quiet --clear --no-python-downloads --prompt neucodex --python "$PYTHON" "$VENV"
fi
say "installing requirements.lock (about 6 GB unpacked, because torch brings CUDA; minutes the first time)"
"$UV" pip install --quiet --python "$VENV/bin/python" --require-hashes --requirement requirements.lock
"$UV" pip install --quiet --python "$VENV/bin/python" --no-deps --no-build-isolation --editable .
fingerprint >"$STAMP"
say "ready: $VENV"
