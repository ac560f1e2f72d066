"""The cloud tail as the host bridge takes it: one sample's state, one timestep at a time."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from neucodex_lava.cloud.executor import Executor, State
from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import IntegerNet, Shape


class TorchTail:
    """Runs the part of a net after its cut; satisfies `host_bridge.Tail`.

    Args:
        net: the whole network, cut where the code leaves the edge; or the tail alone, cut at 0.
        model: what edge and cloud agree on, 64 hex digits: the bundle's sha256, or the deployment id
            of a base that is cut.
        gain: the readout's gain, by which the edge turns running sums into logits.
        device: torch device.
    """

    def __init__(self, net: IntegerNet, model: str, gain: float, device: str = "cpu") -> None:
        if not net.tail_nodes:
            raise NetError(
                "the network is cut after its last node: nothing is left for the cloud",
                "serve a split bundle, or choose a split point with --split",
            )
        if not net.ends_in_readout:
            raise NetError("the network does not end in a readout, so the cloud has no logits")
        self.model = model
        self.gain = gain
        self.code_shape: Shape = net.code_shape
        self.code_bits = net.code_bits
        self.classes = net.last.size
        self.t_max = net.timesteps
        self._executor = Executor(net, start=net.cut, device=device)

    def new_state(self) -> State:
        """State at the start of a sample."""
        return self._executor.initial_state()

    def step(self, state: object, code: NDArray[np.uint8]) -> tuple[State, NDArray[np.int64]]:
        """One timestep: code (C, H, W) in, new state and running sums S_t (K,) out."""
        x = torch.from_numpy(np.ascontiguousarray(code))[None, None]
        new_state, traces = self._executor.advance(state, x)  # type: ignore[arg-type]
        assert traces.sums is not None
        return new_state, traces.sums[0, 0].cpu().numpy()
