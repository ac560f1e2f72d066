"""A user's own SLAYER network, imported: every layer spikes as it did in SLAYER."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neucodex_lava import accelerate
from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.twin import run_twin
from neucodex_lava.config import OwnLayer
from neucodex_lava.models.backbones.build import build_base
from neucodex_lava.models.imported import read_blocks
from neucodex_lava.models.own import OwnBlock, OwnSynapses
from neucodex_lava.models.slayer import block as cuba_block
from neucodex_lava.models.slayer import norm as cuba_norm
from neucodex_lava.models.split import SplitModel
from neucodex_lava.quantize import to_integer_net
from neucodex_lava.training.forward import Forward
from neucodex_lava.training.regularisers import SynOpTerm

Shape = tuple[int, int, int]


def random_network(seed: int) -> tuple[list[Any], Shape, int]:
    """A chain of convolutions, pools and dense blocks with everything that can be imported.

    Returns:
        Blocks whose norms and delays hold values as training leaves them, the input's shape, T.
    """
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    timesteps = int(rng.integers(4, 10))
    shift = bool(rng.random() < 0.5)
    shape: Shape = (2, int(rng.integers(6, 9)), int(rng.integers(6, 9)))

    def neuron() -> dict[str, Any]:
        params: dict[str, Any] = {
            "threshold": float(rng.uniform(0.1, 0.6)),
            "current_decay": float(rng.choice([0.1, 0.6, 1.0])),
            "voltage_decay": float(rng.choice([0.03, 0.3, 0.5, 1.0])),
            "scale": int(rng.choice([64, 256])),
            "requires_grad": bool(rng.random() < 0.3),
        }
        return params | ({"norm": cuba_norm.MeanOnlyBatchNorm} if rng.random() < 0.5 else {})

    def often(p: float) -> bool:
        return bool(rng.random() < p)

    blocks: list[Any] = []
    if often(0.5):
        with_neurons = neuron() | {"scale": 64}
        blocks.append(cuba_block.Input(with_neurons, weight=0.9, delay_shift=shift))
    elif often(0.5):
        blocks.append(cuba_block.Input(delay_shift=False))
    blocks.append(
        cuba_block.Conv(
            neuron(),
            2,
            4,
            (3, 2),
            stride=(1, 2),
            padding=(2, 1),
            dilation=(2, 1),
            groups=int(rng.choice([1, 2])),
            weight_scale=4,
            weight_norm=often(0.5),
            delay_shift=shift,
        )
    )
    x: Any = torch.zeros(1, *shape, timesteps)
    for block in blocks:
        x = block(x)
    if x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0:
        blocks.append(cuba_block.Pool(neuron(), 2, weight_scale=0.7, delay_shift=shift))
        x = blocks[-1](x)
    blocks += [
        cuba_block.Conv(
            neuron(), 4, 6, 3, padding=1, weight_scale=3, delay=True, delay_shift=shift
        ),
        cuba_block.Flatten(),
    ]
    features = 6 * x.shape[2] * x.shape[3]
    blocks.append(
        cuba_block.Dense(neuron(), features, 12, weight_scale=4, weight_norm=often(0.5), delay=True)
    )
    if often(0.5):
        blocks.append(cuba_block.Dense(neuron(), 12, 6, weight_scale=5, delay_shift=shift))
        blocks += [cuba_block.Average(3)] if often(0.5) else []
    else:
        blocks.append(cuba_block.Affine(neuron() | {"norm": None}, 12, 3, dynamics=False))
    run_slayer(blocks, torch.zeros(1, *shape, timesteps))
    for block in blocks:
        norm = getattr(getattr(block, "neuron", None), "norm", None)
        if norm is not None:
            norm.running_mean = torch.from_numpy(
                rng.uniform(-0.2, 0.1, block.shape[0]).astype(np.float32)
            )
        delay = getattr(block, "delay", None)
        if delay is not None:
            size = tuple(delay.delay.shape)
            delay.delay.data = torch.from_numpy(rng.uniform(0, 4, size).astype(np.float32))
    return blocks, shape, timesteps


@torch.no_grad()
def run_slayer(blocks: list[Any], x: Any) -> tuple[list[Any], Any]:
    """What each block of neurons spikes before any delay, as the network itself runs; its output."""
    seen: list[Any] = []
    for block in blocks:
        block.eval()
        neuron: Any = getattr(block, "neuron", None)
        hook = None
        if neuron is not None and not isinstance(block, cuba_block.Affine):
            hook = neuron.register_forward_hook(lambda *a: seen.append(a[2]))
        x = block(x)
        if hook is not None:
            hook.remove()
    return seen, x


def imported(blocks: list[Any], shape: Shape, timesteps: int, bits: int = 1) -> SplitModel:
    config, weights = read_blocks(blocks, shape, timesteps, "mine", bits)
    model = build_base(config, shape, config.layers[-1].out, timesteps, bits)
    for block, read in zip(model.block_list(), weights):
        (link,) = block.links()
        with torch.no_grad():
            link.synapse.weight.copy_(read.weight.reshape(link.synapse.weight.shape))
            assert link.bias is not None
            link.bias.copy_(read.bias)
    model.set_gains({b.name: read.gain for b, read in zip(model.block_list(), weights)})
    return model.eval()


@pytest.mark.parametrize("seed", range(24))
def test_every_layer_spikes_as_in_slayer(seed: int) -> None:
    blocks, shape, timesteps = random_network(seed)
    rng = np.random.default_rng(seed)
    inputs = (rng.random((4, *shape, timesteps)) < 0.4).astype(np.uint8)
    theirs, output = run_slayer(blocks, torch.from_numpy(inputs).float())
    model = imported(blocks, shape, timesteps)
    ours = model.run_slayer(inputs)
    twin = run_twin(Executor(to_integer_net(model)), inputs, count=False, record=True)
    x = torch.from_numpy(np.moveaxis(inputs, -1, 0).copy()).float()
    fast = model.run(x)[1]
    slow = Forward(model, potentials=True, recompute=True)(x).values
    fan_outs = SynOpTerm(model).fan_outs
    net = to_integer_net(model)
    names = [b.name for b in model.block_list()]
    assert len(theirs) in (len(names) - 1, len(names))
    assert theirs[0].any()
    for name, spikes in zip(names, theirs):
        expected = spikes.numpy().astype(np.uint8).reshape(ours.spikes[name].shape)
        assert np.array_equal(ours.spikes[name], expected), name
        assert np.array_equal(np.moveaxis(fast[name].detach().numpy(), 0, -1), expected), name
        assert torch.equal(slow[name], fast[name]), name
        assert twin.spikes is not None
        assert np.array_equal(twin.spikes[name], expected), name
    for node, connection in net.connections():
        if connection.source != "input":
            fan_out = connection.fan_out(net.shape_of(connection.source), node.shape)[0]
            assert np.array_equal(fan_outs[connection.source].numpy(), fan_out)
    assert twin.sums is not None
    assert np.array_equal(twin.sums, ours.sums)
    gain = model.gains["readout"]
    logits = ours.sums / gain
    summed = output.reshape(4, -1, timesteps).cumsum(-1).numpy()
    factor = 1.0 if isinstance(blocks[-1], cuba_block.Affine) else 8.0
    # An output that is delayed reaches the readout as late as it leaves the network.
    assert np.array_equal(logits, factor * summed)


@pytest.mark.parametrize("theta", [3, 7, 77, 80, 1001, 4095])
def test_weights_between_two_steps_are_rounded_as_slayer_rounds_them(theta: int) -> None:
    weights = torch.arange(-300, 301) / 64
    weights[::3] += 1e-6
    layer: Any = cuba_block.Dense(
        {"threshold": theta / 64, "current_decay": 1.0, "voltage_decay": 0.5}, 601, 1
    )
    layer.synapse.weight.data = weights.reshape(1, -1, 1, 1, 1)
    output = cuba_block.Dense({"threshold": 1.0, "current_decay": 1, "voltage_decay": 1}, 1, 1)
    net = to_integer_net(imported([layer, output], (601, 1, 1), 4))
    expected = 64 * layer.synapse.pre_hook_fx(layer.synapse.weight)
    assert net.nodes[0].neuron.threshold == theta
    assert np.array_equal(
        net.nodes[0].connections[0].weight.ravel(), expected.detach().numpy().ravel()
    )
    assert expected.abs().max() == 256


def test_gradients_pass_through_the_current_as_in_slayer() -> None:
    torch.manual_seed(0)
    layer = OwnLayer("a", "dense", 8, current_decay=410, voltage_decay=123)
    block = OwnBlock(layer, OwnSynapses("input", (6, 1, 1), layer), readout=False, timesteps=7)
    x, of_spikes = (torch.rand(7, 5, 6, 1, 1) < 0.5).float(), torch.randn(7, 5, 8, 1, 1)
    weight = block.links()[0].synapse.weight
    ours = block({"input": x})
    (gradient,) = torch.autograd.grad((ours * of_spikes).sum(), weight)
    drive = torch.einsum("tnchw,oc->not", x, weight.reshape(8, 6))
    theirs = block.neuron(drive)
    assert torch.equal(ours[..., 0, 0].permute(1, 2, 0), theirs)
    spikes = of_spikes[..., 0, 0].permute(1, 2, 0)
    (expected,) = torch.autograd.grad((theirs * spikes).sum(), weight)
    assert float(expected.abs().max()) > 1
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-5)


def test_an_accelerated_network_is_imported_and_trained_in_bfloat16_alike() -> None:
    blocks, shape, timesteps = random_network(4)
    inputs = (np.random.default_rng(4).random((4, *shape, timesteps)) < 0.4).astype(np.uint8)
    plain = imported(blocks, shape, timesteps)
    accelerate(torch.nn.ModuleList(blocks))
    fast = imported(blocks, shape, timesteps)
    assert to_integer_net(fast).fingerprint() == to_integer_net(plain).fingerprint()
    fast.set_precision(torch.bfloat16)
    values = fast.run(torch.from_numpy(np.moveaxis(inputs, -1, 0).copy()).bfloat16())[1]
    for name, spikes in plain.run_slayer(inputs).spikes.items():
        if name != "readout":
            assert np.array_equal(
                np.moveaxis(values[name].detach().float().numpy(), 0, -1), spikes
            ), name


def test_flat_input_may_pass_an_input_block_with_neurons() -> None:
    params = {"threshold": 0.6, "current_decay": 1.0, "voltage_decay": 0.2}
    blocks: list[Any] = [
        cuba_block.Input(params, weight=0.4, bias=0.1, delay_shift=False),
        cuba_block.Dense(params, 12, 9, weight_scale=6, delay_shift=False),
        cuba_block.Dense(params, 9, 3, weight_scale=6),
    ]
    inputs = np.random.default_rng(0).integers(0, 4, (5, 3, 2, 2, 8), dtype=np.uint8)
    flat = torch.from_numpy(inputs).float().reshape(5, 12, 8)
    theirs, _ = run_slayer(blocks, flat)
    ours = imported(blocks, (3, 2, 2), 8, bits=2).run_slayer(inputs).spikes
    for name, spikes in zip(("input1", "dense2", "dense3"), theirs):
        assert spikes.any()
        assert np.array_equal(ours[name].reshape(spikes.shape), spikes.numpy()), name
