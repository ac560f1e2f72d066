"""Stock `Conv` keeps groups and geometry in int8: what is wider than that is exact all the same."""

from typing import Any

import numpy as np
import pytest
from against_plain import reference_is_exact
from plain import run_plain

from neucodex_lava.edge.simulation import simulate
from neucodex_lava.edge.stock.chip import run_chip_network
from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import Connection, IntegerNet, Neuron, Node

pytestmark = pytest.mark.lava


def block(channels: int) -> tuple[IntegerNet, np.ndarray]:
    """A residual block of this width: an identity shortcut that waits in a relay, with an exponent."""
    rng = np.random.default_rng(channels)
    shape = (channels, 3, 2)
    bias = rng.integers(-20, 40, channels)

    def link(source: str, kind: Any, weight: Any, exponent: int = 0, **geometry: Any) -> Connection:
        return Connection(source, kind, np.asarray(weight), exponent, **geometry)

    def depthwise() -> np.ndarray:
        return 2 * rng.integers(-60, 61, (channels, 1, 3, 3))

    same: dict[str, Any] = {"padding": (1, 1), "groups": channels}
    nodes = (
        Node("stem", shape, Neuron(4096, 2048, 100), bias, (link("input", "identity", 240),)),
        Node(
            "body",
            shape,
            Neuron(4096, 2048, 90),
            bias,
            (link("stem", "conv", depthwise(), **same),),
        ),
        Node(
            "join",
            shape,
            Neuron(4096, 2048, 320),
            bias,
            (link("body", "conv", depthwise(), **same), link("stem", "identity", 152, 1)),
        ),
    )
    return IntegerNet(shape, nodes, 3, 2), (rng.random((2, *shape, 2)) < 0.5).astype(np.uint8)


@pytest.mark.parametrize("channels", [64, 127, 128, 256, 512])
def test_identities_relays_and_depthwise_convolutions(channels: int) -> None:
    net, inputs = block(channels)
    result = reference_is_exact(net, inputs)
    assert result.output.sum() > channels
    # One relay of the stem, with one synapse per neuron and spike.
    relay, stem = result.ledger.relay, net.node("stem")
    assert relay.dendrite_updates == result.steps * stem.size
    assert relay.syn_ops == relay.axon_out > 0


@pytest.mark.parametrize("channels", [128, 512])
def test_on_the_chip_too(channels: int) -> None:
    net, inputs = block(channels)
    spikes, _, _ = run_plain(net, inputs)
    out, _ = run_chip_network(net, inputs)
    assert np.array_equal(out, spikes["join"])


@pytest.mark.parametrize("what", ["stride", "padding", "dilation", "kernel size"])
def test_geometry_beyond_int8_is_refused(what: str) -> None:
    geometry = {"stride": (1, 128), "padding": (128, 0), "dilation": (130, 1)}
    weight = np.full((1, 1, 2, 200 if what == "kernel size" else 1), 2)
    extra = {what: geometry[what]} if what in geometry else {}
    link = Connection("input", "conv", weight, **extra)
    shape = link.output_shape((1, 200, 200))
    assert shape is not None
    node = Node("far", shape, Neuron(), np.zeros(1, int), (link,))
    net = IntegerNet((1, 200, 200), (node,), 1, 1)
    frames = np.ones((1, 1, 200, 200, 1), np.uint8)
    with pytest.raises(
        ConfigError, match=rf"'far': .*holds its {what} in 8 bits, \d+ is above 127"
    ):
        simulate(net, frames, backend="reference", schedule="pipelined")
