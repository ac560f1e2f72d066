"""A network of your own: built from SLAYER's blocks, trained by SLAYER's own loop, then imported.

    python examples/own_network.py --out out/mine --epochs 6

writes ``network.pt`` (the checkpoint) and ``base`` (the run that finetune and export take).
Digits of 8x8 pixels, 8 timesteps, two cores: about half a minute.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import lava.lib.dl.slayer as slayer
import torch
from torch import Tensor, nn

from neucodex_lava import import_blocks
from neucodex_lava.config import DataConfig
from neucodex_lava.data import load

DATA = DataConfig("digits", timesteps=8)
CUBA = {
    "threshold": 1.0,
    "current_decay": 0.5,
    "voltage_decay": 0.25,
    "tau_grad": 0.03,  # SLAYER multiplies it by 100, and scale_grad by 0.1
    "scale_grad": 10,
}


class Network(nn.Module):
    """Two convolutions and two dense layers, as SLAYER's tutorials write them."""

    def __init__(self) -> None:
        super().__init__()
        block = slayer.block.cuba
        # Without delay_shift a layer's spikes reach the next one in the same timestep. With it, which
        # is SLAYER's default, four layers would answer three timesteps late.
        same = {"weight_norm": True, "weight_scale": 2, "delay_shift": False}
        self.blocks = nn.ModuleList(
            [
                block.Conv(CUBA, 1, 12, 3, padding=1, **same),
                block.Conv(CUBA, 12, 24, 3, stride=2, padding=1, **same),
                block.Flatten(),
                block.Dense(CUBA, 24 * 4 * 4, 64, **same),
                block.Dense(CUBA, 64, 10, **same),
            ]
        )

    def forward(self, spikes: Tensor) -> Tensor:
        """Output spikes (N, 10, T) of input spikes (N, C, H, W, T)."""
        for block in self.blocks:
            spikes = block(spikes)
        return spikes


def train(network: Network, epochs: int, batch: int = 32) -> float:
    """SLAYER's loop: spike-rate loss, Adam. Returns the test accuracy."""
    samples, test = load(DATA, split="train"), load(DATA, split="test")
    spikes = torch.from_numpy(samples.inputs(DATA)).float()
    labels = torch.from_numpy(samples.labels)
    optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
    error = slayer.loss.SpikeRate(true_rate=0.7, false_rate=0.05, reduction="sum")
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(labels)).split(batch):
            loss = error(network(spikes[rows]), labels[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            total += float(loss)
        print(f"epoch {epoch + 1}: loss {total / len(labels):.3f}")
    with torch.no_grad():
        output = network.eval()(torch.from_numpy(test.inputs(DATA)).float())
    answers = slayer.classifier.Rate.predict(output)
    return float((answers == torch.from_numpy(test.labels)).float().mean())


def main() -> None:
    """Train, save, import."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("out/mine"))
    parser.add_argument("--epochs", type=int, default=6)
    options = parser.parse_args()
    torch.manual_seed(0)
    network = Network()
    print(f"SLAYER's own accuracy: {train(network, options.epochs):.4f}")
    options.out.mkdir(parents=True, exist_ok=True)
    checkpoint = options.out / "network.pt"
    torch.save(network.state_dict(), checkpoint)

    # From here on: your own code and your checkpoint.
    import_blocks(Network(), options.out / "base", data=DATA, checkpoint=checkpoint, name="mine")


if __name__ == "__main__":
    main()
