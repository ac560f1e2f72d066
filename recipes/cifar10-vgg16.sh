#!/usr/bin/env bash
# VGG-16 of half width on CIFAR-10, T_max 2, pixels of 4 bits repeated; for CPUs.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name vgg16-w0.5-cifar10

network=(--arch vgg16 --width 0.5 --dataset cifar10 --encoding direct --bits 4)
recipe=(--batch-size 128 --optimizer adamw --weight-decay 0.05 --label-smoothing 0.1 --cutout 8 --ema 0.999
    --precision bfloat16)
train pretrained "${network[@]}" --timesteps 1 "${recipe[@]}" --epochs 20 --qat-epochs 1 --lr 4e-3
train base "${network[@]}" --timesteps 2 "${recipe[@]}" --init "$out/pretrained" --epochs 8 --qat-epochs 3 --lr 1e-3 --qat-lr 3e-4
finetune SP4 --channels 8 --stride 2 "${recipe[@]}" --epochs 3 --qat-epochs 2 --lr 1e-3 --qat-lr 3e-4
release
