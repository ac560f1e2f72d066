#!/usr/bin/env bash
# How T_max matters: the small ResNet on scikit-learn's digits with T_max 2, 4 and 8, the rest the same. Needs no dataset; minutes on a CPU.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

for timesteps in 2 4 8; do
    name "resnet-small-digits-t$timesteps"
    train base --arch resnet-small --dataset digits --timesteps "$timesteps" --encoding deterministic --epochs 60 --qat-epochs 20 --lr 4e-3 --qat-lr 1e-3
    finetune SP2 --channels 8 --stride 2 --epochs 20 --qat-epochs 16 --lr 2e-3 --qat-lr 1e-3
    release
done
