"""The cloud tail as the host bridge takes it: one timestep of one sample, or of many together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neucodex_lava.cloud.executor import Executor
from neucodex_lava.cloud.rows import StateRows
from neucodex_lava.errors import NetError
from neucodex_lava.integer_net import IntegerNet, Shape

if TYPE_CHECKING:
    from host_bridge.codecs import Tables


class TorchTail:
    """Runs the part of a net after its cut; satisfies `host_bridge.Tail` and its `BatchTail`.

    A sample's state is a row of float32 on the device (`StateRows`), its own alone: it is freed with
    the last reference to it, whatever batches it has been in.

    Args:
        net: the whole network, cut where the code leaves the edge; or the tail alone, cut at 0.
        model: what edge and cloud agree on, 64 hex digits: the bundle's sha256, or the deployment id
            of a base that is cut.
        gain: the readout's gain, by which the edge turns running sums into logits.
        device: torch device.
        coding: the bundle's coding tables for this cut; None where it has none.

    Attributes:
        best_batch: samples in a batch that suit the device; the result does not depend on it.
    """

    def __init__(
        self,
        net: IntegerNet,
        model: str,
        gain: float,
        device: str = "cpu",
        *,
        coding: Tables | None = None,
    ) -> None:
        if not net.tail_nodes:
            raise NetError(
                "the network is cut after its last node: nothing is left for the cloud",
                "serve a split bundle, or choose a split point with --split",
            )
        if not net.ends_in_readout:
            raise NetError("the network does not end in a readout, so the cloud has no logits")
        self.model = model
        self.gain = gain
        self.coding = coding
        self.code_shape: Shape = net.code_shape
        self.code_bits = net.code_bits
        self.classes = net.last.size
        self.t_max = net.timesteps
        self._executor = Executor(net, start=net.cut, device=device)
        self._rows = StateRows(self._executor)
        self.best_batch = self._executor.batch_size(timesteps=1)

    def new_state(self) -> Tensor:
        """State at the start of a sample: the same for all of them, and never written to."""
        return self._rows.initial

    def step(self, state: Tensor, code: NDArray[np.uint8]) -> tuple[Tensor, NDArray[np.int64]]:
        """One timestep: code (C, H, W) in, new state and running sums S_t (K,) out."""
        rows, sums = self._advance([state], code[None])
        return rows[0], sums[0]

    def step_batch(
        self, states: Sequence[Tensor], codes: NDArray[np.uint8]
    ) -> tuple[list[Tensor], NDArray[np.int64]]:
        """One timestep of N samples, each at its own: codes (N, C, H, W), sums (N, K).

        The states given are left as they were.

        Raises:
            OverflowInRunError: a synaptic sum of one of the samples left the 24-bit range.
        """
        rows, sums = self._advance(states, codes)
        # Copied: a view would keep the whole batch alive as long as its slowest sample.
        return [row.clone() for row in rows.unbind()], sums

    def _advance(
        self, states: Sequence[Tensor], codes: NDArray[np.uint8]
    ) -> tuple[Tensor, NDArray[np.int64]]:
        x = torch.from_numpy(np.ascontiguousarray(codes))[None]
        initial = self._rows.initial
        if not self._rows.flights and all(state is initial for state in states):
            # The executor has less to do for samples that have no past.
            before = self._executor.initial_state()
        else:
            before = self._rows.read(torch.stack(list(states)))
        state, traces = self._executor.advance(before, x)
        assert traces.sums is not None
        return self._rows.write(state), traces.sums[0].cpu().numpy()
