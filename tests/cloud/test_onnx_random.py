"""Random tails at the corners of the semantics: onnxruntime and the executor agree, or both refuse."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("hypothesis", reason="the main environment draws the cases")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from net_strategy import cases
from onnx_tails import assert_same_run, executor_sums, exported

from neucodex_lava.cloud.onnx_run import differences
from neucodex_lava.errors import NetError, OverflowInRunError
from neucodex_lava.integer_net import READOUT, Connection, IntegerNet, Node


def with_readout(net: IntegerNet, seed: int) -> IntegerNet:
    """The same network cut at its input, its exit heads left out, ended by a readout."""
    heads = {head.name for head in net.exit_heads}
    nodes = tuple(node for node in net.nodes if node.name not in heads)
    if not net.ends_in_readout:
        weight = 2 * np.random.default_rng(seed).integers(-9, 10, (3, nodes[-1].size))
        link = Connection(nodes[-1].name, "dense", weight.astype(np.int16))
        nodes += (Node("the readout", (3, 1, 1), READOUT, np.zeros(3, int), (link,), 9000),)
    return replace(net, nodes=nodes, cut=0, end="")


@settings(
    max_examples=int(os.environ.get("NEUCODEX_LAVA_EXAMPLES", "8")) * 4,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(case=cases(), seed=st.integers(0, 99))
def test_onnx_and_executor_agree(case: tuple[IntegerNet, np.ndarray], seed: int) -> None:
    net, inputs = with_readout(case[0], seed), case[1]
    try:
        ran = exported(net)
    except NetError as error:
        assert "float32" in str(error)
        return
    try:
        sums = executor_sums(net, inputs)
    except OverflowInRunError:
        with pytest.raises(OverflowInRunError):
            differences(ran, inputs, np.zeros((len(inputs), net.last.size, inputs.shape[-1])))
        return
    assert differences(ran, inputs, sums) == 0
    assert_same_run(net, inputs)
