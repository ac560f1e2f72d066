"""An exported tail as a model folder of NVIDIA Triton: its sequence batcher keeps the states.

    FOLDER/NAME/config.pbtxt
    FOLDER/NAME/1/model.onnx

A request is one timestep of one sample: input ``code``, outputs ``sums`` and ``exact``. All timesteps
of a session carry its number as correlation id (``sequence_id``). ``sequence_start`` marks the first
timestep of each sample and begins the sequence anew, wherever the sample before was left;
``sequence_end`` marks the session's last request. Triton runs at most one request of a sequence in a
batch, and forgets a sequence that has been idle.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from neucodex_lava.cloud.onnx import OnnxTail
from neucodex_lava.errors import ConfigError
from neucodex_lava.files import replacing

VERSION: Final = "1"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def triton_config(tail: OnnxTail, name: str, max_batch: int = 64, idle_s: float = 60.0) -> str:
    """The text of ``config.pbtxt``.

    On the CPU, where float32 convolutions are exact; those of a GPU transform their input.

    Args:
        tail: what is served.
        name: of the model, and of its folder.
        max_batch: most samples in a batch.
        idle_s: after this long without a request a sequence is forgotten, in seconds.

    Raises:
        ConfigError: a name that is no folder's name, or a number out of range.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"'{name}' cannot name a Triton model", "use letters, digits, '.', '-' and '_'"
        )
    if max_batch < 1 or not idle_s > 0:
        raise ConfigError(f"a batch of {max_batch} and {idle_s} s of idling: both must be positive")

    def tensor(name: str, kind: str, shape: tuple[int, ...]) -> str:
        return f'  {{ name: "{name}" data_type: {kind} dims: {list(shape)} }}'

    states = [
        f'    {{ input_name: "{s.name}" output_name: "{s.out}" data_type: TYPE_FP32'
        f" dims: {list(s.shape)} }}"
        for s in tail.states
    ]
    lines = [
        f'name: "{name}"',
        'backend: "onnxruntime"',
        f"max_batch_size: {max_batch}",
        "input [",
        tensor("code", "TYPE_UINT8", tail.code_shape),
        "]",
        "output [",
        tensor("sums", "TYPE_INT32", (tail.classes,)) + ",",
        tensor("exact", "TYPE_BOOL", (1,)),
        "]",
        "instance_group [ { kind: KIND_CPU count: 1 } ]",
        "sequence_batching {",
        f"  max_sequence_idle_microseconds: {round(idle_s * 1e6)}",
        f"  oldest {{ max_candidate_sequences: {16 * max_batch} }}",
        "  control_input [ {",
        '    name: "start"',
        "    control [ { kind: CONTROL_SEQUENCE_START bool_false_true: [ false, true ] } ]",
        "  } ]",
        *(["  state [", ",\n".join(states), "  ]"] if states else []),
        "}",
    ]
    return "\n".join(lines) + "\n"


def write_triton(tail: OnnxTail, raw: bytes, folder: Path, name: str) -> Path:
    """Write the model's folder into a model repository, the configuration last.

    Args:
        tail: what is served.
        raw: its model in bytes.
        folder: the repository; made where it is missing.
        name: of the model.

    Returns:
        The model's folder.

    Raises:
        ConfigError: as `triton_config`.
    """
    config = triton_config(tail, name)
    version = folder / name / VERSION
    version.mkdir(parents=True, exist_ok=True)
    with replacing(version / "model.onnx") as file:
        file.write(raw)
    with replacing(folder / name / "config.pbtxt") as file:
        file.write(config.encode())
    return folder / name
