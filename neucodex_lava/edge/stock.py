"""How shapes and connections are told to stock Lava processes: axes, order and orientation."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from neucodex_lava.errors import ConfigError
from neucodex_lava.integer_net import Connection, Node, Shape


def whc(shape: Shape) -> tuple[int, int, int]:
    """(C, H, W) as Lava's (W, H, C)."""
    return shape[2], shape[1], shape[0]


def flat_order(shape: Shape) -> NDArray[np.intp]:
    """For each neuron in flattened W H C order, its index in flattened C H W order."""
    return np.arange(int(np.prod(shape))).reshape(shape).transpose(2, 1, 0).reshape(-1)


def conv_arguments(
    connection: Connection, weight: NDArray[Any], source: Shape, node: Node
) -> dict[str, Any]:
    """Arguments of stock `Conv` for a conv or identity connection; `weight` is w * 2^e, as torch's.

    Raises:
        ConfigError: a transposed convolution.
    """
    if connection.kind == "identity":
        return {"weight": np.full((source[0], 1, 1, 1), int(weight)), "groups": source[0]}
    if connection.kind == "conv_transpose":
        raise ConfigError(
            f"node '{node.name}': stock Lava has no transposed convolution",
            "cut the network before the decoder, or simulate it with the backend fused",
        )
    return {
        # Lava convolves where torch correlates, and takes (out, x, y, in).
        "weight": weight[:, :, ::-1, ::-1].transpose(0, 3, 2, 1).copy(),
        "stride": connection.stride[::-1],
        "padding": connection.padding[::-1],
        "dilation": connection.dilation[::-1],
        "groups": connection.groups,
    }
