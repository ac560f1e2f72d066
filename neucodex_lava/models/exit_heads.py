"""Exit heads: further readouts on the way, each with an answer before the whole network has run.

BranchyNet (Teerapittayanon et al., ICPR 2016) and SPARQ (arXiv 2603.14380): a head behind split point
SPi sees the spikes of its last node, averaged onto a map of at most `HEAD_SIDE` x `HEAD_SIDE`, through
one dense connection. It counts as part of what lies before the cut at SPi.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from neucodex_lava.models.blocks import SpikingBlock
from neucodex_lava.models.split import SplitModel, require_split_point
from neucodex_lava.models.synapses import Synapses

HEAD_SIDE = 8
"""Averaging saves weights to train, not SynOps: each spike reaches all outputs anyway."""


def head_name(split: int) -> str:
    """Name of the node behind SP`split`."""
    return f"exit_sp{split}"


def with_exit_heads(model: SplitModel, splits: Sequence[int]) -> SplitModel:
    """The network with an exit head behind each of these split points; itself if there are none.

    Args:
        model: a base, whose blocks the result shares. Heads that it has already stay as they are.
        splits: i of SPi.

    Raises:
        ConfigError: no such split point.
    """
    new = [split for split in splits if head_name(split) not in model.blocks]
    if not new:
        return model
    ends = {require_split_point(model, split): split for split in new}
    blocks: list[SpikingBlock] = []
    for number, block in enumerate(model.block_list(), 1):
        blocks.append(block)
        if number in ends:
            last = model.sender(number)
            blocks.append(_head(ends[number], last, model.readout.shape[0], model.timesteps))
    split_points = {
        split: cut + sum(end <= cut for end in ends) for split, cut in model.split_points.items()
    }
    return SplitModel(model.input_shape, blocks, split_points, model.timesteps, model.input_bits)


def _head(split: int, last: SpikingBlock, classes: int, timesteps: int) -> SpikingBlock:
    synapses = Synapses(
        last.name, "dense", last.shape, classes, norm=False, pooled=True, side=HEAD_SIDE
    )
    return SpikingBlock(head_name(split), [synapses], readout=True, timesteps=timesteps)


def with_new_heads(
    weights: Mapping[str, torch.Tensor], model: SplitModel
) -> dict[str, torch.Tensor]:
    """Weights of a network without some of `model`'s exit heads, which stay as they are there."""
    missing = model.state_dict().keys() - weights.keys()
    heads = tuple(f"blocks.{head.name}." for head in model.exit_heads)
    own = {k: v for k, v in model.state_dict().items() if k in missing and k.startswith(heads)}
    return {**weights, **own}
