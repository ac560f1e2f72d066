#!/usr/bin/env bash
# ResNet-18 of full width on CIFAR-10, T_max 2, pixels of 4 bits repeated; for a GPU.
# Never run at full length yet: the paper's 94.2 % (F-B) and 92.7 % (D+B) are what it is for.
. "$(dirname "${BASH_SOURCE[0]}")/../common.sh"
name resnet18-cifar10

network=(--arch resnet18 --dataset cifar10 --encoding direct --bits 4)
recipe=(--batch-size 128 --optimizer sgd --weight-decay 5e-4 --label-smoothing 0.1 --policy randaugment --cutout 8
    --ema 0.9995)
train base "${network[@]}" --timesteps 2 "${recipe[@]}" --warmup 5 --epochs 300 --qat-epochs 20 --lr 0.1 --qat-lr 1e-3
finetune SP3 --channels 16 --stride 2 "${recipe[@]}" --epochs 40 --qat-epochs 15 --lr 0.02 --qat-lr 1e-3
finetune SP7 --channels 1 --stride 2 "${recipe[@]}" --epochs 40 --qat-epochs 15 --lr 0.02 --qat-lr 1e-3
release
