#!/usr/bin/env bash
# VGG-16 of half width on CIFAR-10, T_max 2, pixels of 4 bits repeated; for CPUs (hours on two cores). WIDTH=0.25 is a quarter of the work.
# It begins as an artificial network, whose epochs take less time and at first learn more (docs/training.md).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
width=${WIDTH:-0.5}
name "vgg16-w$width-cifar10"

network=(--arch vgg16 --width "$width" --dataset cifar10 --timesteps 2 --encoding direct --bits 4)
recipe=(--batch-size 128 --optimizer sgd --weight-decay 5e-4 --warmup 0.5 --precision bfloat16)
train base "${network[@]}" "${recipe[@]}" --ann-epochs 12 --ann-lr 0.05 --epochs 12 --qat-epochs 5 --lr 0.03 --qat-lr 3e-3
finetune SP4 --channels 16 --stride 1 "${recipe[@]}" --distill-features 2 --distill-logits 0.3 --epochs 2 --qat-epochs 2 --lr 0.02 --qat-lr 2e-3
release
