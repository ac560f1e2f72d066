# Sourced by every recipe. A recipe trains one family of networks, a base and its split points, and turns the
# runs into released bundles. Options:
#
#   --smoke    the same commands on a few images, a narrow network and one epoch, into runs/smoke: does it run?
#   --dry-run  show the commands and run none
#   --seed N   seed of every run; other than 0 the family's name ends in -sN
#   --runs DIR folder of the runs (default: runs); finished runs are passed over, interrupted ones resume
#
# Environment: NEUCODEX_DATA, the datasets' folder; NEUCODEX, the program; THREADS, CPU threads (default: torch's own).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NEUCODEX=${NEUCODEX:-.venv/bin/neucodex}
smoke=0 dry=0 seed=0 runs=runs
while [ $# -gt 0 ]; do
    case $1 in
        --smoke) smoke=1 ;;
        --dry-run) dry=1 ;;
        --seed) seed=$2; shift ;;
        --runs) runs=$2; shift ;;
        *) printf '%s: unknown option %s\n' "$0" "$1" >&2; exit 2 ;;
    esac
    shift
done

neucodex() {
    printf '+ neucodex %s\n' "$*"
    [ "$dry" = 1 ] || "$NEUCODEX" "$@"
}

# name NAME: the family's folder, from here on "$out"; a recipe may train several
name() {
    [ "$seed" = 0 ] && family=$1 || family=$1-s$seed
    if [ "$smoke" = 1 ] && [ "${runs##*/}" != smoke ]; then runs=$runs/smoke; fi
    out=$runs/$family
}

# train RUN OPTIONS: a base, or a run that a later one starts from
train() {
    local run=$1; shift
    local last=(--seed "$seed" --threads "${THREADS:-0}")
    if [ "$smoke" = 1 ]; then last+=(--width 0.125 --train-limit 128 --holdout 0 --ann-epochs 0 --epochs 1 --qat-epochs 1 --batch-size 32 --warmup 0); fi
    neucodex train "$@" "${last[@]}" --out "$out/$run"
}

# artificial RUN OPTIONS: an artificial network, to be converted or to start from
artificial() {
    local run=$1; shift
    local last=(--epochs 0 --qat-epochs 0 --seed "$seed" --threads "${THREADS:-0}")
    if [ "$smoke" = 1 ]; then last+=(--width 0.125 --train-limit 128 --holdout 0 --ann-epochs 1 --batch-size 32 --warmup 0); fi
    neucodex train "$@" "${last[@]}" --out "$out/$run"
}

# converted RUN FROM OPTIONS: an artificial network's run becomes a spiking one
converted() {
    local run=$1 from=$2; shift 2
    if [ "$dry" = 1 ] || ! [ -f "$out/$run/run.json" ]; then
        neucodex convert "$out/$from" "$@" --out "$out/$run"
    fi
}

# finetune SPLIT OPTIONS: a bottleneck, from the run "base"
finetune() {
    local split=$1; shift
    local last=(--seed "$seed" --threads "${THREADS:-0}")
    if [ "$smoke" = 1 ]; then last+=(--epochs 1 --qat-epochs 1 --batch-size 32 --warmup 0); fi
    neucodex finetune "$out/base" --split "$split" "$@" "${last[@]}" --out "$out/${split,,}"
}

# bundle RUN NAME: a further run becomes the base bundle of a family of its own
bundle() {
    local exports=${EXPORTS:-netx_exports}
    if [ "$smoke" = 1 ]; then exports=$runs/exports; fi
    local folder=$exports/$(basename "$out")-$2/base
    if [ "$dry" = 1 ] || ! [ "$folder/manifest.json" -nt "$out/$1/run.json" ]; then
        neucodex export "$out/$1" --out "$folder"
    fi
}

# release: the finished runs become bundles
release() {
    printf '+ scripts/release.sh %s\n' "$out"
    [ "$dry" = 1 ] && return
    if [ "$smoke" = 1 ]; then
        EXPORTS=$runs/exports SAMPLES=64 CONFIRM=2 BACKENDS="slayer twin fused" scripts/release.sh "$out"
    else
        scripts/release.sh "$out"
    fi
}
