"""Our neurons against SLAYER's own, over random drives, thresholds, decays and lengths.

Spikes are equal; gradients lie within 1e-6 of the largest one: float32 rounds each of the few
operations on an element at about 1e-7, and both sides do them in another order. Where a gradient is a
sum over many elements, SLAYER in float64 is the judge.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neucodex_lava.models.dropin import accelerate
from neucodex_lava.models.neurons import FLOAT_SCALE, LIF, Part, lif, norm_lif, slayer_neuron
from neucodex_lava.models.slayer import block, cuba

quick = settings(derandomize=True, deadline=None, max_examples=40)

DECAYS = st.one_of(
    st.sampled_from([0.0, 1.0, 0.5, 0.25, 0.75, 0.875, 1 / 4096, 4095 / 4096]),
    st.integers(0, 4096).map(lambda d: d / 4096),
)
STEPS = st.integers(1, 8)
SEEDS = st.integers(0, 1 << 16)
FLOAT_PHASE = st.integers(16, 512).map(lambda k: (k / FLOAT_SCALE, FLOAT_SCALE))
INTEGER_PHASE = st.integers(4, 131_071).map(lambda k: (float(k), 1))


def drive(seed: int, threshold: float, scale: int, *shape: int) -> Tensor:
    """Currents about the threshold, on SLAYER's grid or off it, some of which reach it exactly."""
    generator = torch.Generator().manual_seed(seed)
    x = (torch.randn(shape, generator=generator) * 0.8 + 0.3) * threshold
    x = x.round() if scale == 1 else x
    hits = torch.rand(shape, generator=generator) < 0.1
    return x.masked_fill(hits, threshold)


def slayer_run(neuron: cuba.Neuron, x: Tensor) -> Tensor:
    """SLAYER's own forward on (T, N, ...)."""
    return neuron(x.movedim(0, -1)).movedim(-1, 0)


def gradients(out: Tensor, *leaves: Tensor) -> tuple[Tensor, ...]:
    """Of a random weighting of the output."""
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(9))
    return torch.autograd.grad((out * weights.to(out.dtype)).sum(), leaves)


def near(a: Tensor, b: Tensor, share: float = 1e-6) -> bool:
    """Whether they differ by no more than a share of the largest."""
    return bool((a - b).abs().max() <= share * b.abs().max())


@quick
@given(st.one_of(FLOAT_PHASE, INTEGER_PHASE), DECAYS, STEPS, SEEDS)
def test_lif(phase: tuple[float, int], decay: float, steps: int, seed: int) -> None:
    threshold, scale = phase
    neuron = slayer_neuron(threshold, decay, scale)
    x = drive(seed, threshold, scale, steps, 2, 3, 4, 5)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = lif(x1, neuron), slayer_run(neuron, x2)
    assert torch.equal(ours, theirs)
    assert ours.any()
    assert near(*gradients(ours, x1), *gradients(theirs, x2))


def as_slayer(current: Tensor, phase: tuple[float, int], decay: float) -> Tensor:
    """SLAYER's spikes of a float64 current, computed in float64."""
    return slayer_run(slayer_neuron(phase[0], decay, phase[1]).double(), current)


def wide(*tensors: Tensor) -> list[Tensor]:
    """Float64 leaves of the same values."""
    return [t.detach().double().requires_grad_() for t in tensors]


def per_channel(x: Tensor) -> Tensor:
    return x[:, None, None]


@quick
@given(FLOAT_PHASE, DECAYS, STEPS, SEEDS, st.integers(4, 9), st.booleans())
def test_a_block_with_given_coefficients(
    phase: tuple[float, int], decay: float, steps: int, seed: int, channels: int, join: bool
) -> None:
    """Coefficients, sums and their products are exact in float32 here, so spikes must be equal."""
    generator = torch.Generator().manual_seed(seed)
    shape = (steps, 2, channels, 3, 4)
    z = torch.randint(-64, 65, shape, generator=generator) / 16 * phase[0]
    other = (torch.rand(shape, generator=generator) < 0.3).float()
    a, b = (torch.randint(-32, 65, (channels,), generator=generator) / 32 for _ in range(2))
    leaves = [t.requires_grad_() for t in (z, a, b, other)]
    parts = [Part(z, scale=a, bias=b), *([Part(other)] if join else [])]
    ours = norm_lif(parts, LIF.of(slayer_neuron(phase[0], decay, phase[1])))
    z2, a2, b2, other2 = wide(*leaves)
    theirs = as_slayer(
        z2 * per_channel(a2) + per_channel(b2) + (other2 if join else 0), phase, decay
    )
    assert torch.equal(ours, theirs.float())
    last = 4 if join else 3
    found, truth = gradients(ours, *leaves[:last]), gradients(theirs, *(z2, a2, b2, other2)[:last])
    for i, (g, t) in enumerate(zip(found, truth)):
        assert near(g, t, 1e-5 if i in (1, 2) else 1e-6)


