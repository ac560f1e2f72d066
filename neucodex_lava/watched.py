"""Bounds for nodes whose worst case over all inputs is out of a 24-bit state's reach."""

from __future__ import annotations

from dataclasses import replace

from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import SUM_MAX, Node, check_sums


def watched(node: Node, input_bits: int, timesteps: int) -> Node:
    """The node, with the largest `sum_bound` it can keep where its worst case is out of reach.

    Wide layers that work on the chip reach it in no real run; a run that does fails.

    Raises:
        NetError: not even sums of 0 would fit.
    """
    try:
        check_sums(node, input_bits, timesteps)
        return node
    except NetError:
        bounded = replace(node, sum_bound=0)
        check_sums(bounded, input_bits, timesteps)
    low, high = 0, SUM_MAX
    while low < high:
        middle = (low + high + 1) // 2
        try:
            check_sums(replace(node, sum_bound=middle), input_bits, timesteps)
            low = middle
        except NetError:
            high = middle - 1
    return replace(node, sum_bound=low)
