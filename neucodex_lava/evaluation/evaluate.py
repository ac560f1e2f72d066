"""Evaluate configurations: all samples in the executor, some of them for real, compared with ``==``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext

import numpy as np
from numpy.typing import NDArray

from energy.devices import DeviceModel
from host_bridge import serving
from neucodex_lava.cloud.tail import TorchTail
from neucodex_lava.edge.session import EdgeSession
from neucodex_lava.edge.wiring import Schedule
from neucodex_lava.errors import ConfigError
from neucodex_lava.evaluation.agreement import require_agreement
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.evaluation.measured import Measured, connect, run_measured
from neucodex_lava.evaluation.outcome import TwinRuns
from neucodex_lava.evaluation.rows import make_row, with_reductions
from neucodex_lava.exits.fixed import FixedPolicy
from neucodex_lava.exits.oracle import OraclePolicy
from neucodex_lava.exits.policy import ExitPolicy
from neucodex_lava.progress import Progress, silent
from neucodex_lava.report.results import Row

PolicyFor = Callable[[Configuration], ExitPolicy | OraclePolicy]
"""Makes the exit policy of a dynamic configuration (its readout's gain belongs to the policy)."""


def evaluate(
    configurations: Sequence[Configuration],
    inputs: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    policy_for: PolicyFor,
    energy_model: DeviceModel,
    confirm: int,
    schedule: Schedule = "gated",
    twins: TwinRuns | None = None,
    progress: Progress = silent,
) -> list[Row]:
    """One row for each configuration.

    Args:
        configurations: in the order of the rows.
        inputs: encoded test samples, uint8 (N, C, H, W, T).
        labels: their classes, (N,).
        policy_for: the exit policy of dynamic configurations; fixed ones run to T_max.
        energy_model: prices the edge part's counts.
        confirm: how many samples, spread evenly, also run in Lava and over a real socket; their
            answers, timesteps and counts must equal the executor's. The oracle has no real run: it
            looks at labels and at timesteps to come.
        schedule: of the edge parts: ``gated`` or ``pipelined``.
        twins: of these samples, for a caller who wants their runs as well.
        progress: of the executor's batches and the real samples.

    Raises:
        SimulationError: Lava and the executor disagree.
        ConfigError: no samples.
    """
    if len(inputs) == 0:
        raise ConfigError("no samples to evaluate", "choose a larger --samples")
    chosen = np.unique(np.linspace(0, len(inputs) - 1, min(confirm, len(inputs))).astype(int))
    if confirm == 0:
        chosen = chosen[:0]
    twins = twins or TwinRuns(inputs, progress=progress)
    policies: list[ExitPolicy | OraclePolicy] = [
        policy_for(c) if c.dynamic else FixedPolicy(c.net.timesteps) for c in configurations
    ]
    run = [c for c, p in zip(configurations, policies) if not isinstance(p, OraclePolicy)]
    # Lava starts before anything of gRPC: it forks, and a fork does not carry gRPC's threads over.
    with ExitStack() as stack:
        sessions = _open_sessions(stack, run, schedule) if chosen.size else {}
        outcomes = [twins.outcome(c, p, schedule) for c, p in zip(configurations, policies)]
        real: list[Measured | None] = [None] * len(configurations)
        if chosen.size:
            address = _serve(stack, configurations)
            for i, (c, policy) in enumerate(zip(configurations, policies)):
                if isinstance(policy, OraclePolicy):
                    continue
                session = sessions.get(_session_key(c, schedule)) if c.has_edge else None
                title = f"Lava+bridge {c.title}"
                with connect(c, address) if c.has_link else nullcontext() as client:
                    real[i] = run_measured(
                        inputs[chosen], policy, session, client, task=title, progress=progress
                    )
    rows: list[Row] = []
    for c, policy, outcome, measured in zip(configurations, policies, outcomes, real):
        if measured is not None:
            require_agreement(c, outcome, measured, chosen)
        rows.append(make_row(c, outcome, measured, labels, energy_model, policy))
    return with_reductions(rows)


def _open_sessions(
    stack: ExitStack, configurations: Sequence[Configuration], schedule: Schedule
) -> dict[tuple[str, str], EdgeSession]:
    """One Lava session for each different edge part; all before gRPC, after which none may fork."""
    sessions: dict[tuple[str, str], EdgeSession] = {}
    for c in configurations:
        key = _session_key(c, schedule)
        if c.has_edge and key not in sessions:
            session = EdgeSession(c.net, schedule=schedule, keep_ledger=True)
            sessions[key] = stack.enter_context(session)
    return sessions


def _session_key(c: Configuration, schedule: Schedule) -> tuple[str, str]:
    """A pipeline is drained at its configuration's end, so fixed and dynamic ones share none."""
    return c.model_id, c.title if schedule == "pipelined" else ""


def _serve(stack: ExitStack, configurations: Sequence[Configuration]) -> str:
    tails = {
        c.model_id: TorchTail(c.net, c.model_id, c.bundle.readout_gain)
        for c in configurations
        if c.has_link
    }
    return stack.enter_context(serving(tails)) if tails else ""
