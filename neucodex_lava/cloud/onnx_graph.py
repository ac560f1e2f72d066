"""What a tail is written with in ONNX: operations, constants, and states between timesteps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET: Final = 17
IR_VERSION: Final = 8
"""Of 2022: what onnxruntime, TensorRT and Triton of the last years all read."""

Values = Mapping[str, tuple[int, tuple[int, ...]]]
"""Type and shape (without N) by name."""


@dataclass(frozen=True)
class State:
    """One array that goes from a timestep to the next.

    Attributes:
        name: of the input.
        shape: without N; (C, H, W), or (depth, C, H, W) for what is in flight on a delayed connection.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def out(self) -> str:
        """Name of the output that is the next step's input."""
        return f"{self.name}_next"


@dataclass
class Graph:
    """A graph as it grows; values go by their names.

    Attributes:
        ops, constants: its nodes and initialisers, as onnx has them.
        states: those read so far.
        start: the input that is true in a sample's first timestep, (N, 1) bool.
    """

    start: str
    ops: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    states: list[State] = field(default_factory=list)

    def op(self, kind: str, *inputs: str, out: str = "", **attributes: Any) -> str:
        """Add an operation; the name of its result, which is `out` where given."""
        name = out or f"t{len(self.ops)}"
        self.ops.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def number(self, value: float) -> str:
        """A float32 scalar."""
        return self.constant(np.array(value, np.float32))

    def integers(self, *values: int) -> str:
        """Int64s in a row: axes, bounds and shapes."""
        return self.constant(np.array(values, np.int64))

    def constant(self, array: NDArray[Any]) -> str:
        """An array."""
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def before(self, state: State) -> str:
        """A state as the timestep before left it; zeros in a sample's first timestep."""
        self.states.append(state)
        first = self.op("Unsqueeze", self.start, self.integers(*range(2, len(state.shape) + 1)))
        return self.op("Where", first, self.number(0.0), state.name)

    def after(self, state: State, value: str) -> None:
        """What the state is for the next timestep."""
        self.op("Identity", value, out=state.out)

    def model(self, inputs: Values, outputs: Values, about: dict[str, Any]) -> Any:
        """The whole as an ONNX model, checked.

        Args:
            inputs, outputs: in order; the states follow them.
            about: kept in the metadata, as JSON under ``neucodex``.
        """
        coming: Values = {s.name: (TensorProto.FLOAT, s.shape) for s in self.states}
        going: Values = {s.out: (TensorProto.FLOAT, s.shape) for s in self.states}

        def described(values: Values) -> list[Any]:
            make = helper.make_tensor_value_info
            return [make(name, kind, ["N", *shape]) for name, (kind, shape) in values.items()]

        made = helper.make_model(
            helper.make_graph(
                self.ops,
                "neucodex-tail",
                described({**inputs, **coming}),
                described({**outputs, **going}),
                self.constants,
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="neucodex-lava",
        )
        helper.set_model_props(made, {"neucodex": json.dumps(about)})
        onnx.checker.check_model(made, full_check=True)
        return made
