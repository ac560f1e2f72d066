"""Spike-for-spike, count-for-count agreement of all backends with a bundle's golden record.

The golden record was written by the trained, quantised SplitModel in SLAYER. Here the torch
executor, Lava `fused` (gated and pipelined), Lava `reference` (stock processes, pipelined), SLAYER
itself where the run's checkpoint is at hand, and lava-dl's own NetX where the edge part is a chain,
run the same input, and every spike, running sum, potential and count is compared with ``==``.
"""

from neucodex_lava.verify.compare import Seen, changed_integers, compare
from neucodex_lava.verify.on_bundle import BACKENDS, verify
from neucodex_lava.verify.report import (
    BackendCheck,
    DatasetCheck,
    Difference,
    NeuronState,
    NeuronStates,
    VerifyReport,
)

__all__ = [
    "BACKENDS",
    "BackendCheck",
    "DatasetCheck",
    "Difference",
    "NeuronState",
    "NeuronStates",
    "Seen",
    "VerifyReport",
    "changed_integers",
    "compare",
    "verify",
]
