"""A network's forward pass as training needs it: with potentials, or with less memory."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from neucodex_lava.models.blocks import SpikingBlock
from neucodex_lava.models.dynamics import lif_torch
from neucodex_lava.models.neurons import drive_of
from neucodex_lava.models.split import SplitModel


class Sent(NamedTuple):
    """What a forward pass gave.

    Attributes:
        outputs: y(t), (T, N, K).
        values: spikes by node, (T, N, C, H, W).
        potentials: by spiking node, after the reset and per threshold; empty unless asked for.
        early: y(t) of each exit head, (T, N, K).
    """

    outputs: Tensor
    values: dict[str, Tensor]
    potentials: dict[str, Tensor]
    early: dict[str, Tensor]


class Forward(nn.Module):
    """A network's forward pass.

    Args:
        model: the network.
        potentials: also give membrane potentials, on a slower path.
        recompute: keep the spikes between blocks only, and run each block once more in the backward
            pass (Chen et al., arXiv 1604.06174): half the memory, 1.6 times the time.
    """

    def __init__(self, model: SplitModel, *, potentials: bool, recompute: bool) -> None:
        super().__init__()
        self.model = model
        self.potentials = potentials
        self.recompute = recompute

    def forward(self, x: Tensor) -> Sent:
        """Run it on input (T, N, C, H, W)."""
        potentials: dict[str, Tensor] = {}

        def call(block: SpikingBlock, values: dict[str, Tensor]) -> Tensor:
            # Its own output must not be among what a block keeps for its second run.
            sources = {link.source: values[link.source] for link in block.links()}
            if self.potentials and not block.readout and not block.artificial:
                spikes, potentials[block.name] = self._run(_with_potential, block, sources)
                return spikes
            return self._run(_plain, block, sources)

        outputs, values = self.model.run(x, call)
        return Sent(outputs, values, potentials, self.model.early_answers(values))

    def _run(self, way: Any, block: SpikingBlock, sources: dict[str, Tensor]) -> Any:
        if not self.recompute:
            return way(block, sources)
        return checkpoint(
            way,
            block,
            sources,
            use_reentrant=False,
            preserve_rng_state=False,  # no block draws random numbers
            context_fn=lambda: (contextlib.nullcontext(), _statistics_kept(block)),
        )


def _plain(block: SpikingBlock, sources: dict[str, Tensor]) -> Tensor:
    return block(sources)


def _with_potential(block: SpikingBlock, sources: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    drive = drive_of(block.parts(sources), whole=block.integer)
    spikes = lif_torch(drive, block.lif)
    kept: list[Tensor] = []
    v = torch.zeros_like(drive[0])
    for current, fired in zip(drive, spikes.detach()):
        v = (block.lif.keep * v + current) * (1 - fired)
        kept.append(v)
    threshold = block.lif.fire / block.lif.scale
    return spikes.to(block.links()[0].dtype), torch.stack(kept) / threshold


@contextlib.contextmanager
def _statistics_kept(block: SpikingBlock) -> Iterator[None]:
    """The second run of a block must not move its running statistics once more."""
    norms = [m for m in block.modules() if isinstance(m, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta):
            norm.momentum = momentum
