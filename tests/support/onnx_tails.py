"""A net in onnxruntime and the same net in the executor. Tests only."""

from __future__ import annotations

import numpy as np
import torch

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.onnx import onnx_tail
from neucodex_lava.cloud.onnx_run import OnnxRun
from neucodex_lava.integer_net import IntegerNet

MODEL = "ab" * 32


def exported(net: IntegerNet) -> OnnxRun:
    return OnnxRun(onnx_tail(net, MODEL, 1.0).model.SerializeToString())


def executor_sums(net: IntegerNet, codes: np.ndarray) -> np.ndarray:
    executor = Executor(net, start=net.cut)
    x = torch.from_numpy(np.moveaxis(codes, -1, 0).copy())
    _, traces = executor.advance(executor.initial_state(), x)
    assert traces.sums is not None
    return np.moveaxis(traces.sums.numpy(), 0, -1)


def assert_same_run(net: IntegerNet, codes: np.ndarray) -> None:
    """Running sums, currents and potentials after every timestep are the executor's.

    Args:
        net: cut where the codes come in.
        codes: (N, C, H, W, T).
    """
    executor, ran = Executor(net, start=net.cut), exported(net)
    heads = {head.name for head in net.exit_heads}
    nodes = [node for node in net.tail_nodes if node.name not in heads]
    state, there = executor.initial_state(), ran.new_state(len(codes))
    for t in range(codes.shape[-1]):
        code = np.ascontiguousarray(codes[..., t])
        state, traces = executor.advance(state, torch.from_numpy(code)[None])
        there, sums = ran.step(there, code, np.full(len(codes), t == 0))
        assert traces.sums is not None
        np.testing.assert_array_equal(sums, traces.sums[0].numpy())
        for i, node in enumerate(nodes):
            kept = state[node.name]
            if f"s{i}_v" in there:
                initial = node.neuron.initial * 64
                np.testing.assert_array_equal(there[f"s{i}_v"] + initial, kept.v)
            if f"s{i}_u" in there:
                np.testing.assert_array_equal(there[f"s{i}_u"], kept.u)
