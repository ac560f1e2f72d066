"""A drop-in for SLAYER networks: one call makes the CUBA blocks that are already there faster.

``accelerate(network)`` gives each SLAYER block, synapse and neuron in `network` a subclass of its own
class that computes the same thing: the same spikes to the last bit, the same gradients up to float32's
rounding. Objects, parameters, buffers, state dicts, optimisers and ``export_hdf5`` stay as they are,
and `restore` undoes it.

What changes is where values lie: outputs have SLAYER's axes (N, C, H, W, T) but not its strides, so
code of your own that calls ``.view`` on them should call ``.reshape``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from torch import nn

from neucodex_lava.errors import ConfigError, NetError
from neucodex_lava.models.dropin.block import (
    FastConvBlock,
    FastConvTBlock,
    FastDenseBlock,
    FastFlatten,
    FastInput,
    FastPoolBlock,
    FastUnpoolBlock,
)
from neucodex_lava.models.dropin.neuron import FastNeuron
from neucodex_lava.models.dropin.synapse import (
    FastConv,
    FastConvTranspose,
    FastDense,
    FastPool,
    FastUnpool,
    quantiser_scale,
)
from neucodex_lava.models.slayer import block, cuba, synapse

__all__ = ["Acceleration", "accelerate", "restore"]

_FAST: Final[dict[type[nn.Module], type[nn.Module]]] = {
    cuba.Neuron: FastNeuron,
    synapse.Dense: FastDense,
    synapse.Conv: FastConv,
    synapse.ConvTranspose: FastConvTranspose,
    synapse.Pool: FastPool,
    synapse.Unpool: FastUnpool,
    block.Input: FastInput,
    block.Flatten: FastFlatten,
    block.Dense: FastDenseBlock,
    block.Conv: FastConvBlock,
    block.ConvT: FastConvTBlock,
    block.Pool: FastPoolBlock,
    block.Unpool: FastUnpoolBlock,
}
_STOCK: Final = {fast: stock for stock, fast in _FAST.items()}
_SYNAPSES: Final = (FastDense, FastConv, FastConvTranspose, FastPool, FastUnpool)


@dataclass(frozen=True)
class Acceleration:
    """What `accelerate` did.

    Attributes:
        replaced: module name and class of all that is now computed faster.
        left: module name and why it is still computed by SLAYER's own code.
    """

    replaced: dict[str, str]
    left: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} modules accelerated, {len(self.left)} left to SLAYER"]
        return "\n".join([*lines, *(f"  left: {name}: {why}" for name, why in self.left.items())])


def accelerate(
    network: nn.Module, surrogate: Literal["slayer", "sound"] = "slayer"
) -> Acceleration:
    """Compute a SLAYER network's CUBA blocks faster, in place.

    Args:
        network: any module with `slayer.block.cuba` blocks, `slayer.synapse` layers or
            `slayer.neuron.cuba` neurons in it. Calling this twice does no harm.
        surrogate: ``"slayer"`` keeps each neuron's own surrogate gradient. ``"sound"`` gives each the
            width of its threshold and an area of 2 (``tau_rho = threshold / 100``, ``scale_rho = 20``,
            as `models.neurons`): with SLAYER's defaults, tau_grad = scale_grad = 1, gradients are about
            0.002 of what they should be, layer by layer.

    Returns:
        What was replaced, and what was left and why.

    Raises:
        NetError: there is nothing of SLAYER's CUBA kind in `network`.
        ConfigError: an unknown surrogate.
    """
    if surrogate not in ("slayer", "sound"):
        raise ConfigError(f"no surrogate '{surrogate}'", "give 'slayer' or 'sound'")
    replaced: dict[str, str] = {}
    left: dict[str, str] = {}
    for name, module in network.named_modules():
        stock = _STOCK.get(type(module), type(module))
        fast = _FAST.get(stock)
        if fast is None:
            why = _why_not(module)
            if why:
                left[name] = why
            continue
        module.__class__ = fast
        reason = _still_slayers(module)
        if reason:
            left[name] = reason
        else:
            replaced[name] = stock.__name__
        if surrogate == "sound" and isinstance(module, cuba.Neuron):
            _sound(module)
    if not replaced and not left:
        raise NetError(
            f"no SLAYER CUBA block, synapse or neuron in '{type(network).__name__}'",
            "give the module that holds the slayer.block.cuba blocks",
        )
    return Acceleration(replaced, left)


def restore(network: nn.Module) -> None:
    """Undo `accelerate`: every module gets its own class back (a surrogate made sound stays)."""
    for module in network.modules():
        stock = _STOCK.get(type(module))
        if stock is not None:
            module.__class__ = stock


def _sound(neuron: Any) -> None:
    if neuron.threshold is not None and neuron.threshold > 0:
        neuron.tau_rho = neuron.threshold / cuba.TAU_RHO_MULT
        neuron.scale_rho = 2 / cuba.SCALE_RHO_MULT


def _still_slayers(module: Any) -> str:
    """Why a module of a known class will be computed by SLAYER's own code all the same."""
    if isinstance(module, FastNeuron) and not module.shared_param:
        return "decays per channel (shared_param=False)"
    if isinstance(module, _SYNAPSES) and not quantiser_scale(module):
        return (
            "weights are not quantised by SLAYER to 8 bits with a scale that is a power of two, so sums"
            " in another order may round differently"
        )
    return ""


def _why_not(module: nn.Module) -> str:
    """Why a module of SLAYER's is none of ours; empty when it is not SLAYER's or holds nothing slow."""
    kind = type(module)
    if isinstance(module, tuple(_FAST)):
        return f"a class of its own, '{kind.__name__}'"
    if kind in (block.KWTA, block.Recurrent):
        return (
            f"the recurrence of '{kind.__name__}' stays SLAYER's, its synapse and neuron are faster"
        )
    if kind.__module__.startswith("lava.lib.dl.slayer.neuron.") and hasattr(module, "threshold"):
        return f"not a CUBA neuron: '{kind.__module__.rpartition('.')[2]}.{kind.__name__}'"
    return ""