@quick
@given(FLOAT_PHASE, DECAYS, st.sampled_from([1, 2, 4, 8]), SEEDS, st.integers(4, 9), st.booleans())
def test_a_block_with_its_batch_norm(
    phase: tuple[float, int], decay: float, steps: int, seed: int, channels: int, join: bool
) -> None:
    """The batch's own mean and variance are exact in float32 here: each channel has the same eight
    values in another order about a mean of its own, and eps makes their variance 1.
    """
    generator = torch.Generator().manual_seed(seed)
    values = torch.tensor([-1, -0.75, -0.5, -0.25, 0.25, 0.5, 0.75, 1]).repeat(steps)
    rows = [values[torch.randperm(8 * steps, generator=generator)] for _ in range(channels)]
    mean = torch.randint(-4, 5, (channels,), generator=generator) / 4
    z = torch.stack(rows).view(channels, steps, 2, 2, 2).movedim(0, 2) + per_channel(mean)
    norm = nn.BatchNorm2d(channels, eps=1 - 0.46875)
    with torch.no_grad():
        norm.weight.copy_(torch.randint(1, 129, (channels,), generator=generator) / 32 * phase[0])
        norm.bias.copy_(torch.randint(-16, 33, (channels,), generator=generator) / 32)
    norm2 = copy.deepcopy(norm).double()
    other = (torch.rand(z.shape, generator=generator) < 0.3).float()
    z1, other1 = z.clone().requires_grad_(), other.clone().requires_grad_()
    parts = [Part(z1, norm=norm), *([Part(other1)] if join else [])]
    ours = norm_lif(parts, LIF.of(slayer_neuron(phase[0], decay, phase[1])))
    z2, other2 = wide(z, other)
    current = norm2(z2.flatten(0, 1)).unflatten(0, (steps, 2)) + (other2 if join else 0)
    theirs = as_slayer(current, phase, decay)
    assert torch.equal(ours, theirs.float())
    found = gradients(ours, z1, norm.weight, norm.bias, *([other1] if join else []))
    truth = gradients(theirs, z2, norm2.weight, norm2.bias, *([other2] if join else []))
    for i, (g, t) in enumerate(zip(found, truth)):
        assert near(g, t, 1e-5 if i in (1, 2) else 2e-6), i
    assert near(norm.running_mean, norm2.running_mean)
    assert near(norm.running_var, norm2.running_var)


def test_a_batch_norm_on_any_values() -> None:
    """Rounding may move a potential by a state unit or two, no more: 1 / 4096 of the input's unit."""
    torch.manual_seed(0)
    z = torch.randn(4, 8, 16, 12, 12) * 1.5 + 0.2
    norm = nn.BatchNorm2d(16)
    nn.init.constant_(norm.weight, 2.0)
    norm2, z1, (z2,) = copy.deepcopy(norm).double(), z.clone().requires_grad_(), wide(z)
    ours = norm_lif([Part(z1, norm=norm)], LIF.of(slayer_neuron(2.0, 0.5, FLOAT_SCALE)))
    current = norm2(z2.flatten(0, 1)).unflatten(0, z.shape[:2])
    theirs = as_slayer(current, (2.0, FLOAT_SCALE), 0.5)
    assert (ours != theirs).float().mean() < 2e-4
    for g, t in zip(
        gradients(ours, z1, norm.weight, norm.bias),
        gradients(theirs, z2, norm2.weight, norm2.bias),
    ):
        assert (g - t).norm() < 2e-3 * t.norm()


@quick
@given(INTEGER_PHASE, DECAYS, STEPS, SEEDS)
def test_sums_that_a_fast_convolution_left_off_by_less_than_a_half(
    phase: tuple[float, int], decay: float, steps: int, seed: int
) -> None:
    neuron = slayer_neuron(phase[0], decay, phase[1])
    x = drive(seed, phase[0], 1, steps, 2, 5, 3, 3)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)) * 0.9 - 0.45
    x1, x2 = (x + noise * (x.abs() < 1e5)).requires_grad_(), x.clone().requires_grad_()
    ours = norm_lif([Part(x1)], LIF.of(neuron), whole=True)
    theirs = slayer_run(neuron, x2)
    assert torch.equal(ours, theirs)
    assert near(*gradients(ours, x1), *gradients(theirs, x2))


@quick
@given(FLOAT_PHASE, DECAYS, STEPS, SEEDS)
def test_bfloat16(phase: tuple[float, int], decay: float, steps: int, seed: int) -> None:
    """Neurons compute in float32: spikes are equal, gradients rounded once, to 8 bits."""
    neuron = slayer_neuron(phase[0], decay, phase[1])
    x = drive(seed, phase[0], phase[1], steps, 2, 5, 3, 3).bfloat16()
    x1, x2 = x.clone().requires_grad_(), x.float().requires_grad_()
    ours = norm_lif([Part(x1)], LIF.of(neuron), dtype=torch.bfloat16)
    theirs = slayer_run(neuron, x2)
    assert ours.dtype == torch.bfloat16
    assert torch.equal(ours.float(), theirs)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)).bfloat16()
    (g,) = torch.autograd.grad(ours, x1, weights)
    (t,) = torch.autograd.grad(theirs, x2, weights.float())
    assert ((g.float() - t).abs() <= 2**-8 * t.abs() + 1e-6 * t.abs().max()).all()


