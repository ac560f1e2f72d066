"""How far the potential of a soft reset can grow, and that a network within the limit never clips."""

from dataclasses import replace

import numpy as np
import pytest
from plain import run_plain

from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import SUM_MAX, Connection, IntegerNet, Neuron, Node
from neucodex_lava.watched import watched

SOFT = Neuron(4096, 0, 101, "subtract", 101)


def node(positive: int, neuron: Neuron = SOFT, bias: int = 0) -> Node:
    """One neuron that all its inputs together drive by `positive`."""
    weight = np.full((1, 131), 254)
    weight[0, -2:] = 0
    weight[0, -2] = positive - 129 * 254
    link = Connection("input", "dense", weight)
    return Node("soft", (1, 1, 1), neuron, np.full(1, bias), (link,))


def net(node: Node, timesteps: int = 4) -> IntegerNet:
    return IntegerNet((131, 1, 1), (node,), 1, timesteps)


def test_the_limit_is_what_a_constant_drive_reaches() -> None:
    # threshold + drive + 3 (drive - threshold): 101 + 32818 + 3 * 32717 = 131070, one spike a timestep.
    most = net(node(32_818))
    inputs = np.ones((1, 131, 1, 1, 4), np.uint8)
    potential = run_plain(most, inputs)[1]["soft"].reshape(-1) >> 6
    assert potential.tolist() == [32_919, 65_636, 98_353, 131_070]
    assert potential[-1] <= SUM_MAX
    with pytest.raises(NetError, match="'soft': the potential of .* subtraction can reach 131078"):
        net(node(32_820))
    # A bias adds to the drive, and another timestep to what is left.
    with pytest.raises(NetError, match="can reach 131074"):
        net(node(32_818, bias=1))
    with pytest.raises(NetError, match="can reach 163787"):
        net(node(32_818), timesteps=5)
    # What resets to zero keeps nothing.
    net(node(32_820, replace(SOFT, reset="zero")))


def test_a_leak_forgets_what_is_left() -> None:
    # Halved each time: threshold + drive + (drive - threshold).
    leaky = replace(SOFT, voltage_decay=2048)
    wide = replace(node(33_000, leaky), sum_bound=65_500)
    assert net(wide, 1000)
    with pytest.raises(NetError, match="can reach 131100"):
        net(replace(wide, sum_bound=65_550), 1000)
    # Below its threshold nothing adds up, however long it runs.
    calm = Neuron(4096, 0, 40_000, "subtract")
    assert net(replace(node(32_818, calm), sum_bound=None), 1)
    positive = Connection("input", "dense", np.full((1, 131), 254))
    assert net(replace(node(32_818, calm), connections=(positive,)), 10_000)


def test_a_negative_start_counts_below() -> None:
    link = Connection("input", "dense", np.full((1, 131), -200))
    low = Neuron(4096, 0, 100, "subtract", -100)
    below = replace(node(32_818, low), connections=(link,))
    assert net(below)
    with pytest.raises(NetError, match="the negative potential can reach 131100"):
        net(below, 5)


def test_a_watched_bound_is_the_largest_that_fits() -> None:
    # Of both signs: below nothing is taken away, so that 4 * 32767 is the least.
    assert watched(node(33_000), 1, 4).sum_bound == 32_767
    leaky = replace(SOFT, voltage_decay=2048, threshold=30_000)
    assert watched(node(33_000, leaky), 1, 1000) == node(33_000, leaky)
    assert watched(node(32_818), 1, 4).sum_bound is None
