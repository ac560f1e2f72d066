"""An exported tail run by onnxruntime on the CPU, and compared with what the trained network gave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from neucodex_lava.errors import OverflowInRunError


class OnnxRun:
    """Steps of an exported tail.

    Args:
        model: path of the model, or the model itself as bytes.
        threads: that onnxruntime may use.
    """

    def __init__(self, model: Path | bytes, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        source: Any = model if isinstance(model, bytes) else str(model)
        self._session: Any = onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"]
        )
        self._shapes = {
            i.name: tuple(i.shape[1:]) for i in self._session.get_inputs() if i.name[0] == "s"
        }
        self._shapes.pop("start")
        self._outputs = [o.name for o in self._session.get_outputs()]

    def new_state(self, samples: int = 1) -> dict[str, NDArray[np.float32]]:
        """States of samples that have not begun."""
        return {n: np.zeros((samples, *s), np.float32) for n, s in self._shapes.items()}

    def step(
        self,
        state: dict[str, NDArray[np.float32]],
        codes: NDArray[np.uint8],
        start: NDArray[np.bool_],
    ) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.int64]]:
        """One timestep of N samples, each at its own.

        Args:
            state: of these samples; what it holds of one that starts does not matter.
            codes: (N, C, H, W).
            start: which samples begin, (N,).

        Returns:
            The new state and the running sums, int64 (N, K).

        Raises:
            OverflowInRunError: a sum of one of the samples left the 24-bit range.
        """
        feed = {"code": codes, "start": start[:, None], **state}
        found = dict(zip(self._outputs, self._session.run(self._outputs, feed), strict=True))
        if not found["exact"].all():
            raise OverflowInRunError("a sum left the 24-bit range in the exported tail")
        new = {name: found[f"{name}_next"] for name in state}
        return new, found["sums"].astype(np.int64)


def differences(run: OnnxRun, codes: NDArray[np.uint8], sums: NDArray[np.int64]) -> int:
    """How many of a record's running sums the exported tail gives differently.

    Args:
        codes: of whole samples, (N, C, H, W, T).
        sums: the record's, (N, K, T).
    """
    samples, timesteps = len(codes), codes.shape[-1]
    state = run.new_state(samples)
    wrong = 0
    for t in range(timesteps):
        code = np.ascontiguousarray(codes[..., t])
        state, found = run.step(state, code, np.full(samples, t == 0))
        wrong += int((found != sums[..., t]).sum())
    return wrong
