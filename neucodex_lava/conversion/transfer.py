"""Plain weight transfer from a ReLU network to leaky neurons, with balanced thresholds.

Weights and biases stay the artificial network's; each layer gets a threshold theta, and a value A that
a spike of it stands for in the next layer. Layer by layer, on the spikes that the layers before really
send, those two are taken with which A times the firing rates is nearest to the activations (least
squares): the idea of balancing thresholds on data (Diehl et al., IJCNN 2015; Sengupta et al., 2019),
which for neurons with a leak and a hard reset has no closed form. Since a LIF neuron is
scale-invariant, theta and A become factors of the layer's and the next one's weights.
"""

from __future__ import annotations

import torch
from torch import Tensor

from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import INPUT
from neucodex_lava.models.blocks import SpikingBlock
from neucodex_lava.models.dynamics import lif_torch
from neucodex_lava.models.neurons import drive_of
from neucodex_lava.models.split import SplitModel
from neucodex_lava.models.synapses import FLOAT_THRESHOLD, Synapses

SHARES = (0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)
"""Thresholds tried, as shares of the layer's large activations."""
LARGE = 0.999
"""Which activations are large: few are larger (Rueckauer et al., 2017)."""
VALUES = 1 << 20
"""Activations of which the large ones are found."""


@torch.no_grad()
def balance(model: SplitModel, artificial: SplitModel, x: Tensor) -> None:
    """Scale the weights of a spiking network in place, so that its rates follow an artificial one's.

    Args:
        model: with the artificial network's weights and the spiking neurons, in the float phase.
        artificial: the same network in its artificial phase.
        x: training samples, (T, N, C, H, W).

    Raises:
        NetError: the network has residual joins, whose spikes all stand for one value, or a layer
            that is silent.
    """
    _, activations = artificial.run(x)
    values: dict[str, Tensor] = {INPUT: x}
    worth: dict[str, float] = {INPUT: 1.0}
    for block in model.block_list():
        for link in block.links():
            if link.kind == "identity":
                raise NetError(
                    f"node '{block.name}' joins spikes of other layers, which plain transfer would"
                    " have to weigh alike",
                    "use --activation qcfs and --method qcfs, or a chain: mlp, lenet5, alexnet, vgg16",
                )
            link.synapse.weight.mul_(worth[link.source])
        if block.readout:
            continue
        drive = drive_of(block.parts(values))
        threshold, worth[block.name] = _best(block, drive, activations[block.name][0])
        for link in block.links():
            _scale_output(link, FLOAT_THRESHOLD / threshold)
        values[block.name] = lif_torch(drive * (FLOAT_THRESHOLD / threshold), block.lif)


def _best(block: SpikingBlock, drive: Tensor, wanted: Tensor) -> tuple[float, float]:
    """Threshold in the drive's units, and what a spike is worth in the activations'."""
    large = float(torch.quantile(wanted.flatten()[:VALUES], LARGE))
    best: tuple[float, float, float] | None = None
    for share in SHARES:
        threshold = share * large * FLOAT_THRESHOLD
        if threshold <= 0:
            break
        rate = lif_torch(drive * (FLOAT_THRESHOLD / threshold), block.lif).mean(0)
        power = float(rate.square().sum())
        if power == 0:
            continue
        worth = float((rate * wanted).sum()) / power
        error = float((wanted - worth * rate).square().sum())
        if best is None or error < best[0]:
            best = error, threshold, worth
    if best is None or best[2] <= 0:
        raise NetError(
            f"node '{block.name}' is silent: no threshold gives it spikes",
            "train the artificial network longer",
        )
    return best[1], best[2]


def _scale_output(link: Synapses, factor: float) -> None:
    """Multiply all that a connection brings, its batch norm or bias included."""
    if link.bn is not None:
        link.bn.weight.mul_(factor)
        link.bn.bias.mul_(factor)
        return
    link.synapse.weight.mul_(factor)
    assert link.bias is not None
    link.bias.mul_(factor)
