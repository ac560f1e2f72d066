#!/usr/bin/env bash
# VGG-16 of full width on CIFAR-10, T_max 2, pixels of 4 bits repeated; for a GPU.
# Never run at full length yet: the paper's 92 % (F-B) and 90.1 % (D+B) are what it is for.
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
name vgg16-cifar10

network=(--arch vgg16 --dataset cifar10 --encoding direct --bits 4)
recipe=(--batch-size 128 --optimizer sgd --weight-decay 5e-4 --label-smoothing 0.1 --policy randaugment --cutout 8
    --ema 0.9995)
train base "${network[@]}" --timesteps 2 "${recipe[@]}" --warmup 5 --epochs 300 --qat-epochs 20 --lr 0.05 --qat-lr 1e-3
finetune SP4 --channels 16 --stride 2 "${recipe[@]}" --epochs 40 --qat-epochs 15 --lr 0.01 --qat-lr 1e-3
release