def two_neurons(**parameters: Any) -> tuple[cuba.Neuron, cuba.Neuron]:
    """SLAYER's, and the same with the drop-in."""
    stock, fast = cuba.Neuron(**parameters), cuba.Neuron(**parameters)
    accelerate(fast)
    return stock, fast


@quick
@given(
    st.one_of(FLOAT_PHASE, INTEGER_PHASE, st.tuples(st.floats(0.1, 9), st.integers(1, 300))),
    DECAYS,
    DECAYS,
    STEPS,
    SEEDS,
    st.floats(1e-3, 10),
    st.floats(0.1, 20),
)
def test_the_drop_ins_neuron(
    phase: tuple[float, int], current: float, voltage: float, steps: int, seed: int, tau: float,
    scale: float,
) -> None:  # fmt: skip
    stock, fast = two_neurons(
        threshold=phase[0], current_decay=current, voltage_decay=voltage, scale=phase[1],
        tau_grad=tau, scale_grad=scale,
    )  # fmt: skip
    assume(stock.threshold > 0)
    x = drive(seed, phase[0], phase[1], 2, 3, 4, 5, steps)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = fast(x1), stock(x2)
    assert torch.equal(ours, theirs)
    assert near(*gradients(ours, x1), *gradients(theirs, x2))
    for a, b in zip(fast.dynamics(x), stock.dynamics(x)):
        assert torch.equal(a, b)


@quick
@given(DECAYS, DECAYS, STEPS, SEEDS, st.booleans())
def test_the_drop_ins_learned_decays(
    current: float, voltage: float, steps: int, seed: int, persistent: bool
) -> None:
    stock, fast = two_neurons(
        threshold=1.0, current_decay=current, voltage_decay=voltage, requires_grad=True,
        persistent_state=persistent,
    )  # fmt: skip
    for i in range(2):
        x = drive(seed + i, 1.0, 64, 2, 7, steps)
        x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
        ours, theirs = fast(x1), stock(x2)
        assert torch.equal(ours, theirs)
        found = gradients(ours, x1, fast.current_decay, fast.voltage_decay)
        truth = gradients(theirs, x2, stock.current_decay, stock.voltage_decay)
        for g, t in zip(found, truth):
            assert (g - t).abs().max() <= 1e-6 * t.abs().max() + 1e-8
    if persistent:
        assert torch.equal(fast.current_state, stock.current_state)
        assert torch.equal(fast.voltage_state, stock.voltage_state)


@quick
@given(
    st.sampled_from([16, 64, 512]),
    st.sampled_from([(1, 1, 0), (3, 1, 1), (3, 2, 1), (5, 1, 0), (3, 1, 2), (2, 2, 0)]),
    st.sampled_from([(3, 5, 1), (4, 6, 2), (6, 6, 6), (1, 4, 1), (5, 1, 1)]),
    st.sampled_from([0.0, 0.3, 1.0]),
    STEPS,
    SEEDS,
    st.booleans(),
)
def test_the_drop_ins_convolution_with_slayers_quantised_weights(
    scale: int, kernel: tuple[int, int, int], channels: tuple[int, int, int], current: float,
    steps: int, seed: int, counts: bool,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    neuron = {"threshold": 40 / scale, "current_decay": current, "voltage_decay": 0.2}
    size, stride, padding = kernel
    source, out, groups = channels
    stock = block.Conv(
        neuron | {"scale": scale, "tau_grad": 0.01}, source, out, size, stride, padding,
        groups=groups, weight_scale=160 / scale, delay_shift=seed % 2 == 0,
    )  # fmt: skip
    fast = copy.deepcopy(stock)
    accelerate(fast)
    x = torch.rand(2, source, 7, 6, steps)
    x = (x * 5).floor() if counts else (x < 0.4).float()
    judge = copy.deepcopy(stock).double()
    (x0,) = wide(x)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    ours, theirs = fast(x1), stock(x2)
    assert torch.equal(ours, theirs)
    weights = [n.synapse.weight for n in (judge, fast, stock)]
    truth = gradients(judge(x0), x0, weights[0])
    for t, g, s in zip(truth, gradients(ours, x1, weights[1]), gradients(theirs, x2, weights[2])):
        their_error = (s - t).abs().max()
        assert (g - t).abs().max() <= 2 * their_error + 1e-6 * t.abs().max()


@pytest.mark.parametrize("threshold", [1, 64, 900, 4096, 5000, 60_000, 131_071])
def test_the_threshold_itself(threshold: int) -> None:
    """SLAYER with its default eps spikes at the threshold from 4,096 on; the drop-in does the same."""
    stock, fast = two_neurons(threshold=threshold, current_decay=1.0, voltage_decay=0.5, scale=1)
    x = torch.tensor([threshold - 1.0, threshold, threshold + 1.0]).reshape(1, 3, 1)
    assert stock(x).flatten().tolist() == fast(x).flatten().tolist()
    assert fast(x).flatten().tolist() == [0.0, float(threshold >= 4096), 1.0]
