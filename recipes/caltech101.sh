#!/usr/bin/env bash
# ResNet-18 of half width on ten classes of Caltech101 at 64x64, T_max 2, pixels of 4 bits repeated; for CPUs.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name resnet18-w0.5-caltech101

network=(--arch resnet18 --width 0.5 --dataset caltech101 --size 64 --encoding direct --bits 4)
recipe=(--batch-size 32 --label-smoothing 0.1 --policy randaugment --cutout 16 --ema 0.99)
train pretrained "${network[@]}" --timesteps 1 "${recipe[@]}" --epochs 120 --qat-epochs 1 --lr 3e-3
train base "${network[@]}" --timesteps 2 "${recipe[@]}" --init "$out/pretrained" --epochs 20 --qat-epochs 10 --lr 1e-3
finetune SP3 --channels 8 --stride 2 "${recipe[@]}" --epochs 10 --qat-epochs 6 --lr 1e-3
release
