"""The drop-in gives SLAYER's spikes to the last bit, and its gradients, in SLAYER's own networks."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import neucodex_lava
from neucodex_lava.errors import ConfigError, NetError
from neucodex_lava.models.dropin import accelerate, dynamics, kernels, restore
from neucodex_lava.models.dropin.dynamics import Constants
from neucodex_lava.models.dropin.layout import time_first
from neucodex_lava.models.slayer import block, cuba, norm, synapse


def params(**more: Any) -> dict[str, Any]:
    """Of a neuron, fresh: some of SLAYER's blocks write into them."""
    return {"threshold": 1.0, "current_decay": 1.0, "voltage_decay": 0.5} | more


def spikes(*shape: int, rate: float = 0.4, seed: int = 0) -> Tensor:
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < rate).float()


def clone(module: Any) -> Any:
    """A copy; `copy.deepcopy` cannot make one of a layer with weight norm."""
    return pickle.loads(pickle.dumps(module))


def chain(neuron: dict[str, Any], **options: Any) -> nn.Sequential:
    """All blocks that have a fast way; weights are scaled up so that every layer fires."""
    torch.manual_seed(3)
    return nn.Sequential(
        block.Conv(neuron, 3, 8, 3, padding=1, weight_scale=4, **options),
        block.Pool(neuron, 2, **options),
        block.Conv(neuron, 8, 8, 3, padding=1, stride=2, groups=2, weight_scale=6, **options),
        block.ConvT(neuron, 8, 4, 2, stride=2, weight_scale=6, **options),
        block.Unpool(neuron, 2, weight_scale=1.25, **options),
        block.Flatten(),
        block.Dense(neuron, 4 * 16 * 16, 24, weight_scale=6, **options),
        block.Dense(neuron, 24, 10, weight_scale=6, **options),
    )


def run(net: nn.Module, x: Tensor) -> tuple[list[Tensor], Tensor]:
    """Output of each child, and the last one's."""
    seen: list[Tensor] = []
    hooks = [m.register_forward_hook(lambda _m, _i, o: seen.append(o)) for m in net.children()]
    out: Tensor = net(x)
    for hook in hooks:
        hook.remove()
    return seen, out


