"""doctor, bench."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command


@dataclass(frozen=True, kw_only=True)
class Doctor(Command):
    """Check whether this machine is set up, and say what to do where it is not."""

    def run(self) -> int:
        """Check."""
        from neucodex_lava.doctor import render, run_doctor

        report = run_doctor()
        self.output(asdict(report), render(report))
        return 0 if report.ok else 1


@dataclass(frozen=True, kw_only=True)
class Bench(Command):
    """Measure a ratio against a baseline, both in one run."""

    name: Positional[Literal["sim", "executor", "codec", "bridge", "train", "exits"]]
    """sim: Lava fused against stock Lava; executor: the torch executor against its bare convolutions;
    codec: what codes are coded to, against their entropy and against bit-packing; bridge: the bridge
    against a bare gRPC echo; train: a training step against bare convolutions,
    SLAYER, snnTorch and SpikingJelly (the last two after `make peers`); exits: one step of each exit
    policy against its limit."""
    case: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Only this case of sim, executor, codec, bridge or train; may be given more than once."""

    def run(self) -> int:
        """Measure."""
        from neucodex_lava.bench import bench_table, run_bench

        with self.progress() as progress:
            result = run_bench(self.name, progress, self.case)
        self.output(result, bench_table(result))
        return 0
