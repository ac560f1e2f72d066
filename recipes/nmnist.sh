#!/usr/bin/env bash
# The small ResNet, half as wide again, on N-MNIST, T_max 4, recordings binned by time; for CPUs (half an hour on one core).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name resnet-small-w1.5-nmnist

recipe=(--batch-size 32 --precision bfloat16)
train base --arch resnet-small --width 1.5 --dataset nmnist --timesteps 4 "${recipe[@]}" --ann-epochs 40 --epochs 60 --qat-epochs 12 --lr 3e-3
finetune SP2 --channels 2 --stride 1 "${recipe[@]}" --epochs 20 --qat-epochs 6 --lr 2e-3
release
