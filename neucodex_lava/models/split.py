"""SplitModel: a trainable spiking network in blocks, with one cut and its split points."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from neucodex_lava.config import BottleneckConfig
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import INPUT, STATE_SHIFT, Shape
from neucodex_lava.models.blocks import SpikingBlock

STATE_UNIT = 1 << STATE_SHIFT
BlockCall = Callable[[SpikingBlock, dict[str, Tensor]], Tensor]


@dataclass(frozen=True, eq=False)
class SlayerRun:
    """What SLAYER's own modules gave.

    Attributes:
        spikes: of each node, uint8 (N, C, H, W, T); all zero for readouts.
        sums: running sums S_t, int64 (N, K, T).
        potentials: of each node after each timestep (0 where it spiked), in state units, int32
            (N, C, H, W, T).
        exit_sums: running sums of each exit head.
    """

    spikes: dict[str, NDArray[np.uint8]]
    sums: NDArray[np.int64]
    potentials: dict[str, NDArray[np.int32]]
    exit_sums: dict[str, NDArray[np.int64]]


class SplitModel(nn.Module):
    """Edge head and encoder before the cut, decoder and tail after it; a base has no bottleneck.

    Args:
        input_shape: (C, H, W).
        blocks: in order; the last is the readout, those before it that read out are exit heads.
        split_points: cut (number of blocks before it) of each split point i = 1, 2, ...
        timesteps: T_max.
        input_bits: 1 for spikes, b for graded input.
        cut: blocks that run on the edge; a base is cut at its end.
        bottleneck: the encoder's and decoder's configuration, None for a base.
    """

    def __init__(
        self,
        input_shape: Shape,
        blocks: Sequence[SpikingBlock],
        split_points: Mapping[int, int],
        timesteps: int,
        input_bits: int = 1,
        cut: int | None = None,
        bottleneck: BottleneckConfig | None = None,
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.blocks = nn.ModuleDict({block.name: block for block in blocks})
        self.split_points = dict(split_points)
        self.timesteps = timesteps
        self.input_bits = input_bits
        self.cut = len(blocks) if cut is None else cut
        self.bottleneck = bottleneck

    def block_list(self) -> list[SpikingBlock]:
        """The blocks in order, typed."""
        return [b for b in self.blocks.values() if isinstance(b, SpikingBlock)]

    @property
    def readout(self) -> SpikingBlock:
        """The last block."""
        return self.block_list()[-1]

    @property
    def exit_heads(self) -> list[SpikingBlock]:
        """Readouts before the last, in order: nothing connects from them."""
        return [block for block in self.block_list()[:-1] if block.readout]

    def sender(self, cut: int) -> SpikingBlock:
        """The block whose spikes cross a cut: the last before it that spikes."""
        return next(block for block in reversed(self.block_list()[:cut]) if not block.readout)

    @property
    def integer(self) -> bool:
        """Whether the model is in its integer phase."""
        return self.readout.integer

    @property
    def gains(self) -> dict[str, float]:
        """Gain of each block in the integer phase."""
        return {block.name: block.gain for block in self.block_list()}

    def set_gains(self, gains: Mapping[str, float]) -> None:
        """Enter the integer phase with these gains; batch norms use their running statistics."""
        for block in self.block_list():
            block.set_gain(float(gains[block.name]))
        self.train(self.training)

    def quantise(self, x: Tensor | None = None) -> None:
        """Enter the integer phase: choose every block's gain from its folded weights.

        Args:
            x: inputs (T_max, N, C, H, W), by which sums are measured where their worst case over all
                possible inputs is out of the chip's reach.

        Raises:
            NetError: a block that no gain fits.
        """
        largest: dict[str, float] = {}
        if x is not None:
            was_training = self.training
            with torch.no_grad():
                _, values = self.eval().run(x)
                largest = {b.name: b.largest(values) for b in self.block_list()}
            self.train(was_training)
        self.set_gains(
            {
                b.name: b.choose_gain(self.input_bits, largest.get(b.name, 0.0))
                for b in self.block_list()
            }
        )

    def train(self, mode: bool = True) -> SplitModel:
        """Training mode; in the integer phase the batch norms stay frozen."""
        super().train(mode)
        if self.integer:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def set_precision(self, dtype: torch.dtype) -> None:
        """Convolve, and keep spikes and gradients, in float32 (as new models do) or bfloat16.

        Weights, statistics and neurons stay float32, and in the integer phase so do the sums: its
        spikes are exact in both.
        """
        for block in self.block_list():
            for link in block.links():
                link.dtype = dtype

    def set_artificial(self, artificial: bool) -> None:
        """Run as an artificial network, with ReLU in place of neurons; or as the spiking one it is.

        An artificial network has one timestep, and sees the mean of its input over time.
        """
        for block in self.block_list():
            block.artificial = artificial

    def forward(self, x: Tensor) -> Tensor:
        """Mean outputs y(t) after each timestep, (T, N, K).

        Args:
            x: input spikes or integers, (T, N, C, H, W).
        """
        return self.run(x)[0]

    def run(
        self, x: Tensor, call: BlockCall = lambda block, values: block(values)
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean outputs, and what every node sent.

        Args:
            x: input spikes or integers, (T, N, C, H, W).
            call: runs a block on what the nodes before it sent.

        Returns:
            y(t), (T, N, K), and by node the input, spikes, or running sums, (T, N, C, H, W).
        """
        if self.readout.artificial:
            x = x.mean(0, keepdim=True)
        values: dict[str, Tensor] = {INPUT: x}
        for block in self.block_list():
            values[block.name] = call(block, values)
        return self._means(self.readout, values), values

    def early_answers(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean outputs y(t) of each exit head, (T, N, K), from what `run` says every node sent."""
        return {head.name: self._means(head, values) for head in self.exit_heads}

    def _means(self, readout: SpikingBlock, values: Mapping[str, Tensor]) -> Tensor:
        sums = values[readout.name].flatten(2)
        steps = torch.arange(1, len(sums) + 1, device=sums.device)[:, None, None]
        return sums / (steps * (readout.gain if self.integer else 1.0))

    @torch.no_grad()
    def run_slayer(self, inputs: NDArray[np.uint8]) -> SlayerRun:
        """Every node's spikes from SLAYER's own modules, in evaluation, on the exact integers.

        Args:
            inputs: (N, C, H, W, T).
        """
        assert self.integer, "only an integer model has exact spikes"
        was_training = self.training
        self.eval()
        device = next(self.parameters()).device
        values = {INPUT: torch.from_numpy(inputs).to(device, torch.float32)}
        spikes: dict[str, NDArray[np.uint8]] = {}
        potentials: dict[str, NDArray[np.int32]] = {}
        sums: dict[str, NDArray[np.int64]] = {}
        for block in self.block_list():
            sent, potential = block.forward_slayer(values)
            potentials[block.name] = (potential * STATE_UNIT).round().int().cpu().numpy()
            if block.readout:
                sums[block.name] = torch.trunc(sent).flatten(1, 3).cpu().numpy().astype(np.int64)
                spikes[block.name] = np.zeros(sent.shape, np.uint8)
                continue
            values[block.name] = sent
            spikes[block.name] = sent.cpu().numpy().astype(np.uint8)
        self.train(was_training)
        return SlayerRun(spikes, sums.pop(self.readout.name), potentials, sums)

    def copy(self) -> SplitModel:
        """An independent copy."""
        return copy.deepcopy(self)


def require_split_point(model: SplitModel, split: int) -> int:
    """The cut of split point SP`split`.

    Raises:
        ConfigError: the network has no such split point.
    """
    if split not in model.split_points:
        last = max(model.split_points)
        raise ConfigError(
            f"SP{split} is not a split point of this network", f"choose one of SP1 ... SP{last}"
        )
    return model.split_points[split]
