#!/usr/bin/env bash
# ResNet-18 of half width on CIFAR-10, T_max 2, pixels of 4 bits repeated; for CPUs.
# Pretraining at T = 1 sees as many images in half the time; the second run starts from its weights.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name resnet18-w0.5-cifar10

network=(--arch resnet18 --width 0.5 --dataset cifar10 --encoding direct --bits 4)
recipe=(--batch-size 128 --optimizer adamw --weight-decay 0.05 --label-smoothing 0.1 --cutout 8 --ema 0.999
    --precision bfloat16)
train pretrained "${network[@]}" --timesteps 1 "${recipe[@]}" --epochs 20 --qat-epochs 1 --lr 4e-3
train base "${network[@]}" --timesteps 2 "${recipe[@]}" --init "$out/pretrained" --epochs 8 --qat-epochs 3 --lr 1e-3 --qat-lr 3e-4
finetune SP3 --channels 8 --stride 2 "${recipe[@]}" --epochs 3 --qat-epochs 2 --lr 1e-3 --qat-lr 3e-4
finetune SP7 --channels 1 --stride 2 "${recipe[@]}" --epochs 3 --qat-epochs 2 --lr 1e-3 --qat-lr 3e-4
release