def gradients(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Of a random weighting of the output, by parameter, and of the input."""
    x = x.clone().requires_grad_()
    net.zero_grad()
    out: Tensor = net(x)
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    (out * weights.to(out.dtype)).sum().backward()
    found = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    assert x.grad is not None
    return found | {"input": x.grad}


def assert_same(
    stock: nn.Module, fast: nn.Module, x: Tensor, *, learn: bool = True, double: bool = True
) -> None:
    """All spikes equal; all gradients as near to float64's as SLAYER's own are, or nearly.

    Sums over thousands of terms that cancel cannot agree to 1e-6 in float32, whoever does them; so
    SLAYER in float64 is asked what they should be.
    """
    with torch.set_grad_enabled(learn):
        (theirs, out), (ours, _) = run(stock, x), run(fast, x)
    for i, (a, b) in enumerate(zip(theirs, ours)):
        assert torch.equal(a, b), f"child {i}"
    if not learn:
        return
    assert out.abs().mean() > 1e-3
    theirs_, ours_ = gradients(stock, x), gradients(fast, x)
    exact = gradients(clone(stock).double(), x.double()) if double else theirs_
    assert exact.keys() == theirs_.keys() == ours_.keys()
    assert exact["input"].any()
    for name, truth in exact.items():
        their_error, our_error = ((g[name] - truth).abs().max() for g in (theirs_, ours_))
        assert our_error <= 3 * their_error + 3e-6 * truth.abs().max(), name


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "lif": ({}, {}),
    "no delay": ({}, {"delay_shift": False}),
    "current decay": ({"current_decay": 0.25}, {}),
    "odd decays": ({"current_decay": 0.3, "voltage_decay": 0.03}, {}),
    "no leak": ({"voltage_decay": 0.0}, {}),
    "no memory": ({"voltage_decay": 1.0}, {}),
    "learned decays": ({"current_decay": 0.3, "requires_grad": True}, {}),
    "odd scale": ({"current_decay": 0.3, "scale": 48}, {}),
    "mean-only norm": ({"norm": norm.MeanOnlyBatchNorm}, {}),
    "scaling norm": ({"norm": norm.WgtScaleBatchNorm, "current_decay": 0.5}, {}),
    "graded spikes": ({"graded_spike": True}, {}),
    "surrogate": ({"tau_grad": 0.02, "scale_grad": 7}, {}),
    "weight norm": ({}, {"weight_norm": True}),
    "learned delays": ({}, {"delay": True}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_network_gives_slayers_spikes_and_gradients(case: str) -> None:
    neuron, options = CASES[case]
    stock = chain(params(**neuron), **options)
    x = spikes(3, 3, 16, 16, 12)
    stock(x[:1])  # draws the learned delays
    fast = clone(stock)
    report = accelerate(fast)
    assert len(report.replaced) + len(report.left) == 22
    assert not report.left or case == "odd scale"
    for batch in (3, 2):
        assert_same(stock, fast, x[:batch])
    stock.eval()
    fast.eval()
    assert_same(stock, fast, x)
    restore(fast)
    assert [type(m) for m in fast.modules()] == [type(m) for m in stock.modules()]
    assert_same(stock, fast, x[:1])


def test_states_persist_as_slayers_do() -> None:
    stock = chain(params(persistent_state=True, current_decay=0.4))
    fast = clone(stock)
    accelerate(fast)
    with torch.no_grad():
        for i, batch in enumerate((2, 2, 3, 3)):
            assert_same(stock, fast, spikes(batch, 3, 16, 16, 5, seed=i), learn=False)
    for (name, a), (_, b) in zip(stock.named_buffers(), fast.named_buffers()):
        assert torch.equal(a, b), name
        assert a.any(), name


def test_states_left_behind_are_still_used() -> None:
    """SLAYER starts from a state that is there even when `persistent_state` is off again."""
    stock = cuba.Neuron(**params(persistent_state=True))
    stock(spikes(2, 5, 3) * 0.9)
    stock.persistent_state = False
    assert stock.voltage_state.any()
    fast = clone(stock)
    accelerate(fast)
    for x in (spikes(2, 5, 3) * 0.4, spikes(4, 5, 3) * 0.4, spikes(2, 5, 3) * 0.4):
        assert torch.equal(stock(x), fast(x))


@pytest.mark.parametrize("make", [block.Recurrent, block.KWTA, block.Affine])
def test_other_blocks_stay_slayers_around_faster_parts(make: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    more = {"num_winners": 2} if make is block.KWTA else {}
    stock = nn.Sequential(make(params(), 20, 8, weight_scale=5, **more))
    fast = clone(stock)
    report = accelerate(fast)
    assert ("0" in report.left) == (make is not block.Affine)
    for seed in (0, 1):
        x = spikes(3, 20, 6, seed=seed)
        assert_same(stock, fast, x, learn=make is not block.KWTA, double=make is block.Affine)


@pytest.mark.parametrize(("source", "out"), [(1, 8), (8, 1), (1, 1)])
@pytest.mark.parametrize("timesteps", [1, 8])
@pytest.mark.parametrize("kind", ["conv", "conv_transpose", "pool", "unpool"])
def test_single_channels(kind: str, source: int, out: int, timesteps: int) -> None:
    """A channels-last tensor of one channel is a contiguous one too."""
    torch.manual_seed(0)
    neuron = params(tau_grad=0.02)
    first, last = (
        block.ConvT(neuron, c, d, 3, stride=2, weight_scale=9, delay_shift=False)
        if kind == "conv_transpose"
        else block.Conv(neuron, c, d, 3, weight_scale=6, delay_shift=False)
        for c, d in ((2, source), (source, out))
    )
    if kind == "pool":
        last = block.Pool(neuron, 2, delay_shift=False)
    elif kind == "unpool":
        last = block.Unpool(neuron, 2, weight_scale=1.25, delay_shift=False)
    stock = nn.Sequential(first, last)
    fast = clone(stock)
    accelerate(fast)
    assert_same(stock, fast, spikes(2, 2, 10, 10, timesteps))


def test_a_masked_dense_block_and_an_input_block() -> None:
    torch.manual_seed(0)
    mask = spikes(8, 20, rate=0.5, seed=5)
    first = block.Input(params(threshold=0.5), weight=0.75, bias=0.1)
    stock = nn.Sequential(first, block.Dense(params(), 20, 8, weight_scale=16, mask=mask))
    fast = clone(stock)
    accelerate(fast)
    assert_same(stock, fast, torch.rand(3, 20, 6))
    assert fast[0].shape == stock[0].shape == torch.Size([20])


def test_dense_synapses_over_a_map() -> None:
    torch.manual_seed(0)
    stock = nn.Sequential(block.Dense(params(), (6, 5, 3), 8, weight_scale=6))
    fast = clone(stock)
    accelerate(fast)
    assert_same(stock, fast, spikes(3, 3, 5, 6, 6))


def test_real_valued_inputs_and_free_weights_go_slayers_own_way() -> None:
    """Their sums depend on the order of adding, so only SLAYER's own order gives SLAYER's spikes."""
    torch.manual_seed(0)
    stock = nn.Sequential(
        block.Conv(params(), 3, 8, 3, weight_scale=4),
        block.Conv(params(), 8, 8, 3, weight_scale=4, pre_hook_fx=None),
        block.Conv(params(), 8, 8, 3, weight_scale=6),
    )
    fast = clone(stock)
    report = accelerate(fast)
    assert list(report.left) == ["1.synapse"]
    assert "not quantised" in report.left["1.synapse"]
    assert_same(stock, fast, torch.rand(2, 3, 12, 12, 8) * 3)
    counts = torch.randint(0, 200_000, (2, 3, 12, 12, 4)).float()
    assert_same(stock, fast, counts, learn=False)


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_sums_that_depend_on_their_order_are_slayers(size: int) -> None:
    """Real values, and integers whose sums leave float32's exact ones."""
    stock = synapse.Conv(32, 32, 3, pre_hook_fx=cuba.Neuron(**params()).quantize_8bit)
    fast = clone(stock)
    accelerate(fast)
    x = torch.rand(2, 32, 9, 9, 4, generator=torch.Generator().manual_seed(0)) * size
    x = x.floor() if size > 1 else x
    assert torch.equal(stock(x), fast(x))


def test_decays_per_channel_stay_slayers() -> None:
    stock = nn.Sequential(block.Dense(params(shared_param=False), 20, 8, weight_scale=6))
    stock(spikes(1, 20, 2))  # draws the decays
    fast = clone(stock)
    assert "shared_param" in accelerate(fast).left["0.neuron"]
    assert_same(stock, fast, spikes(3, 20, 6))


def test_pooling_that_does_not_divide_the_map_stays_slayers() -> None:
    stock = nn.Sequential(block.Pool(params(), 3, stride=2))
    fast = clone(stock)
    accelerate(fast)
    assert_same(stock, fast, spikes(2, 1, 9, 9, 4), learn=False)
    stock, fast = block.Pool(params(), 2), block.Pool(params(), 2)
    accelerate(fast)
    assert torch.equal(stock(spikes(2, 3, 6, 7, 4)), fast(spikes(2, 3, 6, 7, 4)))


def test_double_precision_stays_slayers() -> None:
    stock = cuba.Neuron(**params())
    fast = clone(stock)
    accelerate(fast)
    x = spikes(2, 5, 3).double() * 0.7
    assert torch.equal(stock(x), fast(x))


def test_states_beyond_float32_are_exact_too() -> None:
    """From 2^24 on the kernel's float32 states would round; SLAYER's are int64."""
    stock = cuba.Neuron(threshold=5000.0, current_decay=0.1, voltage_decay=0.001, scale=64)
    fast = clone(stock)
    accelerate(fast)
    x = torch.randint(-4000, 5001, (2, 50, 8)).float() + torch.rand(2, 50, 8)
    x1, x2 = x.clone().requires_grad_(), x.clone().requires_grad_()
    a, b = stock(x1), fast(x2)
    assert torch.equal(a, b)
    assert 0.1 < a.mean() < 0.9
    assert stock.dynamics(x)[1].abs().max() * stock.s_scale > 1 << 24
    assert all(torch.equal(p, q) for p, q in zip(stock.dynamics(x), fast.dynamics(x)))
    a.sum().backward()
    b.sum().backward()
    assert x1.grad is not None
    assert x2.grad is not None
    assert (x1.grad - x2.grad).abs().max() <= 1e-6 * x1.grad.abs().max()


@pytest.mark.parametrize("current", [False, True])
@pytest.mark.parametrize("stateful", [False, True])
def test_kernels_and_torch_operations_agree(current: bool, stateful: bool) -> None:
    """The torch operations are what a GPU runs."""
    torch.manual_seed(0)
    x = torch.randn(5, 3000) * 2
    c = Constants(0.7 if current else 0.0, 0.93, 2.0 + 1e-6, 4096.0, 1.5, 0.4)
    state = (torch.randn(3000), torch.randn(3000)) if stateful else None
    u, v = (t * c.scale for t in state) if state else (x.new_empty(0), x.new_empty(0))
    (plain, *after), potentials = dynamics._fire_torch(x, u.trunc(), v.trunc(), c)
    assert torch.equal(dynamics.fire(x, state, c)[0], plain)
    for a, b in zip(dynamics.fire(x, state, c)[1:], after):
        assert torch.equal(a, b)
    assert potentials.dtype == torch.float32


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_threads_gives_the_same(threads: int) -> None:
    before = torch.get_num_threads()
    x = torch.randn(3, dynamics.FEW + 77, generator=torch.Generator().manual_seed(0))
    c = Constants(0.5, 0.3, 0.7, 4096.0, 1.0, 0.5)
    try:
        torch.set_num_threads(threads)
        found = dynamics.fire(x, None, c)[0]
    finally:
        torch.set_num_threads(before)
    (expected, *_), _ = dynamics._fire_torch(x, x.new_empty(0), x.new_empty(0), c)
    assert torch.equal(found, expected)


@given(
    st.lists(
        st.one_of(
            st.integers(-(1 << 24), 1 << 24).map(float),
            st.floats(width=32, allow_nan=True, allow_infinity=True),
        ),
        min_size=1,
        max_size=5,
    ),
    st.integers(0, 3 * kernels.TILE),
)
def test_integers_are_told_from_other_values(values: list[float], zeros: int) -> None:
    x = torch.tensor([0.0] * zeros + values)
    whole = all(v == v and abs(v) != float("inf") and v == int(v) for v in values)
    expected = max(abs(v) for v in x.tolist()) if whole else float("inf")
    assert kernels.largest_integer(x.numpy()) == expected


def test_checkpoints_optimisers_and_copies_go_on() -> None:
    stock = chain(params())
    fast = clone(stock)
    before = list(fast.state_dict())
    optimiser = torch.optim.SGD(fast.parameters(), lr=1)
    accelerate(fast, surrogate="sound")
    assert list(fast.state_dict()) == before
    fast.load_state_dict(stock.state_dict())
    x = spikes(2, 3, 16, 16, 12)
    fast(x).sum().backward()
    first = fast[0].synapse.weight.detach().clone()
    optimiser.step()
    assert not torch.equal(first, fast[0].synapse.weight)
    twin = chain(params())
    twin.load_state_dict(fast.state_dict())
    assert torch.equal(fast(x), twin(x))
    assert torch.equal(pickle.loads(pickle.dumps(fast[2]))(fast[:2](x)), fast[:3](x))
    assert accelerate(fast).replaced == accelerate(clone(stock)).replaced


@pytest.mark.parametrize("case", ["lif", "mean-only norm", "weight norm", "learned delays"])
def test_the_exported_file_is_the_same(case: str, tmp_path: Path) -> None:
    neuron, options = CASES[case]
    stock = chain(params(**neuron), **options)
    x = spikes(2, 3, 16, 16, 4)
    stock(x)
    fast = clone(stock)
    accelerate(fast)
    fast.eval()(x)
    found: list[dict[str, Any]] = []
    for name, net in (("stock", stock), ("fast", fast)):
        with h5py.File(tmp_path / name, "w") as file:
            for i, child in enumerate(net.children()):
                child.export_hdf5(file.create_group(f"layer/{i}"))
            content: dict[str, Any] = {}
            file.visititems(
                lambda key, item, content=content: content.update(
                    {key: item[...].tolist()} if isinstance(item, h5py.Dataset) else {}
                )
            )
        found.append(content)
    assert found[0] == found[1]
    assert len(found[0]) > 40


def test_a_sound_surrogate_has_the_thresholds_width_and_unit_area() -> None:
    net = nn.Sequential(block.Dense(params(threshold=1.5), 3, 2))
    accelerate(net, surrogate="sound")
    neuron: Any = net[0].neuron
    x = torch.linspace(-40, 40, 20_001)[None, :, None].requires_grad_()
    neuron(x).sum().backward()
    assert x.grad is not None
    assert x.grad.sum() * 80 / 20_000 == pytest.approx(2.0, rel=1e-3)
    width = (x.grad / x.grad.max() > torch.e**-1).sum() * 80 / 20_000
    assert width == pytest.approx(2 * 1.5, rel=1e-2)


def test_its_own_classes_are_left_alone_and_said_so() -> None:
    class Mine(cuba.Neuron):
        pass

    net = nn.ModuleDict({"mine": Mine(**params()), "theirs": cuba.Neuron(**params())})
    report = accelerate(net)
    assert list(report.replaced) == ["theirs"]
    assert "'Mine'" in report.left["mine"]
    assert "1 modules accelerated, 1 left" in str(report)
    assert type(net["mine"]) is Mine


def test_what_cannot_be_accelerated_is_refused() -> None:
    with pytest.raises(NetError, match="no SLAYER CUBA block"):
        accelerate(nn.Linear(2, 2))
    with pytest.raises(ConfigError, match="no surrogate 'loud'"):
        accelerate(cuba.Neuron(**params()), surrogate="loud")  # type: ignore[arg-type]


def test_memory_between_blocks_is_not_moved() -> None:
    """Between two convolutions, values already lie as the next one reads them."""
    net = nn.Sequential(block.Conv(params(), 3, 8, 3), block.Conv(params(), 8, 8, 3))
    accelerate(net)
    out = net[0](spikes(2, 3, 9, 9, 4))
    assert time_first(out).data_ptr() == out.data_ptr()
    assert isinstance(net[0].synapse, synapse.Conv)


def test_it_is_at_hand_at_the_top() -> None:
    assert neucodex_lava.accelerate is accelerate
