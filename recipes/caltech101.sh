#!/usr/bin/env bash
# ResNet-18 of quarter width on ten classes of Caltech101 at 64x64, T_max 2, pixels of 4 bits repeated; for CPUs.
# It begins as an artificial network, whose epochs take less time and at first learn more (docs/training.md).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
width=${WIDTH:-0.25}
name "resnet18-w$width-caltech101"

network=(--arch resnet18 --width "$width" --dataset caltech101 --size 64 --timesteps 2 --encoding direct --bits 4)
recipe=(--batch-size 32 --optimizer sgd --weight-decay 1e-3 --warmup 2 --policy trivialaugment --cutout 16 --precision bfloat16)
train base "${network[@]}" "${recipe[@]}" --ann-epochs 50 --ann-lr 0.05 --epochs 40 --qat-epochs 8 --lr 0.02 --qat-lr 2e-3
finetune SP3 --channels 8 --stride 2 "${recipe[@]}" --epochs 10 --qat-epochs 6 --lr 0.02 --qat-lr 1e-3
release
