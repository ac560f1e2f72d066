"""What leaves the 24-bit range fails a run of `reference`, in fused's own words; nothing else does."""

from typing import Any

import numpy as np
import pytest
from against_plain import reference_is_exact

from neucodex_lava.edge.simulation import simulate
from neucodex_lava.errors import OverflowInRunError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Neuron, Node

pytestmark = pytest.mark.lava

HEAVY = np.full((2, 1024), 254)


def net_of(neuron: Neuron, *links: Connection) -> IntegerNet:
    """A net whose last node's bound rests on a measured sum that does not hold."""
    stem = Connection("input", "identity", np.array(200))
    wide = Node("wide", (2, 1, 1), neuron, np.array([0, 7]), links, sum_bound=1000)
    shape = (1, 32, 32)
    return IntegerNet(shape, (Node("stem", shape, Neuron(), np.zeros(1, int), (stem,)), wide), 2, 4)


def both_say(net: IntegerNet, inputs: np.ndarray) -> str:
    said: list[str] = []
    for backend, schedule in (("fused", "gated"), ("reference", "pipelined")):
        with pytest.raises(OverflowInRunError) as caught:
            simulate(net, inputs, backend=backend, schedule=schedule)  # type: ignore[arg-type]
        said.append(str(caught.value))
    assert said[0] == said[1]
    return said[1]


def busy(samples: int, *when: tuple[int, int]) -> np.ndarray:
    inputs = np.zeros((samples, 1, 32, 32, 4), np.uint8)
    for sample, t in when:
        inputs[sample, ..., t] = 1
    return inputs


@pytest.mark.parametrize("delay", [0, 2, np.array([[1], [3]])])
def test_delayed_sums(delay: Any) -> None:
    link = Connection("stem", "dense", HEAVY, 1, delay=np.array(delay))
    text = both_say(net_of(Neuron(4096, 2048, 100), link), busy(2, (1, 0)))
    first = 1 + int(np.min(delay))
    assert f"'wide', sample 1, timestep {first}:" in text
    assert " 520192 " in text


def test_sums_of_a_join_and_of_a_current_with_memory() -> None:
    half = Connection("stem", "dense", -HEAVY // 8 * 2)
    again = Connection("input", "dense", -HEAVY // 8 * 2, delay=np.array(1))
    net = net_of(Neuron(100, 2048, 100), half, again)
    assert "'wide', sample 0, timestep 2:" in both_say(net, busy(1, (0, 0), (0, 1), (0, 2)))


def test_a_readout_that_clips_without_a_sum_that_wraps() -> None:
    link = Connection("stem", "dense", HEAVY // 4 * 2)
    text = both_say(net_of(READOUT, link), busy(1, (0, 0), (0, 1), (0, 3)))
    assert "'wide', sample 0, timestep 2:" in text


def test_large_sums_of_different_neurons_are_no_overflow() -> None:
    one, other = np.zeros((2, 2, 1024), int)
    one[0] = other[1] = 126
    links = Connection("stem", "dense", one), Connection("input", "dense", other)
    net = net_of(Neuron(4096, 2048, 100), *links)
    # 129,024 at either neuron, twice that if one mistook them for one.
    reference_is_exact(net, busy(1, (0, 1)))
