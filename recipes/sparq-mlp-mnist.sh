#!/usr/bin/env bash
# SPARQ's MLP 512-256-128-64 on MNIST, spikes only: the artificial network, its conversion at T = 32 by plain weight transfer
# (SNN), and the network trained on its integers at T_max 8 with three exit heads (QSNN; with the exits in use QDSNN). For CPUs.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
name mlp-mnist

network=(--arch mlp --dataset mnist --exit-heads SP1 SP2 SP3 --holdout 5000 --batch-size 64)
artificial ann "${network[@]}" --timesteps 32 --ann-epochs 25 --lr 2e-3
converted snn ann --method transfer --timesteps 32
train base "${network[@]}" --timesteps 8 --init "$out/ann" --epochs 12 --qat-epochs 4 --lr 2e-3 --qat-lr 5e-4
bundle snn t32
release
