"""What one configuration did on a set of samples, whoever ran it: executor, or Lava and bridge."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from energy.ledger import Ledger, Overhead
from neucodex_lava.bundle import cuts_of, load_coding
from neucodex_lava.cloud.twin import TwinResult
from neucodex_lava.edge.wiring import Schedule
from neucodex_lava.evaluation.configurations import Configuration
from neucodex_lava.evaluation.pipelined import fed_timesteps, idle_work, unfed_work
from neucodex_lava.evaluation.twin_job import Run, TwinJob, run_here
from neucodex_lava.exits.policy import Exits, OfflinePolicy, decide
from neucodex_lava.progress import Progress, silent


@dataclass(frozen=True, eq=False)
class Outcome:
    """Answers and counts per sample, stopped where the policy stopped.

    Attributes:
        exits: timesteps that were needed, and predictions.
        edge: ledger of the edge part (None when nothing runs there). Pipelined, a sample's own counts
            go on to the last timestep fed, and `outside_window` is that of one run of all samples.
        cloud: ledger of the cloud part (None when nothing runs there, or when it was not counted).
        sums: running sums where each sample stopped, int64 (N, K).
        run_sums: of whole runs, int64 (N, K, T_max).
        unfed: pipelined, the edge part's work in timesteps that were not fed, per sample.
        idle: pipelined, its work while the pipeline fills and drains, once for a run.
        coded_bits, entropy_bits: of the codes sent, mean per sample (`CodedFrames`); None where none
            are, or where nobody counted.
    """

    exits: Exits
    edge: Ledger | None
    cloud: Ledger | None
    sums: NDArray[np.int64] | None = None
    run_sums: NDArray[np.int64] | None = None
    unfed: Ledger | None = None
    idle: Overhead = field(default_factory=Overhead)
    coded_bits: float | None = None
    entropy_bits: float | None = None


class TwinRuns:
    """Each network run once to T_max in the executor; every configuration is read off from that.

    Args:
        inputs: encoded samples, uint8 (N, C, H, W, T).
        run: who runs them; by default this process.
        progress: called as samples finish.
    """

    def __init__(
        self,
        inputs: NDArray[np.uint8],
        *,
        run: Run = run_here,
        progress: Progress = silent,
    ) -> None:
        self.inputs = inputs
        self._run, self._progress = run, progress
        self._done: dict[str, TwinResult] = {}

    def result(self, configuration: Configuration) -> TwinResult:
        """The whole run of the configuration's network, made when first asked for."""
        key = configuration.bundle.sha256
        if key not in self._done:
            bundle = configuration.bundle
            name = bundle.manifest.split or "base"
            coding = {cut: load_coding(bundle, cut) for cut in cuts_of(bundle.manifest)}
            parts: list[TwinResult] = []
            done = 0
            for part in self._run(TwinJob(configuration.net, coding), self.inputs):
                parts.append(part)
                done += len(part.output)
                self._progress(f"executor {name}", done, len(self.inputs))
            self._done[key] = TwinResult.concatenate(parts)
        return self._done[key]

    def outcome(
        self, configuration: Configuration, policy: OfflinePolicy, schedule: Schedule = "gated"
    ) -> Outcome:
        """The configuration under a policy, its edge part run gated or pipelined."""
        result = self.result(configuration)
        assert result.sums is not None, "evaluated networks end in a readout"
        exits = decide(policy, result.sums)
        ran = result.ledger.until(exits.timesteps)
        net = configuration.net
        edge = ran.select([n.name for n in net.edge_nodes]) if configuration.has_edge else None
        cloud = ran.select([n.name for n in net.tail_nodes]) if configuration.has_link else None
        frames = result.frames.get(net.cut)
        sent = frames.until(exits.timesteps) if frames is not None else (None, None)
        stopped = result.sums[np.arange(len(result.sums)), :, exits.timesteps - 1]
        if edge is None or schedule == "gated":
            return Outcome(exits, edge, cloud, stopped, result.sums, None, Overhead(), *sent)
        fed = fed_timesteps(net, exits.timesteps)
        unfed, idle = unfed_work(net, self.inputs, fed), idle_work(net)
        own = result.ledger.until(fed).select([n.name for n in net.edge_nodes])
        edge = replace(own, outside_window=idle + unfed.as_overhead())
        return Outcome(exits, edge, cloud, stopped, result.sums, unfed, idle, *sent)
