#!/usr/bin/env bash
# SNNCutoff's comparison on CIFAR-10 at T_max 4, ResNet-18 of a quarter of the width: TET, and TET with its regulariser RCS. Both
# start from the same artificial network. For CPUs (hours); WIDTH=1 is the paper's, for a GPU. DATASET=cifar100 where its files are.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
width=${WIDTH:-0.25} dataset=${DATASET:-cifar10}
[ "$width" = 1 ] && arch=resnet18 || arch=resnet18-w$width

network=(--arch resnet18 --width "$width" --dataset "$dataset" --encoding direct --bits 4 --timesteps 4 --holdout 5000)
recipe=(--batch-size 128 --optimizer sgd --weight-decay 5e-4 --warmup 0.5 --precision bfloat16)
spiking=(--epochs 12 --qat-epochs 3 --lr 0.03 --qat-lr 2e-3 --loss tet)
name "$arch-$dataset-tet"
ann=$out/ann
artificial ann "${network[@]}" "${recipe[@]}" --ann-epochs 12 --lr 0.1
train base "${network[@]}" "${recipe[@]}" "${spiking[@]}" --init "$ann"
release
name "$arch-$dataset-tet-rcs"
train base "${network[@]}" "${recipe[@]}" "${spiking[@]}" --rcs-weight 0.1 --init "$ann"
release
