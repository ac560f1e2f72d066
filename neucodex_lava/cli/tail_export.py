"""export-tail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro
from tyro.conf import Positional

from neucodex_lava.cli.common import Command


@dataclass(frozen=True, kw_only=True)
class ExportTail(Command):
    """Write a bundle's cloud tail for other servers, once it gives the golden sums bit for bit.

    One timestep per call, its state going in and coming out; needs the extra onnx.
    """

    bundle: Positional[Path]
    """Folder of a bundle (split, or base with --split)."""
    format: Literal["onnx", "triton"] = "onnx"
    """onnx: DIR/tail.onnx; triton: a model folder in the model repository DIR, whose sequence batcher
    keeps each session's state."""
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Where to write it."""
    split: str | None = None
    """Cut a base bundle at this split point; 'input' runs everything in the cloud."""

    def run(self) -> int:
        """Export it."""
        from neucodex_lava.evaluation.export_tail import export_tail

        made = export_tail(self.bundle, self.out, self.format, split=self.split)
        self.output(
            made.to_dict(),
            f"{made.path}: {made.size_bytes / 1e3:.0f} kB, {made.states} states",
            f"onnxruntime gives the golden record's running sums with it: {made.samples} samples,"
            f" {made.timesteps} timesteps, no difference",
        )
        return 0
