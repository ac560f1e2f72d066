#!/usr/bin/env bash
# SPARQ's LeNet-5 on MNIST, spikes only: the artificial network, its conversion at T = 32 by plain weight transfer (SNN), and
# the network trained on its integers at T_max 8 with three exit heads (QSNN; with the exits in use QDSNN). For CPUs (an hour on one core).
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name lenet5-mnist

network=(--arch lenet5 --dataset mnist --exit-heads SP1 SP2 SP3 --holdout 5000 --batch-size 64)
artificial ann "${network[@]}" --timesteps 32 --ann-epochs 25 --lr 4e-3
converted snn ann --method transfer --timesteps 32
train base "${network[@]}" --timesteps 8 --init "$out/ann" --epochs 12 --qat-epochs 4 --lr 3e-3 --qat-lr 5e-4
bundle snn t32
release
