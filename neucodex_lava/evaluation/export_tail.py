"""A bundle's cloud tail for other servers, in ONNX or for Triton: proved before it is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from neucodex_lava.bundle import load_bundle
from neucodex_lava.cloud.onnx import onnx_tail
from neucodex_lava.cloud.onnx_run import OnnxRun, differences
from neucodex_lava.cloud.triton import write_triton
from neucodex_lava.errors import NetError
from neucodex_lava.evaluation.configurations import deployment_id
from neucodex_lava.evaluation.serve import cut_bundle
from neucodex_lava.files import replacing

Format = Literal["onnx", "triton"]
FILE = "tail.onnx"


@dataclass(frozen=True)
class ExportedTail:
    """What was written.

    Attributes:
        path: the ONNX file, or the Triton model's folder.
        model: what edge and cloud agree on, 64 hex digits.
        size_bytes: of the ONNX model.
        states: arrays that go from one timestep to the next.
        samples, timesteps: of the golden record, whose running sums onnxruntime gave, every one.
    """

    path: Path
    format: Format
    model: str
    size_bytes: int
    states: int
    samples: int
    timesteps: int

    def to_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self) | {"path": str(self.path), "differences": 0}


def export_tail(
    folder: Path, out: Path, form: Format = "onnx", *, split: str | None = None
) -> ExportedTail:
    """Write the tail of a bundle, once onnxruntime gives the golden record's running sums with it.

    Args:
        folder: of a split bundle, or of a base with `split`.
        out: folder of ``tail.onnx``, or Triton's model repository; made where it is missing.
        form: ``onnx`` or ``triton``.
        split: where a base is cut, ``SP1`` ... or ``input``.

    Raises:
        NetError: the tail cannot be exact in ONNX, or onnxruntime gives other sums with it.
        ConfigError, BundleError: a cut or a bundle that is not possible.
    """
    bundle = load_bundle(folder)
    net, golden = cut_bundle(bundle, split), bundle.golden
    model = deployment_id(bundle, net.cut)
    tail = onnx_tail(net, model, bundle.readout_gain)
    raw: bytes = tail.model.SerializeToString()
    codes = golden.inputs if net.cut == 0 else golden.spikes[net.output]
    wrong = differences(OnnxRun(raw), codes, golden.sums)
    if wrong:
        raise NetError(
            f"onnxruntime gives {wrong} of {golden.sums.size} golden running sums differently with"
            f" the tail of '{folder}': nothing was written",
            "serve it with neucodex serve, and report this",
        )
    if form == "triton":
        m = bundle.manifest
        where = (split or m.split or "base").lower()
        path = write_triton(tail, raw, out, f"{m.architecture}-{m.dataset}-{where}")
    else:
        out.mkdir(parents=True, exist_ok=True)
        path = out / FILE
        with replacing(path) as file:
            file.write(raw)
    states = len(tail.states)
    return ExportedTail(path, form, model, len(raw), states, golden.samples, golden.sums.shape[-1])
