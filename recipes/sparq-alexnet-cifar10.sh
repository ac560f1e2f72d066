#!/usr/bin/env bash
# SPARQ's AlexNet for 32x32 at half width on CIFAR-10, pixels of 4 bits repeated: the artificial network, its conversion at T = 32
# by plain weight transfer (SNN), and the network trained on its integers at T_max 4 with three exit heads (QSNN; with the
# exits in use QDSNN). For CPUs (hours). WIDTH=0.25 is a quarter of the work.
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
width=${WIDTH:-0.5}
name "alexnet-w$width-cifar10"

network=(--arch alexnet --width "$width" --dataset cifar10 --encoding direct --bits 4 --exit-heads SP2 SP3 SP5 --holdout 5000)
recipe=(--batch-size 128 --optimizer sgd --weight-decay 5e-4)
artificial ann "${network[@]}" "${recipe[@]}" --timesteps 1 --ann-epochs 40 --lr 0.05
converted snn ann --method transfer --timesteps 32
train base "${network[@]}" "${recipe[@]}" --timesteps 4 --init "$out/ann" --epochs 15 --qat-epochs 4 --lr 0.03 --qat-lr 2e-3
bundle snn t32
release
