"""SLAYER's CUBA blocks with their one timestep of delay and their flattening done time first."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from neucodex_lava.models.dropin.layout import time_first, time_last
from neucodex_lava.models.slayer import block


def _delayed(module: Any, x: Tensor) -> Tensor:
    """`x` (N, ..., T) one timestep later, as SLAYER's ``step_delay``."""
    if not hasattr(module, "delay_buffer"):
        module.delay_buffer = None
    before: Tensor | None = module.delay_buffer
    if before is not None and before.shape[0] != x.shape[0]:
        before = module.delay_buffer = None
    rows = time_first(x)
    first = torch.zeros_like(rows[:1])
    if module.neuron is not None and module.neuron.persistent_state:
        module.delay_buffer = x[..., -1]
        if before is not None:
            first = time_first(before.unsqueeze(-1))
    return time_last(torch.cat([first, rows[:-1]]))


class _Block:
    """A synapse, a neuron and its delays."""

    mask: Tensor | None
    synapse: Any
    neuron: Any
    delay: Any
    delay_shift: bool
    count_log: bool

    def forward(self, x: Tensor) -> Any:
        """Spikes (N, C, ..., T) of spikes (N, C, ..., T)."""
        if getattr(self, "mask", None) is not None:
            self.synapse.weight.data *= self.mask
        x = self.neuron(self.synapse(x))
        if self.delay_shift is True:
            x = _delayed(self, x)
        if self.delay is not None:
            x = self.delay(x)
        return (x, torch.mean((x > 0).to(x.dtype))) if self.count_log is True else x


class FastDenseBlock(_Block, block.Dense):
    """`slayer.block.cuba.Dense`."""


class FastConvBlock(_Block, block.Conv):
    """`slayer.block.cuba.Conv`."""


class FastConvTBlock(_Block, block.ConvT):
    """`slayer.block.cuba.ConvT`."""


class FastPoolBlock(_Block, block.Pool):
    """`slayer.block.cuba.Pool`."""


class FastUnpoolBlock(_Block, block.Unpool):
    """`slayer.block.cuba.Unpool`."""


class FastInput(block.Input):
    """`slayer.block.cuba.Input`."""

    def forward(self, x: Tensor) -> Any:
        """Spikes (N, C, ..., T) of values (N, C, ..., T)."""
        if self.neuron is None or self.count_log:
            return super().forward(x)
        z = self.pre_hook_fx(x)
        if self.weight is not None:
            z = z * self.pre_hook_fx(self.weight)
        if self.bias is not None:
            z = z + self.pre_hook_fx(self.bias)
        x = self.neuron(z)
        if self.delay_shift is True:
            x = _delayed(self, x)
        if self.input_shape is None:
            self.input_shape = self.neuron.shape
        return x


class FastFlatten(block.Flatten):
    """`slayer.block.cuba.Flatten`."""

    def forward(self, x: Tensor) -> Any:
        """(N, C, H, W, T) as (N, C * H * W, T)."""
        if x.dim() != 5:
            return super().forward(x)
        if self.shape is None:
            self.shape = [x.shape[1] * x.shape[2] * x.shape[3], 1, 1]
        rows = x.permute(4, 0, 1, 2, 3).flatten(2)
        x = rows.permute(1, 2, 0)
        return (x, None) if self.count_log is True else x
