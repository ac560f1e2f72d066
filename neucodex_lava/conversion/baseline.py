"""What an artificial network does in place of the spiking one, at each of its exits: SPARQ's ANN.

In float32, or with 8-bit weights and activations through torch's FBGEMM kernels: static quantisation
after training, one scale per output channel (Jacob et al., CVPR 2018).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.ao import quantization

from neucodex_lava.data import SampleSet, load
from neucodex_lava.data.sets import Split
from neucodex_lava.errors import MissingDependencyError, NetError
from neucodex_lava.integer_net import INPUT
from neucodex_lava.models.blocks import SpikingBlock
from neucodex_lava.models.split import SplitModel
from neucodex_lava.models.synapses import FLOAT_THRESHOLD, Synapses
from neucodex_lava.progress import Progress, silent
from neucodex_lava.training.batches import ordered_batches
from neucodex_lava.training.runs import load_artificial

ENGINE = "fbgemm"
CALIBRATION_SAMPLES = 1024
BATCH = 256


@dataclass(frozen=True, eq=False)
class Answers:
    """What an artificial network answered on the test split, at each of its exits.

    Attributes:
        exits: names in the order in which they answer; the whole network's readout is last.
        logits: float32 (N, E, K).
        labels: int64 (N,).
        macs: multiply-accumulates until each exit has answered, its own and those of the exits before
            it included, int64 (E,). Every synapse counts, zero activations and borders too, as in
            dense arithmetic; averaging before a readout is no multiplication.
        bits: 8, or 32 in float32.
    """

    exits: tuple[str, ...]
    logits: NDArray[np.float32]
    labels: NDArray[np.int64]
    macs: NDArray[np.int64]
    bits: int

    @property
    def correct(self) -> NDArray[np.int64]:
        """Right answers of each exit, (E,)."""
        return (self.logits.argmax(2) == self.labels[:, None]).sum(0)


def ann_baseline(
    folder: Path,
    *,
    int8: bool = True,
    split: Split = "test",
    data_root: Path | None = None,
    progress: Progress = silent,
) -> Answers:
    """Run an artificial network on the whole test split.

    Args:
        folder: of its run.
        int8: with 8-bit weights and activations; else in float32.
        split: ``test``, or ``holdout``.
        data_root: where datasets other than the embedded ones lie.
        progress: called as samples finish.

    Raises:
        FormatError: no finished artificial network.
        NetError: in 8 bits, a network with residual joins or of another activation than ReLU.
        MissingDependencyError: this torch has no FBGEMM.
        DataError: the dataset is missing or damaged.
    """
    run, model = load_artificial(folder)
    test_set = load(run.data, data_root, split)
    network: nn.Module = _Float(model)
    if int8:
        train_set = load(run.data, data_root, "train").take(slice(0, CALIBRATION_SAMPLES))
        network = _quantised(PlainNetwork(model), [x for x, _ in _inputs(train_set, run.data)])
    logits: list[NDArray[np.float32]] = []
    done = 0
    with torch.no_grad():
        for x, labels in _inputs(test_set, run.data):
            logits.append(network(x).numpy())
            done += len(labels)
            progress("artificial network", done, len(test_set))
    names = (*(head.name for head in model.exit_heads), model.readout.name)
    return Answers(names, np.concatenate(logits), test_set.labels, _macs(model), 8 if int8 else 32)


def _inputs(samples: SampleSet, data: Any) -> Any:
    """Batches of what an artificial network sees, (N, C, H, W): the mean of the input over time."""
    for x, labels in ordered_batches(samples, data, BATCH):
        yield x.mean(0), labels


def _macs(model: SplitModel) -> NDArray[np.int64]:
    """Multiply-accumulates up to each exit, (E,)."""
    total, found = 0, list[int]()
    for block in model.block_list():
        total += sum(_macs_of(block, link) for link in block.links())
        if block.readout:
            found.append(total)
    return np.array(found, np.int64)


def _macs_of(block: SpikingBlock, link: Synapses) -> int:
    if link.kind == "identity":
        return 0
    fan_in = link.synapse.weight[0].numel()
    return fan_in * int(np.prod(block.shape))


class _Float(nn.Module):
    """The model's own artificial phase, all exits at once."""

    def __init__(self, model: SplitModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, E, K) of inputs (N, C, H, W)."""
        outputs, values = self.model.run(x[None])
        return torch.stack([*self.model.early_answers(values).values(), outputs])[:, -1].movedim(
            0, 1
        )


class PlainNetwork(nn.Module):
    """A chain's artificial network in torch's own layers, batch norms folded in, to be quantised.

    Args:
        model: a chain of ReLU layers, in its artificial phase.

    Raises:
        NetError: residual joins, or another activation.
    """

    def __init__(self, model: SplitModel) -> None:
        super().__init__()
        self.quantise, self.dequantise = quantization.QuantStub(), quantization.DeQuantStub()
        self.layers = nn.ModuleDict()
        self.order: list[tuple[str, str, bool]] = []
        for block in model.block_list():
            if len(block.links()) != 1 or block.activation is not None:
                raise NetError(
                    f"node '{block.name}': 8-bit artificial networks are chains of ReLU layers",
                    "pass the run of mlp, lenet5, alexnet or vgg16, trained with --activation relu",
                )
            (link,) = block.links()
            self.layers[block.name] = _layer(block, link)
            self.order.append((block.name, link.source, block.readout))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, E, K) of inputs (N, C, H, W)."""
        values = {INPUT: self.quantise(x)}
        answers: list[Tensor] = []
        for name, source, readout in self.order:
            values[name] = self.layers[name](values[source])
            if readout:
                answers.append(self.dequantise(values[name]))
        return torch.stack(answers, 1)


@torch.no_grad()
def _layer(block: SpikingBlock, link: Synapses) -> nn.Sequential:
    weight, bias = link.fold()
    if not block.readout:
        # The activation is relu(drive / threshold).
        weight, bias = weight / FLOAT_THRESHOLD, bias / FLOAT_THRESHOLD
    if link.kind == "conv":
        layer: nn.Conv2d | nn.Linear = nn.Conv2d(
            link.source_shape[0], link.out, link.kernel, link.stride, link.padding
        )
        layer.weight.copy_(weight[..., 0])
        before: list[nn.Module] = []
    else:
        layer = nn.Linear(int(np.prod(link.source_shape)), link.out)
        layer.weight.copy_(link.spread(weight))
        before = [nn.Flatten()]
    assert layer.bias is not None
    layer.bias.copy_(bias)
    return nn.Sequential(*before, layer, *([] if block.readout else [nn.ReLU()]))


def _quantised(network: PlainNetwork, calibration: list[Tensor]) -> nn.Module:
    """The same network in 8 bits, its ranges taken from inputs (N, C, H, W)."""
    engines: Any = torch.backends.quantized
    if ENGINE not in engines.supported_engines:
        raise MissingDependencyError(
            f"this torch has no {ENGINE}, which 8-bit artificial networks need",
            "use torch for x86 CPUs, or the float32 network",
        )
    engines.engine = ENGINE
    network = copy.deepcopy(network).eval()
    for layer in network.layers.values():
        names = [name for name, part in layer.named_children() if not isinstance(part, nn.Flatten)]
        if len(names) == 2:
            quantization.fuse_modules(layer, names, inplace=True)
    network.qconfig = quantization.get_default_qconfig(ENGINE)  # type: ignore[assignment]
    prepared = quantization.prepare(network)
    with torch.no_grad():
        for x in calibration:
            prepared(x)
    return cast("nn.Module", quantization.convert(prepared))
