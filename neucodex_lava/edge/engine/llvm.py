"""Pieces of LLVM code for kernels whose innermost loops Numba does not turn into vector instructions.

The vectors are LLVM's own, so they exist for every processor. Numba's cache only notices a change of
the file that a cached kernel is written in, so that intrinsics live beside the kernels that use them;
whoever changes this file deletes ``__pycache__``.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

LANES = (16, 32, 64)
"""Output channels worked on at once. 64 int8 weights are one cache line."""
BYTE, PLACE, WORD = ir.IntType(8), ir.IntType(32), ir.IntType(64)


def contiguous(*arrays: Any) -> bool:
    """Whether Numba types stand for C-contiguous arrays, which alone may be read by offset."""
    return all(array.layout == "C" for array in arrays)


def pointer(context: Any, builder: Any, array_type: Any, array: Any, element: Any) -> Any:
    """Pointer to an array's first element, taken as `element`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(data, element.as_pointer())


def load_vector(builder: Any, at: Any, element: Any, lanes: int) -> Any:
    """`lanes` neighbours from a pointer on, at any alignment."""
    many = ir.VectorType(element, lanes)
    return builder.load(builder.bitcast(at, many.as_pointer()), align=1)


def filled(builder: Any, value: Any, lanes: int) -> Any:
    """Vector of one value in all lanes."""
    first = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    first = builder.insert_element(first, value, PLACE(0))
    zeros = ir.Constant(ir.VectorType(PLACE, lanes), [0] * lanes)
    return builder.shuffle_vector(first, first, zeros)
