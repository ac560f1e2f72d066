"""Our LIF gives SLAYER's spikes and gradients, and both agree with plain autograd's direction."""

import pytest
import torch
from torch import Tensor

from neucodex_lava.models.neurons import FLOAT_SCALE, lif, slayer_neuron
from neucodex_lava.models.slayer import cuba


def drives(scale: float, steps: int = 5) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(steps, 3, 4, 5, 5) * scale + 0.4 * scale


def slayer_run(neuron: cuba.Neuron, x: Tensor) -> Tensor:
    """SLAYER's own forward on (T, N, C, H, W)."""
    return neuron(x.permute(1, 2, 3, 4, 0)).permute(4, 0, 1, 2, 3)


@pytest.mark.parametrize(
    ("threshold", "scale", "spread"),
    [(2.0, FLOAT_SCALE, 2.0), (443, 1, 400.0), (4097, 1, 4000.0), (120_001, 1, 60_000.0)],
)
@pytest.mark.parametrize("decay", [0.5, 0.25, 0.3, 1.0])
def test_spikes_and_gradients_equal_slayers(
    threshold: float, scale: int, spread: float, decay: float
) -> None:
    x = drives(spread)
    if scale == 1:
        x = x.round()
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    neuron = slayer_neuron(threshold, decay, scale)
    a, b = lif(ours, neuron), slayer_run(neuron, theirs)
    assert torch.equal(a, b)
    assert 0.05 < a.mean() < 0.6
    weights = torch.randn_like(a)
    (a * weights).sum().backward()
    (b * weights).sum().backward()
    assert ours.grad is not None
    assert theirs.grad is not None
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-6 / threshold)


@pytest.mark.parametrize("threshold", [900, 4096, 5000, 60_000])
def test_the_threshold_itself_never_spikes(threshold: int) -> None:
    neuron = slayer_neuron(threshold, 0.5, 1)
    x = torch.tensor([threshold - 1.0, threshold, threshold + 1.0]).reshape(1, 1, 3, 1, 1)
    for spikes in (lif(x, neuron), slayer_run(neuron, x)):
        assert spikes.flatten().tolist() == [0.0, 0.0, 1.0]


def test_the_surrogate_is_as_strong_as_plain_autograds() -> None:
    """The trap: with SLAYER's defaults gradients are about 500 times too small.

    The reference is a LIF written with autograd and the usual triangle-free surrogate of unit area,
    through two layers, so that a wrong scale would show squared.
    """

    class Heaviside(torch.autograd.Function):
        @staticmethod
        def forward(ctx, v):  # type: ignore[no-untyped-def,override]
            ctx.save_for_backward(v)
            return (v > 0).to(v.dtype)

        @staticmethod
        def backward(ctx, grad):  # type: ignore[no-untyped-def,override]
            (v,) = ctx.saved_tensors
            return grad * torch.exp(-v.abs() / 2) / 2

    def plain(x: Tensor) -> Tensor:
        v, out = torch.zeros_like(x[0]), []
        for t in range(len(x)):
            v = v / 2 + x[t]
            s = Heaviside.apply(v - 2)
            v = v * (1 - s.detach())
            out.append(s)
        return torch.stack(out)

    def slayer_default(x: Tensor) -> Tensor:
        return slayer_run(cuba.Neuron(2.0, 1.0, 0.5), x)

    def ours(x: Tensor) -> Tensor:
        return lif(x, slayer_neuron(2.0, 0.5, FLOAT_SCALE))

    torch.manual_seed(0)
    x = torch.randn(4, 64, 32, 1, 1) * 2 + 0.5
    target = torch.randn(4, 64, 16, 1, 1)
    grads = {}
    for name, layer in {"plain": plain, "ours": ours, "default": slayer_default}.items():
        torch.manual_seed(3)
        w1 = (torch.randn(32, 32) / 3).requires_grad_()
        w2 = (torch.randn(16, 32) / 3).requires_grad_()
        hidden = layer(torch.einsum("oc,tnchw->tnohw", w1, x))
        out = layer(torch.einsum("oc,tnchw->tnohw", w2, hidden))
        (out * target).sum().backward()
        assert w1.grad is not None
        grads[name] = w1.grad.flatten()
    cosine = torch.nn.functional.cosine_similarity(grads["ours"], grads["plain"], 0)
    ratio = grads["ours"].norm() / grads["plain"].norm()
    assert cosine > 0.85
    assert 0.7 < ratio < 1.5
    assert grads["default"].norm() / grads["plain"].norm() < 0.05
