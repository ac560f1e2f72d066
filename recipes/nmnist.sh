#!/usr/bin/env bash
# The small ResNet on N-MNIST, T_max 4, recordings binned by time; for CPUs.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name resnet-small-nmnist

train base --arch resnet-small --dataset nmnist --timesteps 4 --epochs 60 --qat-epochs 10 --lr 4e-3
finetune SP2 --channels 2 --stride 1 --epochs 20 --qat-epochs 6 --lr 2e-3
release
