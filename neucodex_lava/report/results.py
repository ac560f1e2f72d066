"""What an evaluation found: plain numbers that go to JSON, tables and the HTML page.

Bits, bytes, SynOps, joules and seconds are means per sample.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class LayerRow:
    """Mean counts per sample of one node.

    Attributes:
        name: the node.
        side: ``edge`` (before the cut, counted as chip work) or ``cloud``.
        syn_ops, syn_ops_nonzero, macs, dendrite_updates, spikes_in, axon_out: see the ledger.
        firing_rate: spikes per neuron and timestep run, 0..1.
    """

    name: str
    side: str
    syn_ops: float
    syn_ops_nonzero: float
    macs: float
    dendrite_updates: float
    spikes_in: float
    axon_out: float
    firing_rate: float


@dataclass(frozen=True)
class Row:
    """One configuration at one split point.

    Attributes:
        split: ``SP1`` ..., or None for edge-only and cloud-only.
        configuration: ``F-B``, ``D-B``, ``F+B``, ``D+B`` (fixed or dynamic timesteps, without or
            with the bottleneck), ``edge-only``, ``edge-only dynamic``, ``cloud-only``.
        samples: samples behind accuracy and counts.
        accuracy, accuracy_interval: share correct and its 95 % Wilson interval.
        mean_timesteps: timesteps run per sample.
        raw_bits: payload as the paper sends it, 32-bit floats (modelled).
        packed_bits: payload bit-packed, without headers.
        payload_bits: payload as sent by the codec used.
        wire_bytes: bytes on the wire with all framing, both directions (modelled from messages).
        syn_ops, macs: of the edge part.
        energy_j: edge energy of the counts under the energy model (modelled).
        energy_paper_j: the paper's formula (MACs x firing rate x timesteps x 23 pJ).
        edge_s: the simulator's wall time on the edge, no chip time (measured).
        roundtrip_s, cloud_s: bridge and tail (measured); None where no bridge ran.
        exit_histogram: samples that stopped after 1, 2, ... T_max timesteps.
        code_shape: (C', H', W') crossing the cut per timestep, None for edge-only.
        measured_samples: samples that really went through Lava and the bridge; the timings are
            theirs, and their spikes, counts and answers were compared with the executor's.
        reductions: factors against baselines, e.g. {"edge-only": 2.5, "raw F-B": 180.0}; each names
            its quantity, e.g. "energy vs edge-only", "payload vs packed F-B".
        layers: mean counts per node.
    """

    split: str | None
    configuration: str
    samples: int
    accuracy: float
    accuracy_interval: tuple[float, float]
    mean_timesteps: float
    raw_bits: float
    packed_bits: float
    payload_bits: float
    wire_bytes: float
    syn_ops: float
    macs: float
    energy_j: float
    energy_paper_j: float
    edge_s: float | None
    roundtrip_s: float | None
    cloud_s: float | None
    exit_histogram: list[int]
    code_shape: tuple[int, int, int] | None = None
    measured_samples: int = 0
    reductions: dict[str, float] = field(default_factory=dict)
    layers: list[LayerRow] = field(default_factory=list)


@dataclass(frozen=True)
class Results:
    """A whole evaluation: `rows` in the order they should be shown."""

    dataset: str
    architecture: str
    encoding: str
    seed: int
    t_max: int
    policy: str
    alpha: float
    backend: str
    schedule: str
    energy_model: str
    rows: list[Row]
    versions: dict[str, str] = field(default_factory=dict)
    command: str = ""
    report: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, keys as the command line documents them."""
        return asdict(self)
